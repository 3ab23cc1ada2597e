// Attention with vector instructions: one key or channel at a time is broadcast to all rows in the lanes, so no head size
// needs padding.
#include "kernels/cpu/simd_attention.h"

#include "kernels/cpu/simd_loops.h"

namespace cudream::CUDREAM_ISA {
namespace {

constexpr int64_t kUnroll = kLanes == 16 ? 8 : 4;  // accumulators: kGroups * kUnroll registers

// How products are summed: one float at a time,
struct Fma {
  using Type = F32;
  using Packed = float;  // what is broadcast: kPack elements along the axis that is summed over
  using Vector = Floats;
  static constexpr int64_t kPack = 1;
  static Vector ones() { return splat(1); }
  static Vector broadcast(Packed x) { return splat(x); }
  static Floats multiply_add(Floats c, Vector a, Vector b) { return c + a * b; }
  static Vector pack_weights(const Floats* p) { return p[0]; }
  static Floats exp2(Floats x) { return CUDREAM_ISA::exp2(x); }
};

#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
// or two bf16 at a time (VDPBF16PS).
struct Dot {
  using Type = Bf16;
  using Packed = uint32_t;
  using Vector = Words;
  static constexpr int64_t kPack = 2;
  static Vector ones() { return broadcast(0x3f803f80); }
  static Vector broadcast(Packed x) { return x - Words{}; }
  static Floats multiply_add(Floats c, Vector a, Vector b) {
    return (Floats)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  }
  static Vector pack_weights(const Floats* p) { return bf16_pairs(p[0], p[1]); }
  static Floats exp2(Floats x) { return exp2_coarse(x); }
};
#endif

template <typename Sum>
struct Lanewise : Sum {
  using Raw = typename Sum::Type::Raw;
  using Packed = typename Sum::Packed;
  using Vector = typename Sum::Vector;
  static constexpr int64_t kPack = Sum::kPack;
  static constexpr int kGroups = 3;
  static constexpr int64_t kBlock = 128, kPad = 8;

  static int64_t steps(int64_t size) { return ceil_div(size, kPack); }        // of the sum over a head
  static int64_t columns(int64_t size) { return rounded_up(size, kUnroll); }  // of a row of values
  static int64_t width(int64_t size) { return columns(size) + 1; }
  static int64_t sum_channel(int64_t size) { return columns(size); }
  static int64_t query_vectors(int64_t size) { return steps(size); }
  template <int G>
  static constexpr int64_t score_at(int64_t key, int g) {
    return key * G + g;
  }
  template <int G>
  static constexpr int64_t weight_at(int64_t pair, int g) {
    return pair * G + g;
  }
  static int64_t result_at(int64_t channel, int g, int64_t width) { return g * width + channel; }
  static void begin() {}
  static void end() {}

  // keys [count, padded][steps]; values [count / kPack, padded][columns], kPack keys beside each other. Padding is 0.
  static int64_t keys_bytes(int64_t count, int64_t size) {
    return rounded_up(count, kPad) * steps(size) * static_cast<int64_t>(sizeof(Packed));
  }
  static int64_t values_bytes(int64_t count, int64_t size) {
    return rounded_up(count, kPad) / kPack * columns(size) * static_cast<int64_t>(sizeof(Packed));
  }
  static void pack(void* keys, void* values, const void* k, int64_t k_stride, const void* v, int64_t v_stride, int64_t count,
                   int64_t size) {
    auto *key = static_cast<Raw*>(keys), *value = static_cast<Raw*>(values);
    __builtin_memset(key, 0, static_cast<size_t>(keys_bytes(count, size)));
    __builtin_memset(value, 0, static_cast<size_t>(values_bytes(count, size)));
    for (int64_t t = 0; t < count; t++) {
      const Raw *k_row = static_cast<const Raw*>(k) + t * k_stride, *v_row = static_cast<const Raw*>(v) + t * v_stride;
      __builtin_memcpy(key + t * steps(size) * kPack, k_row, static_cast<size_t>(size) * sizeof(Raw));
      Raw* to = value + t / kPack * columns(size) * kPack + t % kPack;
      for (int64_t d = 0; d < size; d++) to[d * kPack] = v_row[d];
    }
  }

