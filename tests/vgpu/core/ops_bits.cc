// Logic, shifts and bit fields (PTX ISA 9.0, sections 9.7.1 and 9.7.8).
#include <bit>

#include "tests/vgpu/core/handlers.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

struct And {
  template <typename T>
  T operator()(T a, T b) const {
    return a & b;
  }
};
struct Or {
  template <typename T>
  T operator()(T a, T b) const {
    return a | b;
  }
};
struct Xor {
  template <typename T>
  T operator()(T a, T b) const {
    return a ^ b;
  }
};
struct Not {
  template <typename T>
  T operator()(T a) const {
    return static_cast<T>(~a);
  }
};
struct LogicalNot {
  template <typename T>
  T operator()(T a) const {
    return a == 0;
  }
};

template <typename Op>
void on_predicates(Warp& w, const Inst& inst) {
  w.set_predicate(inst.reg[0], Op()(w.predicate(inst.reg[1]), w.predicate(inst.reg[2])));
}

template <typename Op>
void decode_logic(Decoding& d) {
  const Type type = d.take_type();
  if (type == Type::pred) return emit_same(d, type, 2, &on_predicates<Op>);
  emit_same(d, type, 2, with_bits(size_of(type), []<typename T>() -> Handler { return &binary<T, Op>; }));
}

// A shift by the width or more leaves zeros, or copies of the sign.
template <typename T>
void shift_left(Warp& w, const Inst& inst) {
  map_lanes<T, T, uint32_t>(w, inst, [](T a, uint32_t n) { return n < sizeof(T) * 8 ? static_cast<T>(a << n) : T{0}; });
}
template <typename T>
void shift_right(Warp& w, const Inst& inst) {
  map_lanes<T, T, uint32_t>(w, inst, [](T a, uint32_t n) {
    constexpr uint32_t kTop = sizeof(T) * 8 - 1;
    return n <= kTop ? static_cast<T>(a >> n) : std::is_signed_v<T> ? static_cast<T>(a >> kTop) : T{0};
  });
}

template <bool kLeft, bool kWrap>
void funnel(Warp& w, const Inst& inst) {
  map_lanes<uint32_t, uint32_t, uint32_t, uint32_t>(w, inst, [](uint32_t low, uint32_t high, uint32_t n) {
    n = kWrap ? n & 31 : n > 32 ? 32 : n;
    const uint64_t both = uint64_t{high} << 32 | low;
    return static_cast<uint32_t>(kLeft ? both << n >> 32 : both >> n);
  });
}

// Eight bytes of {b, a}; each nibble of the selector picks one, its top bit replicates the byte's sign.
void permute(Warp& w, const Inst& inst) {
  map_lanes<uint32_t, uint32_t, uint32_t, uint32_t>(w, inst, [](uint32_t a, uint32_t b, uint32_t c) {
    const uint64_t bytes = uint64_t{b} << 32 | a;
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++) {
      const uint32_t select = c >> i * 4 & 15;
      uint32_t byte = static_cast<uint32_t>(bytes >> (select & 7) * 8) & 0xff;
      if ((select & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
      out |= byte << i * 8;
    }
    return out;
  });
}

// The byte selectors that the named modes of prmt stand for, by the low two bits of c (PTX ISA 9.0, section 9.7.9.7).
constexpr uint16_t kPermuteModes[6][4] = {{0x3210, 0x4321, 0x5432, 0x6543},   // f4e
                                          {0x5670, 0x6701, 0x7012, 0x0123},   // b4e
                                          {0x0000, 0x1111, 0x2222, 0x3333},   // rc8
                                          {0x3210, 0x3211, 0x3222, 0x3333},   // ecl
                                          {0x0000, 0x1110, 0x2210, 0x3210},   // ecr
                                          {0x1010, 0x3232, 0x1010, 0x3232}};  // rc16
void permute_mode(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    const uint64_t bytes = uint64_t{w.at<uint32_t>(inst.reg[2])[lane]} << 32 | w.at<uint32_t>(inst.reg[1])[lane];
    const uint32_t select = kPermuteModes[inst.mode][w.at<uint32_t>(inst.reg[3])[lane] & 3];
    uint32_t out = 0;
    for (uint32_t i = 0; i < 4; i++) out |= static_cast<uint32_t>(bytes >> (select >> i * 4 & 7) * 8 & 0xff) << i * 8;
    w.at<uint32_t>(inst.reg[0])[lane] = out;
  });
}

