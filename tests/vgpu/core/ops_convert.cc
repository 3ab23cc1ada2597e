// Conversions (PTX ISA 9.0, section 9.7.9.21, cvt).
#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/vgpu/core/floating.h"
#include "tests/vgpu/core/handlers.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

template <typename To, typename From>
void cast(Warp& w, const Inst& inst) {
  map_lanes<To, From>(w, inst, [](From a) { return static_cast<To>(a); });
}

// Integers of any width in registers of any width, clamped where flag says so. imm2: bits of the source, imm: of the result,
// negative for signed types.
template <typename To, typename From>
void convert_integer(Warp& w, const Inst& inst) {
  const auto from = static_cast<int>(inst.imm2), to = static_cast<int>(inst.imm);
  const auto cut = [](uint64_t v, int bits) {
    const int shift = 64 - std::abs(bits);
    return bits < 0 ? static_cast<uint64_t>(static_cast<int64_t>(v << shift) >> shift) : v << shift >> shift;
  };
  each_lane(w, [&](uint32_t lane) {
    uint64_t v = cut(w.at<From>(inst.reg[1])[lane], from);
    if (inst.flag != 0) {
      const int128 low = to < 0 ? -(static_cast<int128>(1) << (-to - 1)) : 0;
      const int128 high = (static_cast<int128>(1) << (to < 0 ? -to - 1 : to)) - 1;
      const int128 value = from < 0 ? static_cast<int128>(static_cast<int64_t>(v)) : static_cast<int128>(v);
      v = static_cast<uint64_t>(std::clamp(value, low, high));
    }
    w.at<To>(inst.reg[0])[lane] = static_cast<To>(cut(v, to));
  });
}

enum class Whole : uint8_t { nearest, zero, down, up };

template <typename T>
T round_whole(T a, Whole how) {
  switch (how) {
    case Whole::nearest: return std::nearbyint(a);
    case Whole::zero: return std::trunc(a);
    case Whole::down: return std::floor(a);
    case Whole::up: return std::ceil(a);
  }
  return a;
}

template <typename T>
void round_float(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    w.at<T>(inst.reg[0])[lane] = round_whole(w.at<T>(inst.reg[1])[lane], static_cast<Whole>(inst.mode));
  });
}

// Out of range gives the nearest end. NaN gives 0, or the top bit when either side has 64 bits.
template <typename To, typename From>
void float_to_integer(Warp& w, const Inst& inst) {
  constexpr bool kWide = sizeof(From) == 8 || sizeof(To) == 8;
  each_lane(w, [&](uint32_t lane) {
    const From a = round_whole(w.at<From>(inst.reg[1])[lane], static_cast<Whole>(inst.mode));
    const From low = static_cast<From>(std::numeric_limits<To>::min());
    const From above = std::ldexp(From{1}, std::numeric_limits<To>::digits);  // first value beyond the range
    To& out = w.at<To>(inst.reg[0])[lane];
    if (a != a) {
      out = kWide ? static_cast<To>(uint64_t{1} << (sizeof(To) * 8 - 1)) : To{0};
    } else if (a >= above) {
      out = std::numeric_limits<To>::max();
    } else {
      out = a <= low ? std::numeric_limits<To>::min() : static_cast<To>(a);
    }
  });
}

template <typename Half>
void half_to_float(Warp& w, const Inst& inst) {
  map_lanes<float, uint16_t>(w, inst, [](uint16_t a) { return Half::load(a); });
}
float relu(float a) {
  return a > 0 ? a : a != a ? a : 0.0f;
}

template <typename Host, bool kRelu>
void float_to_half(Warp& w, const Inst& inst) {
  map_lanes<uint16_t, float>(w, inst, [](float a) { return Host(kRelu ? relu(a) : a).bits; });
}
// The first source goes to the upper half.
template <typename Host, bool kRelu>
void floats_to_pair(Warp& w, const Inst& inst) {
  map_lanes<uint32_t, float, float>(w, inst, [](float a, float b) {
    const uint32_t high = Host(kRelu ? relu(a) : a).bits, low = Host(kRelu ? relu(b) : b).bits;
    return high << 16 | low;
  });
}