  // [steps][G]
  template <int G>
  static void load_query(Vector* query, const Raw* q, int64_t stride, int64_t rows, int64_t size) {
    auto* lanes = reinterpret_cast<Raw*>(query);
    __builtin_memset(lanes, 0, static_cast<size_t>(steps(size) * G) * sizeof(Vector));
    for (int64_t r = 0; r < rows; r++)
      for (int64_t d = 0; d < size; d++)
        lanes[((d / kPack * G + r / kLanes) * kLanes + r % kLanes) * kPack + d % kPack] = q[r * stride + d];
  }

  // Scores of `count` keys from `from` on.
  template <int G>
  static void scores(Rows<Lanewise, G>& s, const void* all_keys, int64_t from, int64_t count, int64_t size) {
    const int64_t n = steps(size);
    const auto* keys = static_cast<const Packed*>(all_keys) + from * n;
    for (int64_t k = 0; k < count; k += kUnroll, keys += kUnroll * n) {
      Floats c[kUnroll][G] = {};
      for (int64_t p = 0; p < n; p++) {
#pragma GCC unroll 8
        for (int64_t i = 0; i < kUnroll; i++) {
          const Vector key = Sum::broadcast(keys[i * n + p]);
#pragma GCC unroll 4
          for (int g = 0; g < G; g++) c[i][g] = Sum::multiply_add(c[i][g], s.query[p * G + g], key);
        }
      }
#pragma GCC unroll 8
      for (int64_t i = 0; i < kUnroll; i++)
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) s.score[score_at<G>(k + i, g)] = c[i][g];
    }
  }

  // Adds `count` keys from `from` on to the results, of which the last is the sum of the weights.
  template <int G>
  static void accumulate(Rows<Lanewise, G>& s, const void* all_values, int64_t from, int64_t count, int64_t width) {
    const int64_t n = width - 1;
    const auto* values = static_cast<const Packed*>(all_values) + from / kPack * n;
    for (int64_t d = 0; d < n; d += kUnroll) {
      Floats c[kUnroll][G];
#pragma GCC unroll 8
      for (int64_t i = 0; i < kUnroll; i++)
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) c[i][g] = s.result[result_at(d + i, g, width)];
      for (int64_t k = 0; k < count / kPack; k++) {
#pragma GCC unroll 8
        for (int64_t i = 0; i < kUnroll; i++) {
          const Vector value = Sum::broadcast(values[k * n + d + i]);
#pragma GCC unroll 4
          for (int g = 0; g < G; g++) c[i][g] = Sum::multiply_add(c[i][g], s.weight[weight_at<G>(k, g)], value);
        }
      }
#pragma GCC unroll 8
      for (int64_t i = 0; i < kUnroll; i++)
#pragma GCC unroll 4
        for (int g = 0; g < G; g++) s.result[result_at(d + i, g, width)] = c[i][g];
    }
    Floats sum[G];
    for (int g = 0; g < G; g++) sum[g] = s.result[result_at(n, g, width)];
    for (int64_t k = 0; k < count / kPack; k++)
      for (int g = 0; g < G; g++) sum[g] = Sum::multiply_add(sum[g], s.weight[weight_at<G>(k, g)], Sum::ones());
    for (int g = 0; g < G; g++) s.result[result_at(n, g, width)] = sum[g];
  }
};

}  // namespace

const AttentionKernels kAttentionF32 = Flash<Lanewise<Fma>>::kKernels;
#if defined(__AVX512BF16__) && !defined(__AMX_BF16__)
const AttentionKernels kAttentionBf16 = Flash<Lanewise<Dot>>::kKernels;
#endif

}  // namespace cudream::CUDREAM_ISA
