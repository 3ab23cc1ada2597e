// The AVX-512 form of mma.sync. Compiled for AVX-512 by itself; nothing here runs before has_avx512() was asked.
#include <immintrin.h>

#include <array>

#include "tests/vgpu/core/tensor.h"

namespace cudream::vgpu {
namespace {

// Two 8x8 matrices one above the other, as they lie in their registers, to columns of 16 floats.
void columns_of(const uint32_t* top, const uint32_t* bottom, Brain brain, std::array<__m512, 8>& column) {
  alignas(64) float rows[16][8];
  widen(reinterpret_cast<const uint16_t*>(top), rows[0], 64, brain);
  widen(reinterpret_cast<const uint16_t*>(bottom), rows[8], 64, brain);
  const __m512i step = _mm512_setr_epi32(0, 8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120);
  for (uint32_t k = 0; k < 8; k++) column[k] = _mm512_i32gather_ps(step, rows[0] + k, 4);
}

// Column n of the sums from the two registers that hold it: lane 4 r + n / 2 has row r.
__m512 load_column(const float* upper, const float* lower, uint32_t pair) {
  const __m512i step = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
  const __m512 top = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0x00ff, step, upper + pair, 4);
  return _mm512_mask_i32gather_ps(top, 0xff00, step, lower + pair, 4);
}
void store_column(float* upper, float* lower, uint32_t pair, __m512 value) {
  const __m512i step = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
  _mm512_mask_i32scatter_ps(upper + pair, 0x00ff, step, value, 4);
  _mm512_mask_i32scatter_ps(lower + pair, 0xff00, step, value, 4);
}

}  // namespace

void mma_avx512(const MmaFragments& f, uint32_t steps, Brain brain) {
  std::array<__m512, 8> sum, a;
  for (uint32_t n = 0; n < 8; n++) sum[n] = load_column(f.c[n % 2], f.c[2 + n % 2], n / 2);
  for (uint32_t s = 0; s < steps; s++) {
    alignas(64) float b[8][8];  // by columns
    widen(reinterpret_cast<const uint16_t*>(f.b[s]), b[0], 64, brain);
    columns_of(f.a[2 * s], f.a[2 * s + 1], brain, a);
    for (uint32_t k = 0; k < 8; k++) {
      for (uint32_t n = 0; n < 8; n++) sum[n] = _mm512_fmadd_ps(a[k], _mm512_set1_ps(b[n][k]), sum[n]);
    }
  }
  for (uint32_t n = 0; n < 8; n++) store_column(f.d[n % 2], f.d[2 + n % 2], n / 2, sum[n]);
}

bool has_avx512() { return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"); }

}  // namespace cudream::vgpu
