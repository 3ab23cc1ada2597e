// Pointwise loops: conversions, activations, products, sums, and the ends of products that oneDNN does not finish.
#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_loops.h"

namespace cudream::CUDREAM_ISA {
namespace {

template <typename To, typename From>
void convert_as(To to, From from, const Out& out, const In& x, int64_t n) {
  auto* o = elements(to, out);
  const auto* p = elements(from, x);
  for_lanes(n, [&](int64_t i, int64_t lanes) { store<To>(o + i, load<From>(p + i, lanes), lanes); });
}

template <typename To>
void convert_to(To to, const Out& out, const In& x, int64_t n) {
  switch (x.type) {
    case DType::f32: return convert_as(to, F32{}, out, x, n);
    case DType::bf16: return convert_as(to, Bf16{}, out, x, n);
    case DType::f16: return convert_as(to, F16{}, out, x, n);
    case DType::f8e4m3: return convert_as(to, F8e4m3{}, out, x, n);
    case DType::f8e5m2: return convert_as(to, F8e5m2{}, out, x, n);
    case DType::i32:
    case DType::u8: return;
  }
}

template <typename Body>
[[gnu::always_inline]] inline void map1(const Out& out, const In& x, int64_t n, Body&& body) {
  with_type(out.type, [&](auto to) {
    with_type(x.type, [&](auto from) {
      auto* o = elements(to, out);
      const auto* p = elements(from, x);
      for_lanes(
          n, [&](int64_t i, int64_t lanes) { store<decltype(to)>(o + i, body(to, load<decltype(from)>(p + i, lanes)), lanes); });
    });
  });
}

template <typename Body>
[[gnu::always_inline]] inline void map2(const Out& out, const In& a, const In& b, int64_t n, Body&& body) {
  with_type(out.type, [&](auto to) {
    with_type(a.type, [&](auto first) {
      with_type(b.type, [&](auto second) {
        auto* o = elements(to, out);
        const auto* p = elements(first, a);
        const auto* q = elements(second, b);
        for_lanes(n, [&](int64_t i, int64_t lanes) {
          const Floats x = load<decltype(first)>(p + i, lanes), y = load<decltype(second)>(q + i, lanes);
          store<decltype(to)>(o + i, body(to, x, y, i, lanes), lanes);
        });
      });
    });
  });
}

}  // namespace

void convert(Out out, In x, int64_t n) {
  switch (out.type) {
    case DType::f32: return convert_to(F32{}, out, x, n);
    case DType::bf16: return convert_to(Bf16{}, out, x, n);
    case DType::f16: return convert_to(F16{}, out, x, n);
    default: return;
  }
}

void act(Out out, In x, int64_t n, Act a) {
  switch (a) {
    case Act::none: return convert(out, x, n);
    case Act::silu: return map1(out, x, n, [](auto to, Floats v) { return activate(to, v, Act::silu); });
    case Act::gelu: return map1(out, x, n, [](auto to, Floats v) { return activate(to, v, Act::gelu); });
    case Act::quick_gelu: return map1(out, x, n, [](auto to, Floats v) { return activate(to, v, Act::quick_gelu); });
    case Act::relu: return map1(out, x, n, [](auto to, Floats v) { return activate(to, v, Act::relu); });
    case Act::tanh: return map1(out, x, n, [](auto to, Floats v) { return activate(to, v, Act::tanh); });
  }
}

void multiply(Out out, In a, In b, int64_t n) {
  map2(out, a, b, n, [](auto, Floats x, Floats y, int64_t, int64_t) { return x * y; });
}

void geglu(Out out, In value, In gate, int64_t n) {
  map2(out, value, gate, n, [](auto to, Floats x, Floats y, int64_t, int64_t) { return x * activate(to, y, Act::gelu); });
}

void finish(Out out, In y, const Finish& f, int64_t n) {
  const float* gate = f.gate;
  if (f.residual.at == nullptr && gate == nullptr) return convert(out, y, n);
  if (gate == nullptr) return map2(out, y, f.residual, n, [](auto, Floats v, Floats r, int64_t, int64_t) { return v + r; });
  if (f.residual.at == nullptr)
    return map2(out, y, {gate, DType::f32}, n, [](auto, Floats v, Floats g, int64_t, int64_t) { return v * g; });
  map2(out, y, f.residual, n,
       [&](auto, Floats v, Floats r, int64_t i, int64_t lanes) { return v * load<F32>(gate + i, lanes) + r; });
}

void lerp(float* out, const float* a, const float* b, const float* weight, int64_t n) {
  for_lanes(n, [&](int64_t i, int64_t lanes) {
    const Floats x = load<F32>(a + i, lanes);
    store<F32>(out + i, x + load<F32>(weight + i, lanes) * (load<F32>(b + i, lanes) - x), lanes);
  });
}

void combine(float* out, const float* const* x, const float* scale, int terms, int64_t n) {
  for_lanes(n, [&](int64_t i, int64_t lanes) {
    Floats sum = splat(scale[0]) * load<F32>(x[0] + i, lanes);
    for (int t = 1; t < terms; t++) sum += scale[t] * load<F32>(x[t] + i, lanes);
    store<F32>(out + i, sum, lanes);
  });
}

}  // namespace cudream::CUDREAM_ISA
