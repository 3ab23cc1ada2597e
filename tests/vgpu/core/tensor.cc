// The portable form of mma.sync.
#include "tests/vgpu/core/tensor.h"

#include <cstdlib>
#include <cstring>

#include "core/half.h"

#ifdef __F16C__
#include <immintrin.h>
#endif

namespace cudream::vgpu {

void widen(const uint16_t* in, float* out, uint32_t n, Brain brain) {
  if (brain == Brain::yes) {
    for (uint32_t i = 0; i < n; i++) {
      const uint32_t bits = uint32_t{in[i]} << 16;
      std::memcpy(out + i, &bits, sizeof bits);
    }
    return;
  }
#ifdef __F16C__
  for (uint32_t i = 0; i < n; i += 8)
    _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + i))));
#else
  for (uint32_t i = 0; i < n; i++) {
    f16 h;
    h.bits = in[i];
    out[i] = static_cast<float>(h);
  }
#endif
}

// A register of 32 lanes of two halves is an 8x8 matrix, row by row. So A is 16 x 8 steps as it lies, and B arrives by columns.
void mma_portable(const MmaFragments& f, uint32_t steps, Brain brain) {
  float a[4][8][8], columns[8][8], b[16][8], sum[16][8];
  for (uint32_t i = 0; i < 2 * steps; i++) widen(reinterpret_cast<const uint16_t*>(f.a[i]), a[i][0], 64, brain);
  for (uint32_t s = 0; s < steps; s++) {
    widen(reinterpret_cast<const uint16_t*>(f.b[s]), columns[0], 64, brain);
    for (uint32_t k = 0; k < 8; k++) {
      for (uint32_t n = 0; n < 8; n++) b[s * 8 + k][n] = columns[n][k];
    }
  }
  for (uint32_t i = 0; i < 4; i++) {
    for (uint32_t lane = 0; lane < 32; lane++) sum[i / 2 * 8 + lane / 4][lane % 4 * 2 + i % 2] = f.c[i][lane];
  }
  for (uint32_t row = 0; row < 16; row++) {
    for (uint32_t k = 0; k < 8 * steps; k++) {
      const float factor = a[k / 8 * 2 + row / 8][row % 8][k % 8];
      for (uint32_t n = 0; n < 8; n++) sum[row][n] = __builtin_fmaf(factor, b[k][n], sum[row][n]);
    }
  }
  for (uint32_t i = 0; i < 4; i++) {
    for (uint32_t lane = 0; lane < 32; lane++) f.d[i][lane] = sum[i / 2 * 8 + lane / 4][lane % 4 * 2 + i % 2];
  }
}

MmaFunction mma_function() {
  static const MmaFunction chosen = has_avx512() && std::getenv("CUDREAM_VGPU_PORTABLE") == nullptr ? &mma_avx512 : &mma_portable;
  return chosen;
}

}  // namespace cudream::vgpu