void saturate_f32(Warp& w, const Inst& inst) {
  map_lanes<float, float>(w, inst, [](float a) { return a > 0 ? a < 1 ? a : 1.0f : 0.0f; });
}

// One 16-bit float to another, or rounded to a whole number: through float.
template <typename To, typename From>
void half_to_half(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    float a = From::load(w.at<uint16_t>(inst.reg[1])[lane]);
    if (inst.flag != 0) a = round_whole(a, static_cast<Whole>(inst.mode));
    w.at<uint16_t>(inst.reg[0])[lane] = To::store(a);
  });
}

bool is_half(Type type) {
  return type == Type::f16 || type == Type::bf16;
}
bool take_whole(Decoding& d) {
  uint8_t index = 0;
  for (const std::string_view mode : {"rni", "rzi", "rmi", "rpi"}) {
    if (d.take(mode)) {
      d.inst.mode = index;
      return true;
    }
    index++;
  }
  return false;
}

Handler integer_widths(uint32_t to, uint32_t from) {
  return with_bits(to, [from]<typename To>() -> Handler {
    return with_bits(from, []<typename From>() -> Handler { return &convert_integer<To, From>; });
  });
}

int bits_of(Type type) {
  return static_cast<int>(size_of(type) * 8) * (is_signed(type) ? -1 : 1);
}

void decode_integer(Decoding& d, Type to, Type from) {
  d.inst.flag = d.take("sat");
  if (d.inst.flag == 0 && size_of(to) > 1 && size_of(from) > 1) {
    d.def(0, 0, to);
    d.use(1, 1, from);
    return d.emit(with_integer(to, [from]<typename To>() -> Handler {
      return with_integer(from, []<typename From>() -> Handler { return &cast<To, From>; });
    }));
  }
  d.inst.imm2 = bits_of(from);
  d.inst.imm = bits_of(to);
  const uint32_t to_bytes = d.def_as_is(0, d.operand(0)), from_bytes = d.use_as_is(1, d.operand(1));
  if (to_bytes < size_of(to) || from_bytes < size_of(from)) d.refuse("a register does not fit the type");
  d.emit(integer_widths(to_bytes, from_bytes));
}

// A half source is widened to a float register of its own first.
void widen_half_source(Decoding& d, Type from) {
  const uint32_t single = d.builder().fresh(4);
  Decoding widen(d);
  widen.inst.cls = Class::none;
  widen.inst.reg[0] = single;
  widen.inst.defs = 1;
  widen.use(1, 1, from);
  Inst step = widen.inst;
  step.run = from == Type::f16 ? &half_to_float<F16> : &half_to_float<BF16>;
  d.builder().push(step);
  d.inst.reg[1] = single;
  d.inst.uses |= 2;
}

void decode_to_integer(Decoding& d, Type to, Type from) {
  if (!take_whole(d)) d.refuse("float to integer needs a rounding to whole numbers");
  d.take("sat");  // implied
  if (size_of(to) < 2) d.refuse("float to 8 bits is not known");
  d.def(0, 0, to);
  if (is_half(from)) {
    widen_half_source(d, from);
  } else {
    d.use(1, 1, from);
  }
  d.emit(with_float_mode(d, with_integer(to, [from]<typename To>() -> Handler {
                           return from == Type::f64 ? Handler{&float_to_integer<To, double>}
                                                    : Handler{&float_to_integer<To, float>};
                         })));
}

template <typename Half>
void round_to_half(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) { w.at<uint16_t>(inst.reg[0])[lane] = Half::store(w.at<double>(inst.reg[1])[lane]); });
}

void decode_from_integer(Decoding& d, Type to, Type from) {
  if (size_of(from) < 2) d.refuse("8 bits to float is not known");
  if (is_half(to)) {  // through double, which holds 32 bits exactly
    if (size_of(from) == 8) d.refuse("64 bits to half is not known");
    if (!d.take("rn")) d.refuse("only .rn is known here");
    Decoding exact(d);
    exact.inst.cls = Class::none;
    exact.inst.reg[0] = d.builder().fresh(8);
    exact.inst.defs = 1;
    exact.use(1, 1, from);
    exact.emit(with_integer(from, []<typename From>() -> Handler { return &cast<double, From>; }));
    d.def(0, 0, to);
    d.inst.reg[1] = exact.inst.reg[0];
    d.inst.uses |= 2;
    return d.emit(to == Type::f16 ? &round_to_half<F16> : &round_to_half<BF16>);
  }
  d.def(0, 0, to);
  d.use(1, 1, from);
  d.emit(with_float_mode(d, with_integer(from, [to]<typename From>() -> Handler {
                           return to == Type::f64 ? Handler{&cast<double, From>} : Handler{&cast<float, From>};
                         })));
}

