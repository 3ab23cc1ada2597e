// Vectors of float for the kernel files, which are compiled once per instruction set with CUDREAM_ISA as their namespace.
// Everything has internal linkage: code for one processor must never be linked in place of code for another.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/types.h"
#include "kernels/cpu/kernels.h"

namespace cudream::CUDREAM_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#else
constexpr int64_t kLanes = 8;
#endif

using Floats [[gnu::vector_size(kLanes * 4)]] = float;
using Ints [[gnu::vector_size(kLanes * 4)]] = int32_t;
using Words [[gnu::vector_size(kLanes * 4)]] = uint32_t;
using Halves [[gnu::vector_size(kLanes * 2)]] = uint16_t;
using Bytes [[gnu::vector_size(kLanes)]] = uint8_t;

// Element types in memory. f16 and bf16 differ only in how their 16 bits are read.
struct F32 {
  using Raw = float;
};
struct Bf16 {
  using Raw = uint16_t;
};
struct F16 {
  using Raw = uint16_t;
};
struct F8e5m2 {
  using Raw = uint8_t;
};
struct F8e4m3 {
  using Raw = uint8_t;
};

inline Floats splat(float x) {
  return x - Floats{};
}

template <typename V, typename P>
V load_as(const P* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline Floats widen(F32, const float* p) {
  return load_as<Floats>(p);
}
inline Floats widen(Bf16, const uint16_t* p) {
  return (Floats)(__builtin_convertvector(load_as<Halves>(p), Words) << 16);
}
// (The compiler's own conversion of vectors goes through single elements.)
inline Floats from_halves(Halves h) {
#if defined(__AVX512F__)
  return (Floats)_mm512_cvtph_ps((__m256i)h);
#else
  return (Floats)_mm256_cvtph_ps((__m128i)h);
#endif
}
inline Floats widen(F16, const uint16_t* p) {
  return from_halves(load_as<Halves>(p));
}
inline Floats widen(F8e5m2, const uint8_t* p) {
  return from_halves(__builtin_convertvector(load_as<Bytes>(p), Halves) << 8);  // the upper byte of a binary16
}
inline Floats widen(F8e4m3, const uint8_t* p) {
  // Shifted into place the bits are a float with an exponent 120 too small, denormals included; S.1111.111 is the NaN.
  const Words bits = __builtin_convertvector(load_as<Bytes>(p), Words);
  const Words sign = (bits & 0x80) << 24, magnitude = bits & 0x7f;
  const Floats value = (Floats)(magnitude << 20) * splat(0x1p120f);
  return (Floats)((Words)(magnitude == 0x7f ? splat(__builtin_nanf("")) : value) | sign);
}

inline void narrow(F32, float* p, Floats x) {
  __builtin_memcpy(p, &x, sizeof x);
}
inline void narrow(F16, uint16_t* p, Floats x) {
#if defined(__AVX512F__)
  const __m256i h = _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT);
#else
  const __m128i h = _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT);
#endif
  __builtin_memcpy(p, &h, sizeof h);
}
inline void narrow(Bf16, uint16_t* p, Floats x) {
#if defined(__AVX512BF16__)
  const __m256bh h = _mm512_cvtneps_pbh((__m512)x);
#else
  const Words bits = (Words)x;
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest even
  const Halves h = __builtin_convertvector((Words)(x == x ? (Ints)rounded : (Ints)(bits >> 16 | 0x40)), Halves);
#endif
  __builtin_memcpy(p, &h, sizeof h);
}

#if defined(__AVX512BF16__)
// Lane i: low[i] in the lower half, high[i] in the upper, cut to bf16. (The rounding instruction takes three times as long,
// and what cutting takes from all weights alike, it takes from their sum too.)
inline Words bf16_pairs(Floats low, Floats high) {
  return (Words)low >> 16 | ((Words)high & 0xffff0000u);
}
#endif

