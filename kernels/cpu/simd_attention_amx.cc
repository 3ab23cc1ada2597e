// Attention with AMX tiles (Intel SDM volume 1, chapter 18): 16 x 16 float results of bf16 products over 32 elements.
//
// Rows of queries are the columns of a tile, so the vector code between the two products is the same as without tiles. All
// arrays are made of whole tiles of 1 KiB that lie together; head sizes are padded to 32 for scores, to 16 for results.
#include "kernels/cpu/simd_attention.h"
#include "kernels/cpu/simd_loops.h"

namespace cudream::CUDREAM_ISA {
namespace {

constexpr int64_t kTileVectors = 16;  // of 64 bytes in a tile
constexpr uint16_t kOne = 0x3f80;     // bf16

// The compiler's own intrinsics do not tell it that memory is read and written.
template <int tile>
[[gnu::always_inline]] inline void tile_load(const void* p) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(int64_t{64}), "i"(tile) : "memory");
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

struct Tiles {
  using Type = Bf16;
  using Raw = uint16_t;
  using Vector = Words;
  static constexpr int64_t kPack = 2;
  static constexpr int kGroups = 2;
  static constexpr int64_t kBlock = 128, kPad = 32;

  static int64_t chunks(int64_t size) { return ceil_div(size, 32); }
  static int64_t width(int64_t size) { return rounded_up(size + 1, 16); }
  static int64_t query_vectors(int64_t size) { return chunks(size) * kTileVectors; }
  template <int G>
  static constexpr int64_t score_at(int64_t key, int g) {
    return (key / 16 * G + g) * kTileVectors + key % 16;
  }
  template <int G>
  static constexpr int64_t weight_at(int64_t pair, int g) {
    return (pair / 16 * G + g) * kTileVectors + pair % 16;
  }
  static int64_t result_at(int64_t channel, int g, int64_t width) { return g * width + channel; }
  static Vector pack_weights(const Floats* p) { return bf16_pairs(p[0], p[1]); }
  static Floats exp2(Floats x) { return exp2_coarse(x); }

