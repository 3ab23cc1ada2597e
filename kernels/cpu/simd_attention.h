// Attention that never stores the score matrix ("FlashAttention", Dao et al. 2022: running maximum and sum).
//
// Scores are computed transposed: query rows lie in the vector lanes, a few groups of kLanes rows at a time. So the maximum
// and the sum over keys are vertical. A Unit computes the two products and says how its arrays lie.
#pragma once

#include "kernels/cpu/simd.h"

namespace cudream::CUDREAM_ISA {
namespace {

constexpr float kMasked = -1e30f;  // a score that counts for nothing
constexpr int64_t kRun = 8;        // keys that are softened at a time: independent chains of instructions

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
inline int64_t rounded_up(int64_t a, int64_t b) {
  return ceil_div(a, b) * b;
}

// The state of G groups of rows, in scratch memory; what index a vector has is up to the Unit.
template <typename Unit, int G>
struct Rows {
  Floats* score;                  // kBlock keys
  typename Unit::Vector* weight;  // e^(score - maximum), kPack keys in a lane
  Floats* result;                 // width(size) channels; one of them is the sum of the weights
  typename Unit::Vector* query;
  Floats maximum[G];
};

// Unit has:
//  Type, Vector, kPack, kGroups; kBlock keys, kPad to a multiple of which their number is padded
//  width(size), sum_channel(size), query_vectors(size) per group
//  score_at<G>(key, group), weight_at<G>(key / kPack, group), result_at(channel, group, width)
//  keys_bytes, values_bytes, pack; load_query<G>; pack_weights, exp2
//  scores<G> and accumulate<G>, the two products; begin() and end() of a job
template <typename Unit>
struct Flash {
  using Raw = typename Unit::Type::Raw;
  static constexpr int64_t kPack = Unit::kPack, kBlock = Unit::kBlock;

  static int64_t scratch_bytes(int64_t size) {
    const int64_t vectors = Unit::query_vectors(size) + 2 * kBlock + rounded_up(Unit::width(size), kLanes);
    return vectors * Unit::kGroups * static_cast<int64_t>(sizeof(Floats));
  }

  // Keys [key, key + count) of which those from `end` on count for nothing, nor do keys after the row itself where
  // attention is causal.
  template <int G>
  static void mask(Floats* scores, int64_t key, int64_t count, int64_t end, int64_t row, bool causal) {
    for (int64_t k = causal ? 0 : (end > key ? end - key : 0); k < count; k++)
      for (int g = 0; g < G; g++) {
        Floats& score = scores[Unit::template score_at<G>(k, g)];
        for (int64_t i = 0; i < kLanes; i++)
          if (key + k >= end || (causal && key + k > row + g * kLanes + i)) score[i] = kMasked;
      }
  }

  // Scores become weights. What was summed with the old maximum is scaled to the new one.
  template <int G>
  static void soften(Rows<Unit, G>& s, int64_t count, float scale, int64_t width) {
    constexpr int64_t kNext = Unit::template score_at<G>(1, 0), kNextWeight = Unit::template weight_at<G>(1, 0);
    for (int g = 0; g < G; g++) {
      Floats top[kRun];
      for (int64_t i = 0; i < kRun; i++) top[i] = s.maximum[g];
      for (int64_t k = 0; k < count; k += kRun) {
        const Floats* score = s.score + Unit::template score_at<G>(k, g);
#pragma GCC unroll 8
        for (int64_t i = 0; i < kRun; i++) top[i] = larger(top[i], score[i * kNext]);
      }
      for (int64_t i = 1; i < kRun; i++) top[0] = larger(top[0], top[i]);
      const Floats offset = top[0] * scale, shrink = Unit::exp2(s.maximum[g] * scale - offset);
      s.maximum[g] = top[0];
      for (int64_t k = 0; k < count; k += kRun) {
        const Floats* score = s.score + Unit::template score_at<G>(k, g);
        auto* weight = s.weight + Unit::template weight_at<G>(k / kPack, g);
#pragma GCC unroll 8
        for (int64_t pair = 0; pair < kRun / kPack; pair++) {
          Floats w[kPack];
          for (int64_t i = 0; i < kPack; i++) w[i] = Unit::exp2(score[(pair * kPack + i) * kNext] * scale - offset);
          weight[pair * kNextWeight] = Unit::pack_weights(w);
        }
      }
      if (all_ones(shrink)) continue;
      for (int64_t d = 0; d < width; d++) s.result[Unit::result_at(d, g, width)] *= shrink;
    }
  }

