// Handlers that more than one decoder uses.
#pragma once

#include "tests/vgpu/core/program.h"

namespace cudream::vgpu {

struct Block;

// reg[0] = reg[1] at another width in bytes (2, 4, 8), by sign or by zeros, or cut off.
Handler widening(uint32_t from, uint32_t to, bool with_sign);
Handler narrowing(uint32_t from, uint32_t to);
// reg[0] = !reg[1], predicates.
void invert_predicate(Warp& w, const Inst& inst);

// Whether an instruction is a branch to code[imm].
bool is_jump(const Inst& inst);
// What bar.red gives each thread, once all warps of the block stand at the barrier.
void finish_reduction(Block& block);

}  // namespace cudream::vgpu