void lookup3(Warp& w, const Inst& inst) {
  const auto table = static_cast<uint32_t>(inst.imm);
  map_lanes<uint32_t, uint32_t, uint32_t, uint32_t>(w, inst, [table](uint32_t a, uint32_t b, uint32_t c) {
    uint32_t out = 0;
    for (uint32_t i = 0; i < 8; i++) {
      if ((table >> i & 1) != 0) out |= ((i & 4) != 0 ? a : ~a) & ((i & 2) != 0 ? b : ~b) & ((i & 1) != 0 ? c : ~c);
    }
    return out;
  });
}

template <typename T>
void count_ones(Warp& w, const Inst& inst) {
  map_lanes<uint32_t, T>(w, inst, [](T a) { return static_cast<uint32_t>(std::popcount(a)); });
}
template <typename T>
void count_leading_zeros(Warp& w, const Inst& inst) {
  map_lanes<uint32_t, T>(w, inst, [](T a) { return static_cast<uint32_t>(std::countl_zero(a)); });
}
template <typename T>
void reverse(Warp& w, const Inst& inst) {
  map_lanes<T, T>(w, inst, [](T a) {
    T out = 0;
    for (uint32_t i = 0; i < sizeof(T) * 8; i++) out = static_cast<T>(out << 1 | (a >> i & 1));
    return out;
  });
}
// The highest bit that differs from the sign; ~0 where there is none. flag: how far it lies from the top instead.
template <typename T>
void find_leading(Warp& w, const Inst& inst) {
  const bool distance = inst.flag != 0;
  map_lanes<uint32_t, T>(w, inst, [distance](T a) {
    const auto bits = static_cast<std::make_unsigned_t<T>>(std::is_signed_v<T> && a < 0 ? ~a : a);
    const auto zeros = static_cast<uint32_t>(std::countl_zero(bits));
    if (bits == 0) return ~0u;
    return distance ? zeros : static_cast<uint32_t>(sizeof(T) * 8 - 1) - zeros;
  });
}

template <typename T>
void extract(Warp& w, const Inst& inst) {
  map_lanes<T, T, uint32_t, uint32_t>(w, inst, [](T a, uint32_t position, uint32_t length) {
    constexpr uint32_t kTop = sizeof(T) * 8 - 1;
    using U = std::make_unsigned_t<T>;
    position &= 255;
    length &= 255;
    const uint32_t last = length == 0 ? 0 : std::min(position + length - 1, kTop);
    const bool sign = std::is_signed_v<T> && length != 0 && (static_cast<U>(a) >> last & 1) != 0;
    const U field = position > kTop ? U{0} : static_cast<U>(static_cast<U>(a) >> position);
    const U keep = length > kTop ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << length) - 1);
    // Bits beyond the top of `a` are copies of the sign too.
    const uint32_t have = position > kTop ? 0 : std::min(length, kTop + 1 - position);
    const U low = have > kTop ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << have) - 1);
    return static_cast<T>(sign ? ((field & keep) | static_cast<U>(~low)) : (field & keep));
  });
}
template <typename T>
void insert(Warp& w, const Inst& inst) {
  map_lanes<T, T, T, uint32_t, uint32_t>(w, inst, [](T a, T b, uint32_t position, uint32_t length) {
    constexpr uint32_t kBits = sizeof(T) * 8;
    position &= 255;
    length &= 255;
    if (position >= kBits || length == 0) return b;
    const T field = length >= kBits ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1);
    return static_cast<T>((b & ~(field << position)) | (a & field) << position);
  });
}

}  // namespace

void invert_predicate(Warp& w, const Inst& inst) {
  w.set_predicate(inst.reg[0], ~w.predicate(inst.reg[1]));
}