// Two vectors beside each other.
inline void narrow_pair(F32, float* p, Floats a, Floats b) {
  narrow(F32{}, p, a);
  narrow(F32{}, p + kLanes, b);
}
inline void narrow_pair(Bf16, uint16_t* p, Floats a, Floats b) {
#if defined(__AVX512BF16__)
  const __m512bh h = _mm512_cvtne2ps_pbh((__m512)b, (__m512)a);
  __builtin_memcpy(p, &h, sizeof h);
#else
  narrow(Bf16{}, p, a);
  narrow(Bf16{}, p + kLanes, b);
#endif
}

// The same for the first `count` lanes; the others read as 0 and are not written.
template <typename T>
[[gnu::always_inline]] inline Floats load(const typename T::Raw* p, int64_t count = kLanes) {
  if (count >= kLanes) return widen(T{}, p);
  typename T::Raw part[kLanes] = {};
  __builtin_memcpy(part, p, static_cast<size_t>(count) * sizeof(*p));
  return widen(T{}, part);
}
template <typename T>
[[gnu::always_inline]] inline void store(typename T::Raw* p, Floats x, int64_t count = kLanes) {
  if (count >= kLanes) return narrow(T{}, p, x);
  typename T::Raw part[kLanes];
  narrow(T{}, part, x);
  __builtin_memcpy(p, part, static_cast<size_t>(count) * sizeof(*p));
}

// Runs body(i, lanes) over [0, n): whole vectors with lanes a constant, then the rest.
template <typename Body>
[[gnu::always_inline]] inline void for_lanes(int64_t n, Body&& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}

// Calls body with the element type of a DType; another type than these two is the caller's mistake.
template <typename Body>
[[gnu::always_inline]] inline void with_type(DType type, Body&& body) {
  if (type == DType::bf16) return body(Bf16{});
  body(F32{});
}

template <typename T>
const typename T::Raw* elements(T, const In& x) {
  return static_cast<const typename T::Raw*>(x.at);
}
template <typename T>
typename T::Raw* elements(T, const Out& x) {
  return static_cast<typename T::Raw*>(x.at);
}

// A NaN in `a` stays: these instructions give their second operand where one is a NaN.
#if defined(__AVX512F__)
inline Floats smaller(Floats a, Floats b) {
  return (Floats)_mm512_min_ps((__m512)b, (__m512)a);
}
inline Floats larger(Floats a, Floats b) {
  return (Floats)_mm512_max_ps((__m512)b, (__m512)a);
}
#else
inline Floats smaller(Floats a, Floats b) {
  return (Floats)_mm256_min_ps((__m256)b, (__m256)a);
}
inline Floats larger(Floats a, Floats b) {
  return (Floats)_mm256_max_ps((__m256)b, (__m256)a);
}
#endif

// Lane `lane` of kLanes vectors that lie together.
inline Floats load_column(const Floats* vectors, int64_t lane) {
  const auto* from = reinterpret_cast<const float*>(vectors) + lane;
#if defined(__AVX512F__)
  const __m512i at =
      _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), _mm512_set1_epi32(16));
  return (Floats)_mm512_i32gather_ps(at, from, 4);
#else
  return (Floats)_mm256_i32gather_ps(from, _mm256_set_epi32(56, 48, 40, 32, 24, 16, 8, 0), 4);
#endif
}

inline bool all_ones(Floats x) {
#if defined(__AVX512F__)
  return _mm512_cmpneq_ps_mask((__m512)x, _mm512_set1_ps(1.0f)) == 0;
#else
  return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_set1_ps(1.0f), _CMP_NEQ_UQ)) == 0;
#endif
}

inline float sum_of(Floats x) {
  float sum = 0;
  for (int64_t i = 0; i < kLanes; i++) sum += x[i];
  return sum;
}

