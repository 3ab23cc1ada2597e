// Moves, packing and address conversion (PTX ISA 9.0, section 9.7.9).
#include "tests/vgpu/core/handlers.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

struct Same {
  template <typename T>
  T operator()(T a) const {
    return a;
  }
};

void move_predicate(Warp& w, const Inst& inst) {
  w.set_predicate(inst.reg[0], w.predicate(inst.reg[1]));
}

// Parts in reg[1...], the lowest first.
template <typename Whole, typename Part>
void pack(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    Whole out = 0;
    for (uint32_t i = 0; i < sizeof(Whole) / sizeof(Part); i++)
      out |= static_cast<Whole>(Whole{w.at<Part>(inst.reg[1 + i])[lane]} << i * sizeof(Part) * 8);
    w.at<Whole>(inst.reg[0])[lane] = out;
  });
}
template <typename Whole, typename Part>
void unpack(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    const Whole in = w.at<Whole>(inst.reg[8])[lane];
    for (uint32_t i = 0; i < sizeof(Whole) / sizeof(Part); i++)
      w.at<Part>(inst.reg[i])[lane] = static_cast<Part>(in >> i * sizeof(Part) * 8);
  });
}

Type part_type(uint32_t bytes) {
  return bytes == 2 ? Type::b16 : Type::b32;
}

void decode_pack(Decoding& d, Type type) {
  const auto parts = d.elements(1);
  const uint32_t bytes = size_of(type) / static_cast<uint32_t>(parts.size());
  d.def(0, 0, type);
  for (uint32_t i = 0; i < parts.size(); i++) d.use(1 + i, parts[i], part_type(bytes));
  d.emit(size_of(type) == 4 ? bytes == 2 ? Handler{&pack<uint32_t, uint16_t>} : nullptr
         : bytes == 4       ? &pack<uint64_t, uint32_t>
         : bytes == 2       ? Handler{&pack<uint64_t, uint16_t>}
                            : nullptr);
}

void decode_unpack(Decoding& d, Type type) {
  const auto parts = d.elements(0);
  const uint32_t bytes = size_of(type) / static_cast<uint32_t>(parts.size());
  for (uint32_t i = 0; i < parts.size(); i++) d.def(i, parts[i], part_type(bytes));
  d.use(8, 1, type);
  d.emit(size_of(type) == 4 ? bytes == 2 ? Handler{&unpack<uint32_t, uint16_t>} : nullptr
         : bytes == 4       ? &unpack<uint64_t, uint32_t>
         : bytes == 2       ? Handler{&unpack<uint64_t, uint16_t>}
                            : nullptr);
}

// The window of a state space is added or taken away.
void to_generic(Warp& w, const Inst& inst) {
  const uint64_t window = static_cast<uint64_t>(inst.imm);
  map_lanes<uint64_t, uint64_t>(w, inst, [window](uint64_t a) { return a + window; });
}

uint64_t take_window(Decoding& d) {
  if (d.take("shared") || d.take("shared::cta")) return kSharedWindow;
  if (d.take("local")) return kLocalWindow;
  if (d.take("param") || d.take("param::entry")) return kParamWindow;
  if (!d.take("global") && !d.take("const")) d.refuse("a state space is missing");
  return 0;
}

void is_in_window(Warp& w, const Inst& inst) {
  const auto window = static_cast<uint64_t>(inst.imm);
  uint32_t bits = 0;
  each_lane(w, [&](uint32_t lane) {
    const uint64_t a = w.at<uint64_t>(inst.reg[1])[lane];
    const bool inside = window == 0 ? a >= kParamWindow + kWindowBytes : a - window < kWindowBytes;
    bits |= static_cast<uint32_t>(inside) << lane;
  });
  w.set_predicate(inst.reg[0], bits);
}

}  // namespace

void decode_mov(Decoding& d) {
  const Type type = d.take_type();
  if (type == Type::pred) return emit_same(d, type, 1, &move_predicate);
  if (d.operand(1).kind == ptx::Operand::Kind::list) return decode_pack(d, type);
  if (d.operand(0).kind == ptx::Operand::Kind::list) return decode_unpack(d, type);
  emit_same(d, type, 1, with_bits(size_of(type), []<typename T>() -> Handler { return &unary<T, Same>; }));
}

void decode_cvta(Decoding& d) {
  const bool to_space = d.take("to");
  const uint64_t window = take_window(d);
  const Type type = d.take_type();
  if (type != Type::u64) d.refuse("only 64-bit addresses are known");
  d.inst.imm = static_cast<int64_t>(to_space ? ~window + 1 : window);
  emit_same(d, type, 1, &to_generic);
}

void decode_isspacep(Decoding& d) {
  d.inst.imm = static_cast<int64_t>(take_window(d));
  d.def(0, 0, Type::pred);
  d.use(1, 1, Type::u64);
  d.emit(&is_in_window);
}

}  // namespace cudream::vgpu
