// Attention with AMX tiles.
//
// Rows of queries are the columns of a tile, so the vector code between the two products is the same as without tiles. All
// arrays are made of whole tiles of 1 KiB that lie together; head sizes are padded to 32 for scores, to 16 for results.
#include "kernels/cpu/simd_attention.h"
#include "kernels/cpu/simd_loops.h"
#include "kernels/cpu/simd_tiles.h"

namespace cudream::CUDREAM_ISA {
namespace {

constexpr uint16_t kOne = 0x3f80;  // bf16

struct TileUnit {
  using Type = Bf16;
  using Raw = uint16_t;
  using Vector = Words;
  static constexpr int64_t kPack = 2;
  static constexpr int kGroups = 2;
  static constexpr int64_t kBlock = 128, kPad = 32;

  static int64_t chunks(int64_t size) { return ceil_div(size, 32); }
  static int64_t width(int64_t size) { return rounded_up(size + 1, 16); }
  static int64_t sum_channel(int64_t size) { return size; }
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

  static void begin() { begin_tiles(); }
  static void end() { end_tiles(); }

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
  static void scores(Rows<TileUnit, G>& s, const void* all_keys, int64_t from, int64_t count, int64_t size) {
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
  static void accumulate_tiles(Rows<TileUnit, G>& s, const Raw* values, int64_t channel, int64_t count, int64_t width) {
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
  static void accumulate(Rows<TileUnit, G>& s, const void* all_values, int64_t from, int64_t count, int64_t width) {
    const auto* values = static_cast<const Raw*>(all_values) + from * width;
    int64_t channel = 0;
    for (; channel + 32 <= width; channel += 32) accumulate_tiles<G, 2>(s, values, channel, count, width);
    if (channel < width) accumulate_tiles<G, 1>(s, values, channel, count, width);
  }
};

}  // namespace

const AttentionKernels kAttentionBf16 = Flash<TileUnit>::kKernels;

}  // namespace cudream::CUDREAM_ISA
