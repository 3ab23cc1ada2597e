// Tensor core instructions (PTX ISA 9.0, section 9.7.14): ldmatrix and mma.sync.
#include <array>
#include <cstring>

#include "tests/vgpu/core/access.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"
#include "tests/vgpu/core/tensor.h"

namespace cudream::vgpu {
namespace {

constexpr uint32_t kAddressSlot = 12, kASlot = 4, kBSlot = 8, kCSlot = 10;

bool whole_warp(Warp& w, const Inst& inst) {
  if (!w.synchronise(kFull, inst)) return false;
  if (w.mask != kFull) fault(w, inst, 0, FaultKind::divergence, "a tensor instruction needs all 32 lanes of the warp");
  return true;
}

// Row r of matrix m is the 16 bytes that lane 8 m + r points to. Lane l gets elements 2 (l % 4) and the next of row l / 4;
// with flag (.trans), of column l / 4.
void load_matrices(Warp& w, const Inst& inst) {
  if (!whole_warp(w, inst)) return;
  std::array<uint64_t, kLanes> address;
  gather_addresses(w, inst, inst.reg[kAddressSlot], inst.imm, address);
  SharedMemory& shared = w.block->shared;
  std::array<std::array<uint16_t, 64>, 4> matrix;
  for (uint32_t lane = 0; lane < inst.count * 8u; lane++) {
    const uint32_t offset =
        check_shared(w, inst, lane, inst.space == Space::generic ? address[lane] - kSharedWindow : address[lane], 16);
    report(w, inst, lane, shared.read(w.accessor(lane), offset, 16), offset);
    std::memcpy(&matrix[lane / 8][lane % 8 * 8], shared.data() + offset, 16);
  }
  if (w.block->count_traffic) {
    const Wavefronts n = count_wavefronts(address.data(), inst.count == 4 ? kFull : (1u << inst.count * 8) - 1, 16);
    w.block->counters.shared_wavefronts += n.needed;
    w.block->counters.shared_ideal += n.ideal;
  }
  for (uint32_t m = 0; m < inst.count; m++) {
    uint32_t* out = w.at<uint32_t>(inst.reg[m]);
    if (inst.flag == 0) {
      std::memcpy(out, matrix[m].data(), 128);
      continue;
    }
    for (uint32_t lane = 0; lane < kLanes; lane++) {
      const uint32_t column = lane / 4, row = lane % 4 * 2;
      out[lane] = uint32_t{matrix[m][(row + 1) * 8 + column]} << 16 | matrix[m][row * 8 + column];
    }
  }
}

// mode: steps of k = 8; flag: bfloat16.
void multiply(Warp& w, const Inst& inst) {
  if (!whole_warp(w, inst)) return;
  MmaFragments f{};
  for (uint32_t i = 0; i < 2u * inst.mode; i++) f.a[i] = w.at<uint32_t>(inst.reg[kASlot + i]);
  for (uint32_t i = 0; i < inst.mode; i++) f.b[i] = w.at<uint32_t>(inst.reg[kBSlot + i]);
  for (uint32_t i = 0; i < 4; i++) {
    f.c[i] = w.at<float>(inst.reg[kCSlot + i]);
    f.d[i] = w.at<float>(inst.reg[i]);
  }
  mma_function()(f, inst.mode, inst.flag != 0 ? Brain::yes : Brain::no);
  w.block->counters.mma_flops += 2u * 16 * 8 * 8 * inst.mode;
}

void bind(Decoding& d, uint32_t slot, size_t operand, size_t count, Type type, bool defines) {
  const auto elements = d.elements(operand);
  if (elements.size() != count) d.refuse("a fragment has the wrong number of registers");
  for (uint32_t i = 0; i < count; i++) {
    if (defines) {
      d.def(slot + i, elements[i], type);
    } else {
      d.use(slot + i, elements[i], type);
    }
  }
}

}  // namespace

void decode_ldmatrix(Decoding& d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("m8n8")) d.refuse("only .sync.aligned.m8n8 is known");
  d.inst.count = static_cast<uint8_t>(1u << d.take_one({"x1", "x2", "x4"}));
  d.inst.flag = d.take("trans");
  d.inst.space = take_space(d);
  if (d.inst.space != Space::shared && d.inst.space != Space::generic) d.refuse("ldmatrix reads shared memory");
  if (d.take_type() != Type::b16) d.refuse("ldmatrix is of .b16");
  bind(d, 0, 0, d.inst.count, Type::b32, true);
  d.inst.imm = d.address(kAddressSlot, 1);
  d.emit(&load_matrices);
}

void decode_mma(Decoding& d) {
  if (!d.take("sync") || !d.take("aligned") || !d.take("row") || !d.take("col"))
    d.refuse("only mma.sync.aligned with .row.col is known");
  d.inst.mode = static_cast<uint8_t>(1 + d.take_one({"m16n8k8", "m16n8k16"}));
  const Type result = d.take_type(), a = d.take_type(), b = d.take_type(), c = d.take_type();
  if (result != Type::f32 || c != Type::f32 || a != b || (a != Type::f16 && a != Type::bf16))
    d.refuse("only f16 or bf16 factors with f32 sums are known");
  d.inst.flag = a == Type::bf16;
  bind(d, 0, 0, 4, Type::f32, true);
  bind(d, kASlot, 1, 2u * d.inst.mode, Type::b32, false);
  bind(d, kBSlot, 2, d.inst.mode, Type::b32, false);
  bind(d, kCSlot, 3, 4, Type::f32, false);
  d.emit(&multiply);
}

}  // namespace cudream::vgpu