// 2^x to 1 ulp: x is split into an integer, which becomes the exponent, and a fraction in [-1/2, 1/2] for a polynomial
// (Chebyshev interpolation, relative error 2.6e-9). Outside [-126, 127] the result is that of the bound; NaN stays NaN.
inline Floats exp2(Floats x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  x = smaller(larger(x, splat(-126.0f)), splat(127.0f));
  const Floats shifted = x + kRound;
  const Floats f = x - (shifted - kRound);
  Floats p = splat(1.54614447e-4f);
  p = p * f + 1.34004279e-3f;
  p = p * f + 9.61805668e-3f;
  p = p * f + 5.55032723e-2f;
  p = p * f + 2.40226509e-1f;
  p = p * f + 6.93147207e-1f;
  p = p * f + 1.0f;
  return p * (Floats)(((Words)shifted << 23) + 0x3f800000u);
}
#if defined(__AVX512BF16__)
// 2^x to a relative error of 1e-4, for weights that become bf16; 0 far below.
inline Floats exp2_coarse(Floats x) {
  constexpr float kRound = 12582912.0f;
  const Floats whole = (x + kRound) - kRound, f = x - whole;
  Floats p = splat(5.58382829e-2f);
  p = p * f + 2.42639478e-1f;
  p = p * f + 6.93136734e-1f;
  p = p * f + 9.99924557e-1f;
  return (Floats)_mm512_scalef_ps((__m512)p, (__m512)whole);
}
#endif

inline Floats exp(Floats x) {
  return exp2(x * 1.44269504f);
}

inline Floats sigmoid(Floats x) {
  return 1.0f / (1.0f + exp(-x));
}

// x * Phi(x), exact to float rounding. Phi(-|x|) = erfc(|x| / sqrt 2) / 2 = exp(-x^2 / 2) t R(t) with t = 1 / (1 + 0.3 z),
// z = |x| / sqrt 2: R is nearly straight, and 9 coefficients interpolate it to 2.4e-8 (Chebyshev nodes on z in [0, 9.5]).
inline Floats gelu(Floats x) {
  const Floats a = x < 0.0f ? -x : x;
  const Floats t = 1.0f / (1.0f + 0.212132034f * a);
  Floats r = splat(-0.130492815f);
  r = r * t + 0.490571598f;
  r = r * t + -0.523314655f;
  r = r * t + 0.561246201f;
  r = r * t + -0.10471214f;
  r = r * t + 0.219567114f;
  r = r * t + 0.147045419f;
  r = r * t + 0.170914156f;
  r = r * t + 0.169175103f;
  const Floats tail = 0.5f * r * t * exp(x * x * -0.5f);
  return x * (x < 0.0f ? tail : 1.0f - tail);
}

[[gnu::always_inline]] inline Floats activate(F32, Floats x, Act act) {
  switch (act) {
    case Act::none: return x;
    case Act::silu: return x * sigmoid(x);
    case Act::gelu: return gelu(x);
    case Act::quick_gelu: return x * sigmoid(1.702f * x);
    case Act::relu: return x < 0.0f ? Floats{} : x;  // NaN stays NaN
    case Act::tanh: return 2.0f * sigmoid(2.0f * x) - 1.0f;
  }
  return x;
}

#if defined(__AVX512BF16__)
// 1 / (1 + 2^x) to a relative error of 2e-4.
inline Floats sigmoid2_coarse(Floats x) {
  return (Floats)_mm512_rcp14_ps((__m512)(1.0f + exp2_coarse(x)));
}

// For results that become bf16. Phi(x) = 1 / (1 + 2^(x Q(x^2))), Q interpolated for |x| <= 4: the absolute error of gelu is
// 5e-5, the relative one below 1e-3 down to -3.
[[gnu::always_inline]] inline Floats activate(Bf16, Floats x, Act act) {
  switch (act) {
    case Act::none: return x;
    case Act::silu: return x * sigmoid2_coarse(x * -1.44269504f);
    case Act::gelu: {
      const Floats t = smaller(x * x, splat(16.0f));
      return x * sigmoid2_coarse(x * ((1.1121348e-3f * t - 1.0745514e-1f) * t - 2.3003886f));
    }
    case Act::quick_gelu: return x * sigmoid2_coarse(x * (-1.702f * 1.44269504f));
    case Act::relu:
    case Act::tanh: return activate(F32{}, x, act);
  }
  return x;
}
#else
[[gnu::always_inline]] inline Floats activate(Bf16, Floats x, Act act) {
  return activate(F32{}, x, act);
}
#endif

}  // namespace
}  // namespace cudream::CUDREAM_ISA
