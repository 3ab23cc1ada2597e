// Branches, returns and barriers (PTX ISA 9.0, sections 9.7.12 and 9.7.13).
#include "tests/vgpu/core/handlers.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

constexpr uint8_t kSync = 0, kPopc = 1, kAnd = 2;  // Inst::mode of a barrier; 3 is or

void branch(Warp& w, const Inst& inst) {
  w.jump(static_cast<uint32_t>(inst.imm));
}
void finish(Warp& w, const Inst&) {
  w.retire();
}
void trap(Warp& w, const Inst& inst) {
  fault(w, inst, static_cast<uint32_t>(__builtin_ctz(w.mask)), FaultKind::illegal_instruction, "trap");
}

// The warp stops here; when all warps have come, the block goes on (launch.cc).
void wait_at_barrier(Warp& w, const Inst& inst) {
  if (!w.synchronise(kFull, inst)) return;
  w.barrier_vote = inst.mode == kSync ? 0 : w.predicate(inst.reg[1]);
  w.at_barrier = w.stop = true;
  w.barrier_pc = w.pc - 1;
  w.barrier_id = static_cast<uint32_t>(inst.imm);
}

void synchronise_warp(Warp& w, const Inst& inst) {
  w.synchronise(w.at<uint32_t>(inst.reg[0])[__builtin_ctz(w.mask)], inst);
}

}  // namespace

bool is_jump(const Inst& inst) {
  return inst.run == &branch;
}

void decode_bra(Decoding& d) {
  d.take("uni");
  d.builder().jump_to(d.operand(0).text);
  d.emit(&branch);
}

void decode_ret(Decoding& d) {
  d.take("uni");
  d.emit(&finish);
}

void decode_trap(Decoding& d) {
  d.emit(&trap);
}

// Who sleeps lets others have their turn, for however long.
void decode_nanosleep(Decoding& d) {
  d.ignore({"u32"});
  d.emit([](Warp& w, const Inst&) { w.stop = true; });
}

void decode_bar(Decoding& d) {
  d.ignore({"aligned", "cta"});
  if (d.take("warp")) {
    d.take("sync");
    d.use(0, 0, Type::u32);
    return d.emit(&synchronise_warp);
  }
  const bool reduces = d.take("red");
  if (!reduces) {
    if (!d.take("sync")) d.refuse("only bar.sync, bar.red and bar.warp.sync are known");
    if (d.operands() > 1) d.refuse("barriers of a part of the block are not known");
    d.inst.imm = d.immediate(0);
    return d.emit(&wait_at_barrier);
  }
  d.inst.mode = static_cast<uint8_t>(1 + d.take_one({"popc", "and", "or"}));
  const Type type = d.take_type();
  if (d.operands() > 3) d.refuse("barriers of a part of the block are not known");
  if ((d.inst.mode == kPopc) != (type == Type::u32)) d.refuse("the type does not fit the reduction");
  d.inst.imm = d.immediate(1);
  d.def(0, 0, type);
  d.use(1, 2, Type::pred);
  d.emit(&wait_at_barrier);
}

// What bar.red gives every thread, from the votes of all warps (PTX ISA 9.0, section 9.7.13.1).
void finish_reduction(Block& block) {
  const Inst* inst = nullptr;
  uint32_t votes = 0, threads = 0;
  for (const Warp& w : block.warps) {
    if (w.done) continue;
    inst = &block.program->code[w.barrier_pc];
    votes += static_cast<uint32_t>(__builtin_popcount(w.barrier_vote & w.active));
    threads += static_cast<uint32_t>(__builtin_popcount(w.active));
  }
  if (inst == nullptr || inst->mode == kSync) return;
  for (Warp& w : block.warps) {
    if (w.done) continue;
    if (inst->mode == kPopc) {
      for (uint32_t lane = 0; lane < kLanes; lane++) {
        if ((w.active >> lane & 1) != 0) w.at<uint32_t>(inst->reg[0])[lane] = votes;
      }
    } else {
      const bool result = inst->mode == kAnd ? votes == threads : votes != 0;
      uint32_t& p = w.predicate(inst->reg[0]);
      p = (p & ~w.active) | (result ? w.active : 0);
    }
  }
}

}  // namespace cudream::vgpu