  template <int G>
  static void store_rows(Rows<Unit, G>& s, Raw* out, int64_t stride, int64_t rows, int64_t size, int64_t width) {
    for (int g = 0; g < G; g++) {
      const Floats* result = s.result + Unit::result_at(0, g, width);
      alignas(sizeof(Floats)) float factor[kLanes];
      *reinterpret_cast<Floats*>(factor) = 1.0f / result[Unit::sum_channel(size)];
      for (int64_t i = 0; i < kLanes && g * kLanes + i < rows; i++)
        for_lanes(size, [&](int64_t d, int64_t lanes) {
          const Floats values = load_column(result + d, i);
          store<typename Unit::Type>(out + (g * kLanes + i) * stride + d, values * factor[i], lanes);
        });
    }
  }

  template <int G>
  static Rows<Unit, G> make_rows(const AttentionRows& a, int64_t width) {
    Rows<Unit, G> s;
    auto* at = static_cast<Floats*>(a.scratch);
    s.score = at;
    s.weight = reinterpret_cast<typename Unit::Vector*>(at + kBlock * G);
    at += 2 * kBlock * G;
    s.result = at;  // whole columns of kLanes channels are read at the end
    s.query = reinterpret_cast<typename Unit::Vector*>(at + rounded_up(width, kLanes) * G);
    for (int g = 0; g < G; g++) s.maximum[g] = splat(kMasked);
    for (int64_t i = 0; i < width * G; i++) s.result[i] = Floats{};
    return s;
  }

  // Rows [from, from + rows) of the job, at most G * kLanes.
  template <int G>
  static void block(const AttentionRows& a, int64_t from, int64_t rows) {
    const int64_t width = Unit::width(a.size), first = a.first + from;
    Rows<Unit, G> s = make_rows<G>(a, width);
    Unit::template load_query<G>(s.query, static_cast<const Raw*>(a.q) + from * a.q_stride, a.q_stride, rows, a.size);
    const int64_t end = a.causal && first + rows < a.count ? first + rows : a.count;
    for (int64_t k = 0; k < end; k += kBlock) {
      const int64_t count = rounded_up(end - k < kBlock ? end - k : kBlock, Unit::kPad);
      Unit::template scores<G>(s, a.keys, k, count, a.size);
      if (k + count > end || (a.causal && k + count > first + 1)) mask<G>(s.score, k, count, end, first, a.causal);
      soften<G>(s, count, a.scale * 1.44269504f, width);  // the exponential is one of base 2
      Unit::template accumulate<G>(s, a.values, k, count, width);
    }
    store_rows<G>(s, static_cast<Raw*>(a.out) + from * a.out_stride, a.out_stride, rows, a.size, width);
  }

  static void rows(const AttentionRows& a) {
    constexpr int64_t kMost = Unit::kGroups * kLanes;
    Unit::begin();
    int64_t from = 0;
    for (; from + kMost - kLanes < a.rows; from += kMost)
      block<Unit::kGroups>(a, from, a.rows - from < kMost ? a.rows - from : kMost);
    for (; from < a.rows; from += kLanes) block<1>(a, from, a.rows - from < kLanes ? a.rows - from : kLanes);
    Unit::end();
  }

  static constexpr AttentionKernels kKernels = {Unit::kGroups * kLanes, Unit::keys_bytes, Unit::values_bytes,
                                                scratch_bytes,          Unit::pack,       rows};
};

}  // namespace
}  // namespace cudream::CUDREAM_ISA
