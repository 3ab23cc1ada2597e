// Integer arithmetic (PTX ISA 9.0, section 9.7.1). Sums and products wrap, so they are computed unsigned.
#include <cstdint>

#include "tests/vgpu/core/floating.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

template <typename T>
using Unsigned = std::make_unsigned_t<T>;

template <typename T>
struct Twice;
template <>
struct Twice<uint16_t> {
  using Wide = uint32_t;
};
template <>
struct Twice<int16_t> {
  using Wide = int32_t;
};
template <>
struct Twice<uint32_t> {
  using Wide = uint64_t;
};
template <>
struct Twice<int32_t> {
  using Wide = int64_t;
};
template <>
struct Twice<uint64_t> {
  using Wide = uint128;
};
template <>
struct Twice<int64_t> {
  using Wide = int128;
};
template <typename T>
using Wide = typename Twice<T>::Wide;

struct Add {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a + b);
  }
};
struct Sub {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a - b);
  }
};
struct MulLow {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<uint64_t>(a) * b);
  }
};
struct MulHigh {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(static_cast<Wide<T>>(a) * b >> sizeof(T) * 8);
  }
};
struct MadLow {
  template <typename T>
  T operator()(T a, T b, T c) const {
    return static_cast<T>(static_cast<uint64_t>(a) * b + c);
  }
};
struct MadHigh {
  template <typename T>
  T operator()(T a, T b, T c) const {
    return static_cast<T>(static_cast<Unsigned<T>>(MulHigh()(a, b)) + static_cast<Unsigned<T>>(c));
  }
};
// What a division by zero gives is unspecified; the hardware's answer is all ones, and the dividend for the remainder.
struct Div {
  template <typename T>
  T operator()(T a, T b) const {
    if (b == 0) return static_cast<T>(-1);
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return static_cast<T>(Unsigned<T>{0} - static_cast<Unsigned<T>>(a));
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <typename T>
  T operator()(T a, T b) const {
    if (b == 0) return a;
    if (std::is_signed_v<T> && b == static_cast<T>(-1)) return 0;
    return static_cast<T>(a % b);
  }
};
struct Min {
  template <typename T>
  T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};
struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};
struct Neg {
  template <typename T>
  T operator()(T a) const {
    return static_cast<T>(Unsigned<T>{0} - static_cast<Unsigned<T>>(a));
  }
};
struct Abs {
  template <typename T>
  T operator()(T a) const {
    return a < 0 ? Neg()(a) : a;
  }
};
struct Sad {
  template <typename T>
  T operator()(T a, T b, T c) const {
    const Unsigned<T> distance = a > b ? static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b)
                                       : static_cast<Unsigned<T>>(b) - static_cast<Unsigned<T>>(a);
    return static_cast<T>(distance + static_cast<Unsigned<T>>(c));
  }
};

template <typename T>
void mul_wide(Warp& w, const Inst& inst) {
  map_lanes<Wide<T>, T, T>(w, inst, [](T a, T b) { return static_cast<Wide<T>>(static_cast<Wide<T>>(a) * b); });
}
template <typename T>
void mad_wide(Warp& w, const Inst& inst) {
  using W = std::make_unsigned_t<Wide<T>>;
  map_lanes<W, T, T, W>(w, inst, [](T a, T b, W c) { return static_cast<W>(static_cast<W>(static_cast<Wide<T>>(a) * b) + c); });
}

// Sums clamped to the range of s32.
template <bool kSubtract>
void add_saturated(Warp& w, const Inst& inst) {
  map_lanes<int32_t, int32_t, int32_t>(w, inst, [](int32_t a, int32_t b) {
    const int64_t sum = kSubtract ? int64_t{a} - b : int64_t{a} + b;
    return static_cast<int32_t>(sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : sum);
  });
}

// The low 24 bits of each factor.
template <typename T, bool kAdd, bool kHigh>
void mul24(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    const auto cut = [](T v) {
      return std::is_signed_v<T> ? static_cast<int64_t>(static_cast<uint32_t>(v) << 8) << 32 >> 40
                                 : int64_t{static_cast<uint32_t>(v) & 0xffffffu};
    };
    const int64_t product = cut(w.at<T>(inst.reg[1])[lane]) * cut(w.at<T>(inst.reg[2])[lane]) >> (kHigh ? 16 : 0);
    w.at<uint32_t>(inst.reg[0])[lane] = static_cast<uint32_t>(product) + (kAdd ? w.at<uint32_t>(inst.reg[3])[lane] : 0);
  });
}

template <typename A, typename B>
void dp4a(Warp& w, const Inst& inst) {
  map_lanes<uint32_t, uint32_t, uint32_t, uint32_t>(w, inst, [](uint32_t a, uint32_t b, uint32_t c) {
    for (int i = 0; i < 32; i += 8) c += static_cast<uint32_t>(int32_t{static_cast<A>(a >> i)} * int32_t{static_cast<B>(b >> i)});
    return c;
  });
}

template <typename Op>
void emit_binary(Decoding& d, Type type) {
  emit_same(d, type, 2, with_integer(type, []<typename T>() -> Handler { return &binary<T, Op>; }));
}
template <typename Op>
void emit_wrapping(Decoding& d, Type type) {
  emit_same(d, type, 2,
            is_float(type) ? nullptr : with_bits(size_of(type), []<typename T>() -> Handler { return &binary<T, Op>; }));
}