void decode_and(Decoding& d) {
  decode_logic<And>(d);
}
void decode_or(Decoding& d) {
  decode_logic<Or>(d);
}
void decode_xor(Decoding& d) {
  decode_logic<Xor>(d);
}

void decode_not(Decoding& d) {
  const Type type = d.take_type();
  if (type == Type::pred) return emit_same(d, type, 1, &invert_predicate);
  emit_same(d, type, 1, with_bits(size_of(type), []<typename T>() -> Handler { return &unary<T, Not>; }));
}

void decode_cnot(Decoding& d) {
  const Type type = d.take_type();
  emit_same(d, type, 1, with_bits(size_of(type), []<typename T>() -> Handler { return &unary<T, LogicalNot>; }));
}

void decode_shl(Decoding& d) {
  const Type type = d.take_type();
  d.def(0, 0, type);
  d.use(1, 1, type);
  d.use(2, 2, Type::u32);
  d.emit(with_bits(size_of(type), []<typename T>() -> Handler { return &shift_left<T>; }));
}

void decode_shr(Decoding& d) {
  const Type type = d.take_type();
  d.def(0, 0, type);
  d.use(1, 1, type);
  d.use(2, 2, Type::u32);
  d.emit(with_integer(type, []<typename T>() -> Handler { return &shift_right<T>; }));
}

void decode_shf(Decoding& d) {
  const bool right = d.take_one({"l", "r"}) == 1, clamp = d.take_one({"wrap", "clamp"}) == 1;
  const Type type = d.take_type();
  if (type != Type::b32) d.refuse("shf is of .b32");
  emit_same(d, type, 3,
            right   ? clamp ? &funnel<false, false> : &funnel<false, true>
              : clamp ? &funnel<true, false>
                    : &funnel<true, true>);
}

void decode_prmt(Decoding& d) {
  const Type type = d.take_type();
  if (type != Type::b32) d.refuse("prmt is of .b32");
  for (const std::string_view mode : {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"}) {
    if (d.take(mode)) return emit_same(d, type, 3, &permute_mode);
    d.inst.mode++;
  }
  emit_same(d, type, 3, &permute);
}

void decode_lop3(Decoding& d) {
  const Type type = d.take_type();
  if (type != Type::b32) d.refuse("lop3 is of .b32");
  d.inst.imm = d.immediate(4);
  emit_same(d, type, 3, &lookup3);
}

void decode_popc(Decoding& d) {
  const Type type = d.take_type();
  d.def(0, 0, Type::u32);
  d.use(1, 1, type);
  d.emit(size_of(type) == 8 ? &count_ones<uint64_t> : &count_ones<uint32_t>);
}

void decode_clz(Decoding& d) {
  const Type type = d.take_type();
  d.def(0, 0, Type::u32);
  d.use(1, 1, type);
  d.emit(size_of(type) == 8 ? &count_leading_zeros<uint64_t> : &count_leading_zeros<uint32_t>);
}

void decode_brev(Decoding& d) {
  const Type type = d.take_type();
  emit_same(d, type, 1, size_of(type) == 8 ? &reverse<uint64_t> : &reverse<uint32_t>);
}

void decode_bfind(Decoding& d) {
  d.inst.flag = d.take("shiftamt");
  const Type type = d.take_type();
  d.def(0, 0, Type::u32);
  d.use(1, 1, type);
  d.emit(with_integer(type, []<typename T>() -> Handler { return &find_leading<T>; }));
}

void decode_bfe(Decoding& d) {
  const Type type = d.take_type();
  d.def(0, 0, type);
  d.use(1, 1, type);
  d.use(2, 2, Type::u32);
  d.use(3, 3, Type::u32);
  d.emit(with_integer(type, []<typename T>() -> Handler { return sizeof(T) < 4 ? nullptr : &extract<T>; }));
}

void decode_bfi(Decoding& d) {
  const Type type = d.take_type();
  d.def(0, 0, type);
  d.use(1, 1, type);
  d.use(2, 2, type);
  d.use(3, 3, Type::u32);
  d.use(4, 4, Type::u32);
  d.emit(size_of(type) == 8 ? &insert<uint64_t> : &insert<uint32_t>);
}

}  // namespace cudream::vgpu
