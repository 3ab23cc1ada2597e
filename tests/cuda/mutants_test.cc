// The checks have teeth: tuned kernels with one line broken (mutate.py), each of which must fault in the virtual GPU or give a
// wrong result, and the same kernels unbroken, which must pass.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>

#include "core/half.h"
#include "kernels/cuda/args.h"
#include "tests/vgpu/selftest/virtual_card.h"

namespace cudream {
namespace {

using vgpu::CardArray;
using vgpu::check;
using vgpu::VirtualCard;

constexpr double kTolerance = 2e-3;  // of the norm; float16 rounds to 5e-4

std::vector<f16> random_halves(size_t n, float scale) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0, scale);
  std::vector<f16> values;
  for (size_t i = 0; i < n; i++) values.push_back(f16(normal(random)));
  return values;
}

template <typename T>
const void* pointer(const CardArray<T>& array) {
  return reinterpret_cast<const void*>(
      array.get());  // NOLINT(performance-no-int-to-ptr): the driver counts addresses in integers
}

template <typename Params>
bool launch(const VirtualCard& card, const char* name, std::array<unsigned, 3> grid, unsigned threads, unsigned shared,
            Params p) {
  void* parameters[] = {&p};
  check(cuLaunchKernel(card.function(name), grid[0], grid[1], grid[2], threads, 1, 1, shared, nullptr, parameters, nullptr),
        name);
  return cuCtxSynchronize() == CUDA_SUCCESS;
}

// Whether `got` is `want` but for rounding.
bool near(const std::vector<f16>& got, const std::vector<double>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i++) {
    difference += std::pow(static_cast<double>(static_cast<float>(got[i])) - want[i], 2);
    norm += want[i] * want[i];
  }
  return std::sqrt(difference / norm) < kTolerance;  // false for NaN
}

// Two heads over four tiles of keys, the last of them ragged. `spread` is of the queries: 12 makes maxima grow, with 0.1 every
// key counts about as much as any other.
bool attention_passes(const VirtualCard& card, int size, float spread) {
  const int heads = 2, length = 130, keys = 200, width = heads * size;
  const std::vector<f16> q = random_halves(static_cast<size_t>(length * width), spread),
                         k = random_halves(static_cast<size_t>(keys * width), 1), v = k;
  const auto at = [&](const std::vector<f16>& x, int row, int head, int i) {
    return static_cast<double>(static_cast<float>(x[static_cast<size_t>(row * width + head * size + i)]));
  };
  const double scale = 1 / std::sqrt(size);
  std::vector<double> want(q.size()), weights(static_cast<size_t>(keys));
  for (int head = 0; head < heads; head++)
    for (int row = 0; row < length; row++) {
      double most = -INFINITY, sum = 0;
      for (int key = 0; key < keys; key++) {
        double score = 0;
        for (int i = 0; i < size; i++) score += at(q, row, head, i) * at(k, key, head, i);
        weights[static_cast<size_t>(key)] = score * scale;
        most = std::max(most, score * scale);
      }
      for (double& w : weights) sum += w = std::exp(w - most);
      for (int key = 0; key < keys; key++)
        for (int i = 0; i < size; i++)
          want[static_cast<size_t>(row * width + head * size + i)] +=
              weights[static_cast<size_t>(key)] / sum * at(v, key, head, i);
    }
  const CardArray<f16> dq(q), dk(k), dv(v), out(q.size());
  const auto tokens = [&](const CardArray<f16>& x) { return Tokens{pointer(x), 0, width}; };
  const AttentionParams p{.q = tokens(dq),
                          .k = tokens(dk),
                          .v = tokens(dv),
                          .out = const_cast<void*>(pointer(out)),
                          .length = length,
                          .keys = keys,
                          .heads = heads,
                          .size = size,
                          .log2_scale = static_cast<float>(scale * 1.4426950408889634)};
  const std::string name = fmt::format("flash{}_f16", size);
  return launch(card, name.c_str(), {2, 2, 1}, 128, static_cast<unsigned>(512 * size), p) && near(out.values(), want);
}

