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

// The state of G groups of rows, in scratch memory; what index a vector has is up to the Unit. Two blocks of keys are under
// way at once, so there are two of what belongs to a block.
template <typename Unit, int G>
struct Rows {
  Floats* score[2];                  // kBlock keys
  typename Unit::Vector* weight[2];  // e^(score - maximum), kPack keys in a lane
  Floats* result;                    // width(size) channels; after the last of the head, the sum of the weights
  typename Unit::Vector* query;
  float* row;  // [kLanes][width]
  Floats maximum[G], offset[G], shrink[G];
};

// Unit has:
//  Type, Vector, kPack, kGroups, kBlock (keys), kStep (keys; their number is padded to a multiple of it)
//  width(size), more than size; query_vectors(size) per group
//  score_at<G>(key, group), weight_at<G>(key / kPack, group), result_at(channel, group, width)
//  keys_bytes, values_bytes, pack (with a channel of ones after the last); load_query<G>; pack_weights, exp2
//  begin_scores<G>, end_scores<G>; begin_results<G>, end_results<G> (kChannels at a time): the two products
//  begin(), end() of a job
template <typename Unit>
struct Flash {
  using Raw = typename Unit::Type::Raw;
  static constexpr int64_t kPack = Unit::kPack, kBlock = Unit::kBlock, kStep = Unit::kStep;

