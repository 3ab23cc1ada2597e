// Extended-precision arithmetic (PTX ISA 9.0, section 9.7.2): add.cc, addc, sub.cc, subc, mad.cc, madc.
// The carry flag of each lane lives in a predicate register under a name no program can use.
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

constexpr uint32_t kCarrySlot = 4;
constexpr uint8_t kReads = 1, kWrites = 2;  // bits of Inst::mode

template <typename T, bool kSubtract>
void sum(Warp& w, const Inst& inst) {
  uint32_t carry = w.predicate(inst.reg[kCarrySlot]);
  const uint32_t before = (inst.mode & kReads) != 0 ? carry : 0;
  each_lane(w, [&](uint32_t lane) {
    const T a = w.at<T>(inst.reg[1])[lane], b = w.at<T>(inst.reg[2])[lane], in = before >> lane & 1;
    const uint128 total = kSubtract ? static_cast<uint128>(a) - b - in : static_cast<uint128>(a) + b + in;
    w.at<T>(inst.reg[0])[lane] = static_cast<T>(total);
    const auto out = static_cast<uint32_t>(total >> sizeof(T) * 8 & 1);
    carry = (carry & ~(1u << lane)) | out << lane;
  });
  if ((inst.mode & kWrites) != 0) w.predicate(inst.reg[kCarrySlot]) = carry;
}

// flag 1: the high half of the product.
template <typename T, typename Wide>
void product_sum(Warp& w, const Inst& inst) {
  uint32_t carry = w.predicate(inst.reg[kCarrySlot]);
  const uint32_t before = (inst.mode & kReads) != 0 ? carry : 0;
  each_lane(w, [&](uint32_t lane) {
    const auto product = static_cast<Wide>(static_cast<Wide>(w.at<T>(inst.reg[1])[lane]) * w.at<T>(inst.reg[2])[lane]);
    const auto half = static_cast<std::make_unsigned_t<T>>(inst.flag != 0 ? product >> sizeof(T) * 8 : product);
    const auto c = static_cast<std::make_unsigned_t<T>>(w.at<T>(inst.reg[3])[lane]);
    const uint128 total = static_cast<uint128>(half) + c + (before >> lane & 1);
    w.at<T>(inst.reg[0])[lane] = static_cast<T>(total);
    carry = (carry & ~(1u << lane)) | static_cast<uint32_t>(total >> sizeof(T) * 8 & 1) << lane;
  });
  if ((inst.mode & kWrites) != 0) w.predicate(inst.reg[kCarrySlot]) = carry;
}

void bind_carry(Decoding& d, bool reads, bool writes) {
  d.inst.mode = static_cast<uint8_t>((reads ? kReads : 0) | (writes ? kWrites : 0));
  d.inst.reg[kCarrySlot] = d.builder().carry();
  d.inst.uses |= 1u << kCarrySlot;
  if (writes) d.inst.defs |= 1u << kCarrySlot;
}

template <bool kSubtract>
void decode_carry_sum(Decoding& d, bool reads) {
  const bool writes = d.take("cc");
  const Type type = d.take_type();
  bind_carry(d, reads, writes);
  emit_same(d, type, 2,
            size_of(type) == 4   ? Handler{&sum<uint32_t, kSubtract>}
            : size_of(type) == 8 ? Handler{&sum<uint64_t, kSubtract>}
                                 : nullptr);
}

void decode_carry_product(Decoding& d, bool reads) {
  const bool writes = d.take("cc");
  const Type type = d.take_type();
  d.inst.flag = d.take_one({"lo", "hi"});
  bind_carry(d, reads, writes);
  Handler run = nullptr;
  if (type == Type::u32) run = &product_sum<uint32_t, uint64_t>;
  if (type == Type::s32) run = &product_sum<int32_t, int64_t>;
  if (type == Type::u64) run = &product_sum<uint64_t, uint128>;
  if (type == Type::s64) run = &product_sum<int64_t, int128>;
  emit_same(d, type, 3, run);
}

}  // namespace

void decode_addc(Decoding& d) {
  decode_carry_sum<false>(d, true);
}
void decode_subc(Decoding& d) {
  decode_carry_sum<true>(d, true);
}
void decode_add_cc(Decoding& d) {
  decode_carry_sum<false>(d, false);
}
void decode_sub_cc(Decoding& d) {
  decode_carry_sum<true>(d, false);
}

void decode_madc(Decoding& d) {
  decode_carry_product(d, true);
}
void decode_mad_cc(Decoding& d) {
  decode_carry_product(d, false);
}

}  // namespace cudream::vgpu
