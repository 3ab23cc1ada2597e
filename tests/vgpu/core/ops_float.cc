// Float arithmetic (PTX ISA 9.0, sections 9.7.3 and 9.7.4) in single, double and the two half precisions.
#include <xmmintrin.h>

#include <bit>
#include <cmath>

#include "tests/vgpu/core/floating.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

template <typename T>
using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;

template <typename T>
T canonical_nan() {
  if constexpr (sizeof(T) == 4)
    return std::bit_cast<float>(0x7fffffffu);
  else
    return std::bit_cast<double>(0x7fffffffffffffffull);
}

struct Add {
  template <typename T>
  T operator()(T a, T b) const {
    return a + b;
  }
};
struct Sub {
  template <typename T>
  T operator()(T a, T b) const {
    return a - b;
  }
};
struct Mul {
  template <typename T>
  T operator()(T a, T b) const {
    return a * b;
  }
};
struct Div {
  template <typename T>
  T operator()(T a, T b) const {
    return a / b;
  }
};
// The number if one operand is NaN; -0 is less than +0.
struct Min {
  template <typename T>
  T operator()(T a, T b) const {
    const T least = a < b || (a == b && std::signbit(a)) ? a : b;
    return a != a ? (b != b ? canonical_nan<T>() : b) : b != b ? a : least;
  }
};
struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    const T most = a > b || (a == b && !std::signbit(a)) ? a : b;
    return a != a ? (b != b ? canonical_nan<T>() : b) : b != b ? a : most;
  }
};
// With .NaN: NaN if either is.
template <typename Op>
struct OrNan {
  template <typename T>
  T operator()(T a, T b) const {
    return a != a || b != b ? canonical_nan<T>() : Op()(a, b);
  }
};
struct Fma {
  float operator()(float a, float b, float c) const { return __builtin_fmaf(a, b, c); }
  double operator()(double a, double b, double c) const { return __builtin_fma(a, b, c); }
};

template <typename T>
void negate(Warp& w, const Inst& inst) {
  map_lanes<Bits<T>, Bits<T>>(w, inst, [](Bits<T> a) { return a ^ Bits<T>{1} << (sizeof(T) * 8 - 1); });
}
template <typename T>
void absolute(Warp& w, const Inst& inst) {
  map_lanes<Bits<T>, Bits<T>>(w, inst, [](Bits<T> a) { return a & ~(Bits<T>{1} << (sizeof(T) * 8 - 1)); });
}
// Magnitude of the second operand, sign of the first.
template <typename T>
void copy_sign(Warp& w, const Inst& inst) {
  map_lanes<Bits<T>, Bits<T>, Bits<T>>(w, inst, [](Bits<T> a, Bits<T> b) {
    constexpr Bits<T> kSign = Bits<T>{1} << (sizeof(T) * 8 - 1);
    return (a & kSign) | (b & ~kSign);
  });
}
template <typename T>
void saturate(Warp& w, const Inst& inst) {
  map_lanes<T, T>(w, inst, [](T a) { return a > 0 ? a < 1 ? a : T{1} : T{0}; });
}

template <typename T>
void test_property(Warp& w, const Inst& inst) {
  uint32_t result = 0;
  each_lane(w, [&](uint32_t lane) {
    const T a = w.at<T>(inst.reg[1])[lane];
    const std::array<bool, 6> is = {std::isfinite(a), std::isinf(a),    !std::isnan(a),
                                    std::isnan(a),    std::isnormal(a), std::fpclassify(a) == FP_SUBNORMAL};
    result |= static_cast<uint32_t>(is[inst.mode]) << lane;
  });
  w.set_predicate(inst.reg[0], result);
}

void run_in_mode(Warp& w, const Inst& inst) {
  const uint32_t before = _mm_getcsr();
  _mm_setcsr(inst.floating);
  inst.inner(w, inst);
  _mm_setcsr(before);
}

// Handlers of the wide floats by operation.
template <typename T>
Handler wide_handler(FloatOp op, bool nan) {
  switch (op) {
    case FloatOp::add: return &binary<T, Add>;
    case FloatOp::sub: return &binary<T, Sub>;
    case FloatOp::mul: return &binary<T, Mul>;
    case FloatOp::div: return &binary<T, Div>;
    case FloatOp::min: return nan ? &binary<T, OrNan<Min>> : &binary<T, Min>;
    case FloatOp::max: return nan ? &binary<T, OrNan<Max>> : &binary<T, Max>;
    case FloatOp::neg: return &negate<T>;
    case FloatOp::abs: return &absolute<T>;
  }
  return nullptr;
}

void decode_wide(Decoding& d, FloatOp op, Type type) {
  const bool nan = (op == FloatOp::min || op == FloatOp::max) && d.take("NaN");
  if (op == FloatOp::div) d.ignore({"approx", "full"});  // exactly rounded, better than asked for
  const bool saturates = d.take("sat");
  const Handler run = with_float_mode(d, type == Type::f32 ? wide_handler<float>(op, nan) : wide_handler<double>(op, nan));
  if (saturates) d.then(type == Type::f32 ? &saturate<float> : &saturate<double>);
  emit_same(d, type, op == FloatOp::neg || op == FloatOp::abs ? 1 : 2, run);
}

}  // namespace

Handler with_float_mode(Decoding& d, Handler run) {
  const bool flush = d.take("ftz");
  uint32_t rounding = _MM_ROUND_NEAREST;
  if (!d.take("rn"))
    rounding = d.take("rz") ? _MM_ROUND_TOWARD_ZERO : d.take("rm") ? _MM_ROUND_DOWN : d.take("rp") ? _MM_ROUND_UP : rounding;
  if (!flush && rounding == _MM_ROUND_NEAREST) return run;
  constexpr uint32_t kExceptionsOff = 0x1f80, kFlush = 0x8040;
  d.inst.floating = kExceptionsOff | rounding | (flush ? kFlush : 0);
  d.inst.inner = run;
  return run == nullptr ? nullptr : &run_in_mode;
}

void decode_float(Decoding& d, FloatOp op, Type type) {
  d.inst.cls = Class::floating;
  if (type == Type::f32 || type == Type::f64) return decode_wide(d, op, type);
  decode_half(d, op, type);
}

void decode_fma(Decoding& d) {
  const Type type = d.take_type();
  if (type != Type::f32 && type != Type::f64) return decode_half_fma(d, type);
  const bool saturates = d.take("sat");
  const Handler run = with_float_mode(d, type == Type::f32 ? &ternary<float, Fma> : &ternary<double, Fma>);
  if (saturates) d.then(&saturate<float>);
  emit_same(d, type, 3, run);
}

void decode_copysign(Decoding& d) {
  const Type type = d.take_type();
  emit_same(d, type, 2, type == Type::f32 ? &copy_sign<float> : &copy_sign<double>);
}

void decode_testp(Decoding& d) {
  d.inst.mode = d.take_one({"finite", "infinite", "number", "notanumber", "normal", "subnormal"});
  const Type type = d.take_type();
  d.def(0, 0, Type::pred);
  d.use(1, 1, type);
  d.emit(type == Type::f32 ? &test_property<float> : type == Type::f64 ? &test_property<double> : nullptr);
}

}  // namespace cudream::vgpu
