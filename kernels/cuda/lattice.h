// The elements of a pointwise verb as kernels walk them: axes joined where all operands allow it.
#pragma once

#include <initializer_list>

#include "kernels/cuda/args.h"

namespace cudream {

// Joins the axes of `views`, all of one shape, that lie behind one another in every one of them, and writes each view's place
// and strides to the operand of the same number. Throws Error(unsupported) beyond 2^31 - 1 elements.
Lattice join_axes(std::initializer_list<View> views, std::initializer_list<Operand*> operands);

// How many neighbours kernels may take at once: runs of four begin at multiples of 16 bytes of f32 and 8 of f16 and bf16, in
// every operand; eight where all are f16 or bf16, 16 bytes; else 1.
int neighbours(const Lattice& lattice, std::initializer_list<const Operand*> operands);

// `value` as the int that kernels count in. Throws Error(unsupported) where it does not fit.
int kernel_int(int64_t value);

}  // namespace cudream
