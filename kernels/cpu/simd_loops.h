// The loops of one instruction set, which simd_table.cc gathers into its Kernels.
#pragma once

#include "kernels/cpu/kernels.h"

namespace cudream::CUDREAM_ISA {

void convert(Out, In, int64_t n);
void act(Out, In, int64_t n, Act);
void multiply(Out, In a, In b, int64_t n);
void geglu(Out, In value, In gate, int64_t n);
void finish(Out, In y, const Finish&, int64_t n);
void lerp(float* out, const float* a, const float* b, const float* weight, int64_t n);
void combine(float* out, const float* const* x, const float* scale, int terms, int64_t n);
void layer_norm(Out, In, const float* gain, const float* bias, float eps, int64_t channels);
void channel_sums(double* sum, double* square, In x, const float* pivot, int64_t rows, int64_t channels);
void normalize(Out, In x, const float* middle, const float* scale, const float* shift, int64_t rows, int64_t channels, Act);
extern const AttentionKernels kAttentionF32;
extern const TileKernels kTiles;               // defined with AMX
extern const AttentionKernels kAttentionBf16;  // defined where bf16 is computed

}  // namespace cudream::CUDREAM_ISA
