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
  static constexpr int64_t kBlock = 64, kStep = 32, kChannels = 32;

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

  // keys [count / 16][chunks] tiles of 16 keys x 32 channels; values [count / 32][width / 16] tiles of 16 channels x 32 keys.
  static int64_t keys_bytes(int64_t count, int64_t size) { return rounded_up(count, kStep) * chunks(size) * 64; }
  static int64_t values_bytes(int64_t count, int64_t size) { return rounded_up(count, kStep) * width(size) * 2; }
  static void pack(void* keys, void* values, const void* k, int64_t k_stride, const void* v, int64_t v_stride, int64_t count,
                   int64_t size) {
    auto *key = static_cast<Raw*>(keys), *value = static_cast<Raw*>(values);
    __builtin_memset(key, 0, static_cast<size_t>(keys_bytes(count, size)));
    __builtin_memset(value, 0, static_cast<size_t>(values_bytes(count, size)));
    const int64_t n = chunks(size), columns = width(size);
    for (int64_t t = 0; t < count; t++) {
      const Raw *k_row = static_cast<const Raw*>(k) + t * k_stride, *v_row = static_cast<const Raw*>(v) + t * v_stride;
      for (int64_t d = 0; d < size; d += 32)
        __builtin_memcpy(key + (t / 16 * n + d / 32) * 512 + t % 16 * 32, k_row + d,
                         static_cast<size_t>(size - d < 32 ? size - d : 32) * sizeof(Raw));
      Raw* to = value + t / 32 * columns * 32 + t % 32;
      for (int64_t d = 0; d < size; d++) to[d * 32] = v_row[d];
      to[size * 32] = kOne;
    }
  }

  // [G][chunks] tiles of 16 pairs of channels x 16 rows
  template <int G>
  static void load_query(Vector* query, const Raw* q, int64_t stride, int64_t rows, int64_t size) {
    auto* lanes = reinterpret_cast<Raw*>(query);
    __builtin_memset(lanes, 0, static_cast<size_t>(query_vectors(size) * G) * sizeof(Vector));
    const int64_t n = chunks(size);
    for (int64_t r = 0; r < rows; r++) {
      Raw* to = lanes + r / 16 * n * 512 + r % 16 * 2;
      for (int64_t d = 0; d < size; d += 2)
        __builtin_memcpy(to + d / 2 * 32, q + r * stride + d, (size - d < 2 ? 1 : 2) * sizeof(Raw));
    }
  }

  // Of kStep keys, two tiles, from `key` of the block that begins at `from`.
  template <int G>
  static void begin_scores(Rows<Tiles, G>& s, int64_t, const void* all_keys, int64_t from, int64_t key, int64_t size) {
    const int64_t n = chunks(size);
    const auto* keys = static_cast<const Raw*>(all_keys) + (from + key) / 16 * n * 512;
    tile_zero<0>();
    tile_zero<1>();
    if (G == 2) tile_zero<2>(), tile_zero<3>();
    for (int64_t c = 0; c < n; c++) {
      tile_load<4>(keys + c * 512);
      tile_load<5>(keys + (n + c) * 512);
      tile_load<6>(s.query + c * kTileVectors);
      tile_multiply_add<0, 4, 6>();
      tile_multiply_add<1, 5, 6>();
      if (G == 2) {
        tile_load<7>(s.query + (n + c) * kTileVectors);
        tile_multiply_add<2, 4, 7>();
        tile_multiply_add<3, 5, 7>();
      }
    }
  }

  template <int G>
  static void end_scores(Rows<Tiles, G>& s, int64_t block, int64_t key) {
    tile_store<0>(s.score[block] + score_at<G>(key, 0));
    tile_store<1>(s.score[block] + score_at<G>(key + 16, 0));
    if (G == 2) {
      tile_store<2>(s.score[block] + score_at<G>(key, 1));
      tile_store<3>(s.score[block] + score_at<G>(key + 16, 1));
    }
  }

  // D (1 or 2) tiles of channels from `channel` on.
  template <int G, int D>
  static void begin_tiles(Rows<Tiles, G>& s, const Vector* weight, const Raw* values, int64_t channel, int64_t count,
                          int64_t width) {
    tile_load<0>(s.result + result_at(channel, 0, width));
    if (D == 2) tile_load<1>(s.result + result_at(channel + 16, 0, width));
    if (G == 2) tile_load<2>(s.result + result_at(channel, G - 1, width));
    if (G == 2 && D == 2) tile_load<3>(s.result + result_at(channel + 16, G - 1, width));
    for (int64_t k = 0; k < count; k += 32) {
      const Raw* v = values + k * width + channel * 32;
      tile_load<6>(weight + weight_at<G>(k / 2, 0));
      tile_load<4>(v);
      tile_multiply_add<0, 4, 6>();
      if (D == 2) tile_load<5>(v + 512), tile_multiply_add<1, 5, 6>();
      if (G == 2) tile_load<7>(weight + weight_at<G>(k / 2, G - 1)), tile_multiply_add<2, 4, 7>();
      if (G == 2 && D == 2) tile_multiply_add<3, 5, 7>();
    }
  }

  // Adds `count` keys from `from` on to the results of kChannels channels, or of the 16 that are left.
  template <int G>
  static void begin_results(Rows<Tiles, G>& s, int64_t block, const void* all_values, int64_t from, int64_t count,
                            int64_t channel, int64_t width) {
    const auto* values = static_cast<const Raw*>(all_values) + from * width;
    if (channel + 32 <= width) {
      begin_tiles<G, 2>(s, s.weight[block], values, channel, count, width);
    } else {
      begin_tiles<G, 1>(s, s.weight[block], values, channel, count, width);
    }
  }

  template <int G>
  static void end_results(Rows<Tiles, G>& s, int64_t channel, int64_t width) {
    tile_store<0>(s.result + result_at(channel, 0, width));
    if (G == 2) tile_store<2>(s.result + result_at(channel, G - 1, width));
    if (channel + 32 > width) return;
    tile_store<1>(s.result + result_at(channel + 16, 0, width));
    if (G == 2) tile_store<3>(s.result + result_at(channel + 16, G - 1, width));
  }
};

}  // namespace

const AttentionKernels kAttentionBf16 = Flash<Tiles>::kKernels;

}  // namespace cudream::CUDREAM_ISA
