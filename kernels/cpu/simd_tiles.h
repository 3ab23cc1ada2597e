// AMX tiles (Intel SDM volume 1, chapter 18): 16 x 16 float results of products over 32 elements of bf16.
//
// A tile is 16 rows of 64 bytes. The left factor's rows are rows of 32 elements; the right factor's rows are pairs of its
// rows: pair r of column c is one 32-bit element.
#pragma once

#include "kernels/cpu/simd.h"

namespace cudream::CUDREAM_ISA {
namespace {

constexpr int64_t kTileBytes = 1024, kTileVectors = 16;  // where a tile's rows lie together

// The compiler's own intrinsics do not tell it that memory is read and written.
template <int tile>
[[gnu::always_inline]] inline void tile_load(const void* p, int64_t row_bytes = 64) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(row_bytes), "i"(tile) : "memory");
}
template <int tile>
[[gnu::always_inline]] inline void tile_store(void* p) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(int64_t{64}), "i"(tile) : "memory");
}
template <int tile>
[[gnu::always_inline]] inline void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"i"(tile));
}
template <int to, int a, int b>  // to += a * b
[[gnu::always_inline]] inline void tile_multiply_add() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(to), "i"(a), "i"(b));
}

// All eight tiles whole. Until end_tiles() they are this thread's.
inline void begin_tiles() {
  struct alignas(64) Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  asm volatile("ldtilecfg %0" ::"m"(config));
}
inline void end_tiles() {
  asm volatile("tilerelease");
}

// Lane r: elements p[0] and p[1] of row r, one in each half; of `pair` 1 the first alone. Rows from `rows` on read as 0.
inline Words gather_pairs(const uint16_t* p, int64_t stride, int64_t rows, int64_t pair) {
  const auto mask = static_cast<__mmask16>(rows >= 16 ? 0xffff : (1 << rows) - 1);
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(stride)));
  if (pair == 2) return (Words)_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, at, p, 2);
  Words single{};  // reading a pair could pass the end of memory
  for (int64_t r = 0; r < rows && r < 16; r++) single[r] = p[r * stride];
  return single;
}

}  // namespace
}  // namespace cudream::CUDREAM_ISA