void decode_pair(Decoding& d, Type to) {
  const bool relu = d.take("relu");
  if (!d.take("rn")) d.refuse("only .rn is known here");
  d.def(0, 0, to);
  d.use(1, 1, Type::f32);
  d.use(2, 2, Type::f32);
  d.emit(to == Type::f16x2 ? relu ? &floats_to_pair<f16, true> : &floats_to_pair<f16, false>
         : relu ? &floats_to_pair<bf16, true>
                           : &floats_to_pair<bf16, false>);
}

void decode_to_half(Decoding& d, Type to, Type from) {
  d.def(0, 0, to);
  d.use(1, 1, from);
  if (is_half(from)) {
    d.inst.flag = take_whole(d);
    d.take("rn");
    if (to == Type::f16) return d.emit(from == Type::f16 ? &half_to_half<F16, F16> : &half_to_half<F16, BF16>);
    return d.emit(from == Type::f16 ? &half_to_half<BF16, F16> : &half_to_half<BF16, BF16>);
  }
  if (!d.take("rn")) d.refuse("only .rn is known here");
  if (from == Type::f64) return d.emit(to == Type::f16 ? &round_to_half<F16> : &round_to_half<BF16>);
  const bool relu = d.take("relu");
  d.emit(with_float_mode(d, to == Type::f16 ? relu ? &float_to_half<f16, true> : &float_to_half<f16, false>
                            : relu ? &float_to_half<bf16, true>
                                            : &float_to_half<bf16, false>));
}

void decode_float_to_float(Decoding& d, Type to, Type from) {
  if (to == Type::f16x2 || to == Type::bf16x2) return decode_pair(d, to);
  if (is_half(to)) return decode_to_half(d, to, from);
  d.def(0, 0, to);
  if (is_half(from)) {
    if (to == Type::f32) {
      d.use(1, 1, from);
      d.take("ftz");  // a widened half is never subnormal
      return d.emit(from == Type::f16 ? &half_to_float<F16> : &half_to_float<BF16>);
    }
    widen_half_source(d, from);
    return d.emit(&cast<double, float>);
  }
  d.use(1, 1, from);
  if (take_whole(d))
    return d.emit(to != from ? nullptr : with_float_mode(d, to == Type::f32 ? &round_float<float> : &round_float<double>));
  if (d.take("sat")) return d.emit(to != from || to != Type::f32 ? nullptr : with_float_mode(d, &saturate_f32));
  Handler run = to == Type::f32 ? &cast<float, float> : &cast<double, double>;
  if (to != from) run = to == Type::f32 ? &cast<float, double> : &cast<double, float>;
  d.emit(with_float_mode(d, run));
}

}  // namespace

Handler widening(uint32_t from, uint32_t to, bool with_sign) {
  if (from == 2 && to == 4) return with_sign ? &cast<int32_t, int16_t> : &cast<uint32_t, uint16_t>;
  if (from == 2) return with_sign ? &cast<int64_t, int16_t> : &cast<uint64_t, uint16_t>;
  return with_sign ? &cast<int64_t, int32_t> : &cast<uint64_t, uint32_t>;
}

Handler narrowing(uint32_t from, uint32_t to) {
  if (from == 4) return &cast<uint16_t, uint32_t>;
  return to == 2 ? &cast<uint16_t, uint64_t> : &cast<uint32_t, uint64_t>;
}

void decode_cvt(Decoding& d) {
  const Type to = d.take_type(), from = d.take_type();
  if (!is_float(to) && !is_float(from)) return decode_integer(d, to, from);
  if (!is_float(to)) return decode_to_integer(d, to, from);
  if (!is_float(from)) return decode_from_integer(d, to, from);
  decode_float_to_float(d, to, from);
}

}  // namespace cudream::vgpu