// Two pictures of two chunks in turn, by three slices, the last of them shorter; of each slice some pixels are held, some kept,
// some read again. Twice, as the barrier is used again.
bool group_norm_passes(const VirtualCard& card) {
  const int pictures = 2, pixels = 500, channels = 64, groups = 8, each = channels / groups, slice = 200, rows = 32, held = 1;
  const int chunks = 2, chunk = channels / chunks;
  const std::vector<f16> x = random_halves(static_cast<size_t>(pictures * pixels * channels), 3);
  std::vector<double> want(x.size());
  for (int part = 0; part < pictures * groups; part++) {
    const int first = part / groups * pixels, group = part % groups;
    double sum = 0, squares = 0;
    const auto each_element = [&](const auto& body) {
      for (int pixel = first; pixel < first + pixels; pixel++)
        for (int c = group * each; c < (group + 1) * each; c++) body(static_cast<size_t>(pixel * channels + c));
    };
    each_element([&](size_t i) { sum += static_cast<float>(x[i]); });
    const double mean = sum / (pixels * each);
    each_element([&](size_t i) { squares += std::pow(static_cast<float>(x[i]) - mean, 2); });
    each_element([&](size_t i) { want[i] = (static_cast<float>(x[i]) - mean) / std::sqrt(squares / (pixels * each) + 1e-5); });
  }
  const CardArray<f16> in(x), out(x.size());
  const CardArray<float> gain(std::vector<float>(channels, 1)), bias(std::vector<float>(channels, 0)),
      moments(2 * 3 * groups / chunks * 4);
  const CardArray<unsigned> barrier(std::vector<unsigned>{0});
  const SliceParams p{.norm = {.x = pointer(in),
                               .out = const_cast<void*>(pointer(out)),
                               .gain = static_cast<const float*>(pointer(gain)),
                               .bias = static_cast<const float*>(pointer(bias)),
                               .pixels = pixels,
                               .channels = channels,
                               .own_channels = channels,
                               .groups = groups,
                               .eps = 1e-5f,
                               .act = Act::none},
                      .moments = const_cast<void*>(pointer(moments)),
                      .barriers = static_cast<unsigned*>(const_cast<void*>(pointer(barrier))),
                      .parts = pictures * chunks,
                      .slice = slice,
                      .chunks = chunks,
                      .chunk = chunk,
                      .groups = groups / chunks,
                      .each = each,
                      .rows = rows,
                      .runs = 1,
                      .held = held};
  const unsigned vector_bytes = rows * chunk * 2, sums_bytes = rows * chunk / 8 * SliceParams::kRunBytes + chunk * 12;
  for (int turn = 0; turn < 2; turn++) {
    check(card.launch_together("group_norm_vectors_f16", 3, 128, held * vector_bytes + sums_bytes, p), "group_norm_vectors_f16");
    if (cuCtxSynchronize() != CUDA_SUCCESS || !near(out.values(), want)) return false;
  }
  return true;
}

class Mutant : public testing::TestWithParam<std::string> {};

TEST_P(Mutant, IsCaught) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";  // a fault ends the context, so each has a process of its own
  const std::string name = GetParam();
  const auto run = [&] {
    VirtualCard card;
    card.load(name + ".ptx");
    const bool passes =
        name.starts_with("flash") ? attention_passes(card, 40, 0.1f) && attention_passes(card, 64, 12) : group_norm_passes(card);
    std::_Exit(passes ? 0 : 1);
  };
  const bool whole = name == "flash" || name == "norm";
  EXPECT_EXIT(run(), testing::ExitedWithCode(whole ? 0 : 1), "");
}

std::vector<std::string> names() {
  std::vector<std::string> all(1);
  for (const char c : std::string_view(CUDREAM_MUTANTS)) {
    if (c == ',')
      all.emplace_back();
    else
      all.back() += c;
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Kernels, Mutant, testing::ValuesIn(names()), [](const auto& mutant) { return mutant.param; });

}  // namespace
}  // namespace cudream