  // All eight tiles whole: 16 rows of 64 bytes.
  static void begin() {
    struct alignas(64) Config {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void end() { asm volatile("tilerelease"); }

  // Lane r: elements p[0] and p[1] of row r, one in each half; of `pair` 1 the first alone. Rows from `rows` on read as 0.
  static Words gather_pairs(const Raw* p, int64_t stride, int64_t rows, int64_t pair) {
    const auto mask = static_cast<__mmask16>(rows >= 16 ? 0xffff : (1 << rows) - 1);
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i at = _mm512_mullo_epi32(lane, _mm512_set1_epi32(static_cast<int>(stride)));
    if (pair == 2) return (Words)_mm512_mask_i32gather_epi32(_mm512_setzero_si512(), mask, at, p, 2);
    Words single{};  // reading a pair could pass the end of memory
    for (int64_t r = 0; r < rows && r < 16; r++) single[r] = p[r * stride];
    return single;
  }

  // keys [count / 16][chunks] tiles of 16 keys x 32 channels
  static int64_t keys_bytes(int64_t count, int64_t size) { return rounded_up(count, kPad) * chunks(size) * 64; }
  static void pack_keys(Raw* keys, const Raw* k, int64_t stride, int64_t count, int64_t size) {
    const int64_t n = chunks(size);
    __builtin_memset(keys, 0, static_cast<size_t>(keys_bytes(count, size)));
    for (int64_t t = 0; t < count; t++)
      for (int64_t d = 0; d < size; d += 32)
        __builtin_memcpy(keys + (t / 16 * n + d / 32) * 512 + t % 16 * 32, k + t * stride + d,
                         static_cast<size_t>(size - d < 32 ? size - d : 32) * sizeof(Raw));
  }

  // values [count / 32][width / 16] tiles of 16 channels x 32 keys
  static int64_t values_bytes(int64_t count, int64_t size) { return rounded_up(count, kPad) * width(size) * 2; }
  static void pack_values(Raw* values, const Raw* v, int64_t stride, int64_t count, int64_t size) {
    const int64_t columns = width(size);
    __builtin_memset(values, 0, static_cast<size_t>(values_bytes(count, size)));
    for (int64_t t = 0; t < count; t += 32, values += columns * 32) {
      for (int64_t d = 0; d < size; d += 2) {
        const int64_t pair = size - d < 2 ? 1 : 2, rows = count - t;
        const Raw* from = v + t * stride + d;
        const Words low = gather_pairs(from, stride, rows, pair);
        const Words high = rows > 16 ? gather_pairs(from + 16 * stride, stride, rows - 16, pair) : Words{};
        store_halves(values + d * 32, low, high);
        if (pair == 2) store_halves(values + (d + 1) * 32, low >> 16, high >> 16);
      }
      for (int64_t i = 0; i < 32 && t + i < count; i++) values[size * 32 + i] = kOne;
    }
  }
  static void store_halves(Raw* to, Words low, Words high) {
    const Halves first = __builtin_convertvector(low, Halves), second = __builtin_convertvector(high, Halves);
    __builtin_memcpy(to, &first, sizeof first);
    __builtin_memcpy(to + kLanes, &second, sizeof second);
  }

  static void pack(void* keys, void* values, const void* k, int64_t k_stride, const void* v, int64_t v_stride, int64_t count,
                   int64_t size) {
    pack_keys(static_cast<Raw*>(keys), static_cast<const Raw*>(k), k_stride, count, size);
    pack_values(static_cast<Raw*>(values), static_cast<const Raw*>(v), v_stride, count, size);
  }

  // [G][chunks] tiles of 16 pairs of channels x 16 rows
  template <int G>
  static void load_query(Vector* query, const Raw* q, int64_t stride, int64_t rows, int64_t size) {
    __builtin_memset(query, 0, static_cast<size_t>(query_vectors(size) * G) * sizeof(Vector));
    for (int64_t g = 0; g < G && g * 16 < rows; g++)
      for (int64_t d = 0; d < size; d += 2)
        query[g * query_vectors(size) + d / 2] =
            gather_pairs(q + g * 16 * stride + d, stride, rows - g * 16, size - d < 2 ? 1 : 2);
  }

  // Scores of `count` keys from `from` on: two tiles of keys and G of rows at a time.
  template <int G>
  static void scores(Rows<Tiles, G>& s, const void* all_keys, int64_t from, int64_t count, int64_t size) {
    const int64_t n = chunks(size);
    const auto* keys = static_cast<const Raw*>(all_keys) + from / 16 * n * 512;
    for (int64_t k = 0; k < count; k += 32, keys += 2 * n * 512) {
      tile_zero<0>();
      tile_zero<1>();
      if (G == 2) tile_zero<2>(), tile_zero<3>();
      for (int64_t c = 0; c < n; c++) {
        tile_load<4>(keys + c * 512);
        tile_load<6>(s.query + c * kTileVectors);
        tile_multiply_add<0, 4, 6>();
        tile_load<5>(keys + (n + c) * 512);
        tile_multiply_add<1, 5, 6>();
        if (G == 1) continue;
        tile_load<7>(s.query + (n + c) * kTileVectors);
        tile_multiply_add<2, 4, 7>();
        tile_multiply_add<3, 5, 7>();
      }
      tile_store<0>(s.score + score_at<G>(k, 0));
      tile_store<1>(s.score + score_at<G>(k + 16, 0));
      if (G == 1) continue;
      tile_store<2>(s.score + score_at<G>(k, G - 1));
      tile_store<3>(s.score + score_at<G>(k + 16, G - 1));
    }
  }

  // Adds `count` keys from `from` on to the results: D (1 or 2) tiles of channels from `channel` on,
  template <int G, int D>
  static void accumulate_tiles(Rows<Tiles, G>& s, const Raw* values, int64_t channel, int64_t count, int64_t width) {
    const auto result = [&](int64_t d, int g) { return s.result + result_at(channel + d, g, width); };
    tile_load<0>(result(0, 0));
    if (D == 2) tile_load<1>(result(16, 0));
    if (G == 2) tile_load<2>(result(0, G - 1));
    if (D == 2 && G == 2) tile_load<3>(result(16, G - 1));
    for (int64_t k = 0; k < count; k += 32) {
      const Raw* v = values + k * width + channel * 32;
      tile_load<4>(v);
      tile_load<6>(s.weight + weight_at<G>(k / 2, 0));
      tile_multiply_add<0, 4, 6>();
      if (D == 2) tile_load<5>(v + 512), tile_multiply_add<1, 5, 6>();
      if (G == 2) tile_load<7>(s.weight + weight_at<G>(k / 2, G - 1)), tile_multiply_add<2, 4, 7>();
      if (D == 2 && G == 2) tile_multiply_add<3, 5, 7>();
    }
    tile_store<0>(result(0, 0));
    if (D == 2) tile_store<1>(result(16, 0));
    if (G == 2) tile_store<2>(result(0, G - 1));
    if (D == 2 && G == 2) tile_store<3>(result(16, G - 1));
  }

  // or all of them.
  template <int G>
  static void accumulate(Rows<Tiles, G>& s, const void* all_values, int64_t from, int64_t count, int64_t width) {
    const auto* values = static_cast<const Raw*>(all_values) + from * width;
    int64_t channel = 0;
    for (; channel + 32 <= width; channel += 32) accumulate_tiles<G, 2>(s, values, channel, count, width);
    if (channel < width) accumulate_tiles<G, 1>(s, values, channel, count, width);
  }
};

}  // namespace

const AttentionKernels kAttentionBf16 = Flash<Tiles>::kKernels;

}  // namespace cudream::CUDREAM_ISA