// The float form when the type is one; otherwise the integer form of `Op`.
template <typename Op>
void decode_either(Decoding& d, FloatOp op) {
  const Type type = d.take_type();
  if (is_float(type)) return decode_float(d, op, type);
  emit_binary<Op>(d, type);
}

template <bool kSubtract>
void decode_sum(Decoding& d) {
  if (d.has("cc")) return kSubtract ? decode_sub_cc(d) : decode_add_cc(d);
  const Type type = d.take_type();
  if (is_float(type)) return decode_float(d, kSubtract ? FloatOp::sub : FloatOp::add, type);
  if (d.take("sat")) return emit_same(d, type, 2, type == Type::s32 ? &add_saturated<kSubtract> : nullptr);
  using Op = std::conditional_t<kSubtract, Sub, Add>;
  emit_wrapping<Op>(d, type);
}

template <bool kAdd>
void decode_24(Decoding& d) {
  const bool high = d.take_one({"lo", "hi"}) == 1;
  const Type type = d.take_type();
  Handler run = nullptr;
  if (type == Type::s32) run = high ? &mul24<int32_t, kAdd, true> : &mul24<int32_t, kAdd, false>;
  if (type == Type::u32) run = high ? &mul24<uint32_t, kAdd, true> : &mul24<uint32_t, kAdd, false>;
  emit_same(d, type, kAdd ? 3 : 2, run);
}

Type twice(Type type) {
  switch (type) {
    case Type::u16: return Type::u32;
    case Type::s16: return Type::s32;
    case Type::u32: return Type::u64;
    default: return Type::s64;
  }
}

}  // namespace

void decode_add(Decoding& d) {
  decode_sum<false>(d);
}
void decode_sub(Decoding& d) {
  decode_sum<true>(d);
}

void decode_mul(Decoding& d) {
  const Type type = d.take_type();
  if (is_float(type)) return decode_float(d, FloatOp::mul, type);
  switch (d.take_one({"lo", "hi", "wide"})) {
    case 0: return emit_wrapping<MulLow>(d, type);
    case 1: return emit_binary<MulHigh>(d, type);
    default: break;
  }
  if (size_of(type) == 8) d.refuse("no wide product of 64 bits");
  d.def(0, 0, twice(type));
  d.use(1, 1, type);
  d.use(2, 2, type);
  d.emit(with_integer(type, []<typename T>() -> Handler {
    if constexpr (sizeof(T) == 8)
      return nullptr;
    else
      return &mul_wide<T>;
  }));
}

void decode_mad(Decoding& d) {
  if (d.has("cc")) return decode_mad_cc(d);
  const Type type = d.take_type();
  switch (d.take_one({"lo", "hi", "wide"})) {
    case 0:
      return emit_same(d, type, 3, is_float(type) ? nullptr : with_bits(size_of(type), []<typename T>() -> Handler {
                         return &ternary<T, MadLow>;
                       }));
    case 1: return emit_same(d, type, 3, with_integer(type, []<typename T>() -> Handler { return &ternary<T, MadHigh>; }));
    default: break;
  }
  if (size_of(type) == 8) d.refuse("no wide product of 64 bits");
  d.def(0, 0, twice(type));
  d.use(1, 1, type);
  d.use(2, 2, type);
  d.use(3, 3, twice(type));
  d.emit(with_integer(type, []<typename T>() -> Handler {
    if constexpr (sizeof(T) == 8)
      return nullptr;
    else
      return &mad_wide<T>;
  }));
}

void decode_mul24(Decoding& d) {
  decode_24<false>(d);
}
void decode_mad24(Decoding& d) {
  decode_24<true>(d);
}
void decode_div(Decoding& d) {
  decode_either<Div>(d, FloatOp::div);
}
void decode_rem(Decoding& d) {
  emit_binary<Rem>(d, d.take_type());
}
void decode_min(Decoding& d) {
  decode_either<Min>(d, FloatOp::min);
}
void decode_max(Decoding& d) {
  decode_either<Max>(d, FloatOp::max);
}

void decode_neg(Decoding& d) {
  const Type type = d.take_type();
  if (is_float(type)) return decode_float(d, FloatOp::neg, type);
  emit_same(d, type, 1, with_integer(type, []<typename T>() -> Handler { return &unary<T, Neg>; }));
}

void decode_abs(Decoding& d) {
  const Type type = d.take_type();
  if (is_float(type)) return decode_float(d, FloatOp::abs, type);
  emit_same(d, type, 1, is_signed(type) ? with_integer(type, []<typename T>() -> Handler { return &unary<T, Abs>; }) : nullptr);
}

void decode_sad(Decoding& d) {
  const Type type = d.take_type();
  emit_same(d, type, 3, with_integer(type, []<typename T>() -> Handler { return &ternary<T, Sad>; }));
}

void decode_dp4a(Decoding& d) {
  const Type a = d.take_type(), b = d.take_type();
  Handler run = nullptr;
  if (a == Type::s32) run = b == Type::s32 ? &dp4a<int8_t, int8_t> : &dp4a<int8_t, uint8_t>;
  if (a == Type::u32) run = b == Type::s32 ? &dp4a<uint8_t, int8_t> : &dp4a<uint8_t, uint8_t>;
  emit_same(d, Type::u32, 3, run);
}

}  // namespace cudream::vgpu
