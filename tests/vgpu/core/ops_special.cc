// Reciprocals, roots and transcendental functions (PTX ISA 9.0, section 9.7.3). The .approx forms give results at least as
// good as the errors documented for the hardware; they are not the hardware's bits.
#include <bit>
#include <cmath>

#include "tests/vgpu/core/floating.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

struct Rcp {
  template <typename T>
  T operator()(T a) const {
    return T{1} / a;
  }
};
struct Sqrt {
  float operator()(float a) const { return __builtin_sqrtf(a); }
  double operator()(double a) const { return __builtin_sqrt(a); }
};
struct Rsqrt {
  float operator()(float a) const { return 1.0f / __builtin_sqrtf(a); }
  double operator()(double a) const { return 1.0 / __builtin_sqrt(a); }
};

// 2^x as 2^n 2^f with |f| <= 1/2, the second by its Taylor series in ln 2 to degree 7. In two factors, so that subnormal
// results come out. No branches, so that the lanes become vectors.
struct Ex2 {
  float operator()(float x) const {
    const float clamped = x < -160.0f ? -160.0f : x > 160.0f ? 160.0f : x;
    const float n = clamped + 0x1.8p23f - 0x1.8p23f;
    const float f = clamped - n;
    float p = 1.5252734e-5f;
    p = __builtin_fmaf(p, f, 1.5403530e-4f);
    p = __builtin_fmaf(p, f, 1.3333558e-3f);
    p = __builtin_fmaf(p, f, 9.6181291e-3f);
    p = __builtin_fmaf(p, f, 5.5504109e-2f);
    p = __builtin_fmaf(p, f, 2.4022651e-1f);
    p = __builtin_fmaf(p, f, 6.9314718e-1f);
    p = __builtin_fmaf(p, f, 1.0f);
    const auto whole = static_cast<int32_t>(n), first = whole / 2;
    const auto power = [](int32_t e) { return std::bit_cast<float>(static_cast<uint32_t>(e + 127) << 23); };
    const float result = p * power(first) * power(whole - first);
    return x != x ? x : result;
  }
};
struct Lg2 {
  float operator()(float a) const { return std::log2(a); }
};
struct Sin {
  float operator()(float a) const { return std::sin(a); }
};
struct Cos {
  float operator()(float a) const { return std::cos(a); }
};
struct Tanh {
  float operator()(float a) const { return std::tanh(a); }
};

// Library functions: lane by lane, and only where asked.
template <typename Op>
void by_lane(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) { w.at<float>(inst.reg[0])[lane] = Op()(w.at<float>(inst.reg[1])[lane]); });
}

// The half forms of ex2 and tanh.
template <typename Half, typename Lane, typename Op>
void half_function(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    const Lane a = w.at<Lane>(inst.reg[1])[lane];
    Lane out = 0;
    for (uint32_t shift = 0; shift < sizeof(Lane) * 8; shift += 16) {
      out = static_cast<Lane>(out |
                              static_cast<Lane>(Lane{Half::store(Op()(Half::load(static_cast<uint16_t>(a >> shift))))} << shift));
    }
    w.at<Lane>(inst.reg[0])[lane] = out;
  });
}

template <typename Op>
Handler half_handler(Type type) {
  switch (type) {
    case Type::f16: return &half_function<F16, uint16_t, Op>;
    case Type::f16x2: return &half_function<F16, uint32_t, Op>;
    case Type::bf16: return &half_function<BF16, uint16_t, Op>;
    case Type::bf16x2: return &half_function<BF16, uint32_t, Op>;
    default: return nullptr;
  }
}

void decode_f32_function(Decoding& d, Handler run) {
  const Type type = d.take_type();
  d.take("approx");
  emit_same(d, type, 1, type == Type::f32 ? with_float_mode(d, run) : nullptr);
}

template <typename Op>
void decode_wide_function(Decoding& d) {
  const Type type = d.take_type();
  d.take("approx");
  const Handler run = type == Type::f32 ? &unary<float, Op> : type == Type::f64 ? Handler{&unary<double, Op>} : nullptr;
  emit_same(d, type, 1, with_float_mode(d, run));
}

template <typename Op>
void decode_half_or_single(Decoding& d, Handler run) {
  const Type type = d.take_type();
  d.take("approx");
  if (type == Type::f32) return emit_same(d, type, 1, with_float_mode(d, run));
  if (type == Type::bf16 || type == Type::bf16x2) d.take("ftz");  // bfloat16 results keep their subnormals here
  emit_same(d, type, 1, half_handler<Op>(type));
}

}  // namespace

void decode_rcp(Decoding& d) {
  decode_wide_function<Rcp>(d);
}
void decode_sqrt(Decoding& d) {
  decode_wide_function<Sqrt>(d);
}
void decode_rsqrt(Decoding& d) {
  decode_wide_function<Rsqrt>(d);
}
void decode_sin(Decoding& d) {
  decode_f32_function(d, &by_lane<Sin>);
}
void decode_cos(Decoding& d) {
  decode_f32_function(d, &by_lane<Cos>);
}
void decode_lg2(Decoding& d) {
  decode_f32_function(d, &by_lane<Lg2>);
}
void decode_ex2(Decoding& d) {
  decode_half_or_single<Ex2>(d, &unary<float, Ex2>);
}
void decode_tanh(Decoding& d) {
  decode_half_or_single<Tanh>(d, &by_lane<Tanh>);
}

}  // namespace cudream::vgpu
