// The AVX-512 form of mma.sync. Compiled for AVX-512 by itself; nothing here runs before has_avx512() was asked.
// The sums live as eight columns of 16 rows, so one factor of B, broadcast, meets a column of A.
#include <immintrin.h>

#include "tests/vgpu/core/tensor.h"

namespace cudream::vgpu {
namespace {

__m512i load(const uint32_t* at) {
  return _mm512_loadu_si512(at);
}
__m512 load(const float* at) {
  return _mm512_loadu_ps(at);
}

template <bool kBrain>
__m512 widen16(__m256i halves) {
  if constexpr (kBrain)
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  else
    return _mm512_cvtph_ps(halves);
}

// Element r * 8 + k of an 8x8 matrix goes to place k * 8 + r; this finds the four columns from `first` on.
__m512i transpose_index(int first) {
  alignas(64) uint16_t index[32];
  for (int i = 0; i < 32; i++) index[i] = static_cast<uint16_t>(i % 8 * 8 + first + i / 8);
  return _mm512_load_si512(index);
}

// Two 8x8 matrices of halves, one above the other, to eight columns of 16 floats.
template <bool kBrain>
void columns_of(const uint32_t* top, const uint32_t* bottom, __m512 (&column)[8]) {
  const __m512i x0 = load(top), x1 = load(top + 16), y0 = load(bottom), y1 = load(bottom + 16);
  const __m512i first_two = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), last_two = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  for (int half = 0; half < 2; half++) {
    const __m512i index = transpose_index(half * 4);
    const __m512i upper = _mm512_permutex2var_epi16(x0, index, x1), lower = _mm512_permutex2var_epi16(y0, index, y1);
    const __m512i a = _mm512_permutex2var_epi64(upper, first_two, lower), b = _mm512_permutex2var_epi64(upper, last_two, lower);
    column[half * 4] = widen16<kBrain>(_mm512_castsi512_si256(a));
    column[half * 4 + 1] = widen16<kBrain>(_mm512_extracti64x4_epi64(a, 1));
    column[half * 4 + 2] = widen16<kBrain>(_mm512_castsi512_si256(b));
    column[half * 4 + 3] = widen16<kBrain>(_mm512_extracti64x4_epi64(b, 1));
  }
}

// Lane 4 r + p of `upper` holds row r of column 2 p (or 2 p + 1, for the odd registers), `lower` row r + 8.
void load_sums(const float* upper, const float* lower, __m512* column) {
  for (int p = 0; p < 4; p += 2) {
    const __m512i index =
        _mm512_add_epi32(_mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 1, 5, 9, 13, 17, 21, 25, 29), _mm512_set1_epi32(p));
    const __m512 a = _mm512_permutex2var_ps(load(upper), index, load(upper + 16));
    const __m512 b = _mm512_permutex2var_ps(load(lower), index, load(lower + 16));
    column[2 * p] = _mm512_shuffle_f32x4(a, b, 0x44);
    column[2 * p + 2] = _mm512_shuffle_f32x4(a, b, 0xee);
  }
}

// kHalf 0x44: rows 0 to 7 of the columns, 0xee: rows 8 to 15.
template <int kHalf>
void store_sums(float* to, const __m512* column) {
  const __m512 a = _mm512_shuffle_f32x4(column[0], column[2], kHalf), b = _mm512_shuffle_f32x4(column[4], column[6], kHalf);
  const __m512i index = _mm512_setr_epi32(0, 8, 16, 24, 1, 9, 17, 25, 2, 10, 18, 26, 3, 11, 19, 27);
  _mm512_storeu_ps(to, _mm512_permutex2var_ps(a, index, b));
  _mm512_storeu_ps(to + 16, _mm512_permutex2var_ps(a, _mm512_add_epi32(index, _mm512_set1_epi32(4)), b));
}

template <bool kBrain>
void multiply(const MmaFragments& f, uint32_t steps) {
  __m512 sum[8], a[8];
  load_sums(f.c[0], f.c[2], sum);
  load_sums(f.c[1], f.c[3], sum + 1);
  for (uint32_t s = 0; s < steps; s++) {
    alignas(64) float b[8][8];  // by columns
    for (int i = 0; i < 4; i++) {
      const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(f.b[s] + 8 * i));
      _mm512_store_ps(b[2 * i], widen16<kBrain>(halves));
    }
    columns_of<kBrain>(f.a[2 * s], f.a[2 * s + 1], a);
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
#pragma GCC unroll 8
      for (int n = 0; n < 8; n++) sum[n] = _mm512_fmadd_ps(a[k], _mm512_set1_ps(b[n][k]), sum[n]);
    }
  }
  store_sums<0x44>(f.d[0], sum);
  store_sums<0x44>(f.d[1], sum + 1);
  store_sums<0xee>(f.d[2], sum);
  store_sums<0xee>(f.d[3], sum + 1);
}

}  // namespace

void mma_avx512(const MmaFragments& f, uint32_t steps, Brain brain) {
  if (brain == Brain::yes) {
    multiply<true>(f, steps);
  } else {
    multiply<false>(f, steps);
  }
}

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}

}  // namespace cudream::vgpu