  static int64_t scratch_bytes(int64_t size) {
    const int64_t vectors = Unit::query_vectors(size) + 4 * kBlock + rounded_up(Unit::width(size), kLanes);
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

  // The new maximum, and what results summed with the old one must be multiplied by.
  template <int G>
  static void find_maximum(Rows<Unit, G>& s, const Floats* scores, int64_t count, float scale) {
    constexpr int64_t kNext = Unit::template score_at<G>(1, 0);
    for (int g = 0; g < G; g++) {
      Floats top[kRun];
      for (int64_t i = 0; i < kRun; i++) top[i] = s.maximum[g];
      for (int64_t k = 0; k < count; k += kRun) {
        const Floats* score = scores + Unit::template score_at<G>(k, g);
#pragma GCC unroll 8
        for (int64_t i = 0; i < kRun; i++) top[i] = larger(top[i], score[i * kNext]);
      }
      for (int64_t i = 1; i < kRun; i++) top[0] = larger(top[0], top[i]);
      s.shrink[g] = Unit::exp2((s.maximum[g] - top[0]) * scale);
      s.offset[g] = top[0] * scale;
      s.maximum[g] = top[0];
    }
  }

  // Scores of keys [key, key + kStep / 2) of a block become weights.
  template <int G>
  static void soften(Rows<Unit, G>& s, int64_t block, int64_t key, float scale) {
    constexpr int64_t kNext = Unit::template score_at<G>(1, 0), kNextWeight = Unit::template weight_at<G>(1, 0);
    for (int g = 0; g < G; g++)
      for (int64_t k = key; k < key + kStep / 2; k += kRun) {
        const Floats* score = s.score[block] + Unit::template score_at<G>(k, g);
        auto* weight = s.weight[block] + Unit::template weight_at<G>(k / kPack, g);
#pragma GCC unroll 8
        for (int64_t pair = 0; pair < kRun / kPack; pair++) {
          Floats w[kPack];
          for (int64_t i = 0; i < kPack; i++) w[i] = Unit::exp2(score[(pair * kPack + i) * kNext] * scale - s.offset[g]);
          weight[pair * kNextWeight] = Unit::pack_weights(w);
        }
      }
  }

  template <int G>
  static void shrink_results(Rows<Unit, G>& s, int64_t width) {
    for (int g = 0; g < G; g++) {
      if (all_ones(s.shrink[g])) continue;
      for (int64_t d = 0; d < width; d++) s.result[Unit::result_at(d, g, width)] *= s.shrink[g];
    }
  }

  template <int G>
  static void store_rows(Rows<Unit, G>& s, Raw* out, int64_t stride, int64_t rows, int64_t size, int64_t width) {
    for (int g = 0; g < G; g++) {
      const Floats* result = s.result + Unit::result_at(0, g, width);
      alignas(sizeof(Floats)) float factor[kLanes];
      *reinterpret_cast<Floats*>(factor) = 1.0f / result[size];
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
    for (Floats*& score : s.score) score = at, at += kBlock * G;
    for (auto*& weight : s.weight) weight = reinterpret_cast<typename Unit::Vector*>(at), at += kBlock * G;
    s.result = at;  // whole columns of kLanes channels are read at the end
    s.query = reinterpret_cast<typename Unit::Vector*>(at + rounded_up(width, kLanes) * G);
    for (int g = 0; g < G; g++) s.maximum[g] = splat(kMasked);
    for (int64_t i = 0; i < width * G; i++) s.result[i] = Floats{};
    return s;
  }

  // Rows [from, from + rows) of the job, at most G * kLanes. While a block's scores become weights, a little at a time, the
  // scores of the next block and the results of the one before are computed: the two kinds of work use different parts of
  // a core, which runs them side by side only when they are close together in the program.
  template <int G>
  static void block(const AttentionRows& a, int64_t from, int64_t rows) {
    const int64_t width = Unit::width(a.size), first = a.first + from;
    const float scale = a.scale * 1.44269504f;  // the exponential is one of base 2
    Rows<Unit, G> s = make_rows<G>(a, width);
    Unit::template load_query<G>(s.query, static_cast<const Raw*>(a.q) + from * a.q_stride, a.q_stride, rows, a.size);

    const int64_t end = a.causal && first + rows < a.count ? first + rows : a.count;
    const auto count_at = [&](int64_t key) {
      return key >= end ? 0 : rounded_up(end - key < kBlock ? end - key : kBlock, kStep);
    };
    const auto mask_block = [&](int64_t now, int64_t key, int64_t count) {
      if (key + count > end || (a.causal && key + count > first + 1)) mask<G>(s.score[now], key, count, end, first, a.causal);
    };
    for (int64_t k = 0; k < count_at(0); k += kStep) {
      Unit::template begin_scores<G>(s, 0, a.keys, 0, k, a.size);
      Unit::template end_scores<G>(s, 0, k);
    }
    mask_block(0, 0, count_at(0));
    int64_t now = 0;
    for (int64_t key = 0; key < end; key += kBlock, now ^= 1) {
      const int64_t count = count_at(key), next = count_at(key + kBlock), before = key > 0 ? kBlock : 0;
      find_maximum<G>(s, s.score[now], count, scale);
      // Between the start and the end of a product stands what the vector unit does meanwhile.
      const int64_t channels = rounded_up(ceil_div(width * kStep, count), Unit::kChannels);  // of results, in each step
      int64_t channel = before > 0 ? 0 : width;
      for (int64_t k = 0; k < count; k += kStep) {
        if (k < next) Unit::template begin_scores<G>(s, now ^ 1, a.keys, key + kBlock, k, a.size);
        soften<G>(s, now, k, scale);
        if (k < next) Unit::template end_scores<G>(s, now ^ 1, k);
        const int64_t to = channel + channels < width ? channel + channels : width;
        for (bool softened = false; channel < to || !softened; channel += Unit::kChannels) {
          if (channel < to) Unit::template begin_results<G>(s, now ^ 1, a.values, key - kBlock, before, channel, width);
          if (!softened) soften<G>(s, now, k + kStep / 2, scale), softened = true;
          if (channel < to) Unit::template end_results<G>(s, channel, width);
        }
      }
      mask_block(now ^ 1, key + kBlock, next);
      shrink_results<G>(s, width);
    }
    const int64_t last = (end - 1) / kBlock * kBlock;
    for (int64_t channel = 0; channel < width; channel += Unit::kChannels) {
      Unit::template begin_results<G>(s, now ^ 1, a.values, last, count_at(last), channel, width);
      Unit::template end_results<G>(s, channel, width);
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
