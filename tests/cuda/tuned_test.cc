// The tuned kernels at the widths of real networks, on the virtual GPU: results against the reference device, tensor-core work
// and shared memory as planned, and a UNet in which every one of them runs.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "kernels/ops.h"
#include "kernels/reference/reference_device.h"
#include "kernels/weight.h"
#include "nets/unet.h"
#include "tests/cuda/launches.h"
#include "tests/cuda/open.h"
#include "tests/kernels/verb_cases.h"

namespace cudream {
namespace {

constexpr DType kHalves[] = {DType::f16, DType::bf16};

class Tuned : public testing::Test {
 protected:
  void SetUp() override {
    if (std::getenv("CUDREAM_LIBCUDA") == nullptr || cuda_or_null(DType::f16) == nullptr) GTEST_SKIP() << "needs the virtual GPU";
  }
  // The launch of the case's own kernel, behind those that pack weights.
  nlohmann::json last_launch() { return report_.take().back(); }

  LaunchReport report_;
};

// A kernel's error beside the distance between two 16-bit roundings of the result: 2^-11 and 2^-8, and a little more.
double tolerance(DType type) {
  return type == DType::f16 ? 8e-4 : 6e-3;
}

TEST_F(Tuned, AttentionAgreesAtRealWidths) {
  const auto reference = open_reference();
  std::set<std::string> ran;
  for (const VerbCase& c : network_verb_cases()) {
    const bool chosen =
        c.name.find("attention") == 0 && c.name.find("causal") == std::string::npos && c.flops > 1e6 && c.flops < 2.2e9;
    if (!chosen) continue;
    const std::vector<float> want = run_values(*reference, c, 1);
    for (const DType type : kHalves) {
      const auto device = cuda_or_null(type);
      EXPECT_LE(relative_l2(run_values(*device, c, 1), want), tolerance(type)) << c.name << " " << name_of(type);
      const nlohmann::json launch = last_launch();
      const std::string kernel = launch["kernel"];
      if (kernel.starts_with("attention_")) continue;  // heads of the demo model
      ran.insert(kernel);
      EXPECT_EQ(launch["shared_wavefronts"], launch["shared_ideal"]) << c.name << ": bank conflicts";
      // Whole tiles of queries and keys: every product that tensor cores make is one of attention's.
      if (c.name.find("x77 ") == std::string::npos && launch["grid"][0] > 1) {
        EXPECT_EQ(launch["mma_flops"], c.flops) << c.name;
      }
    }
  }
  for (const char* kernel : {"flash40", "flash64", "flash80", "flash160_small", "flash512"})
    for (const DType type : kHalves) EXPECT_TRUE(ran.contains(fmt::format("{}_{}", kernel, name_of(type)))) << kernel;
}

// What the launches read and wrote, as shares of `bytes`.
std::vector<double> shares(const std::vector<nlohmann::json>& launches, const std::vector<double>& bytes) {
  std::vector<double> found;
  for (size_t i = 0; i < bytes.size(); i++) {
    const nlohmann::json& l = launches[launches.size() - bytes.size() + i];
    found.push_back((l["global_read_bytes"].get<double>() + l["global_write_bytes"].get<double>()) / bytes[i]);
  }
  return found;
}

// GroupNorm's first kernel reads x, its second reads x and writes out; all others read and write once.
TEST_F(Tuned, NormsAndElementsMoveLittleMoreThanTheyMust) {
  for (const DType type : kHalves) {
    const auto device = cuda_or_null(type);
    VerbStage s(*device, 2);
    const auto expect = [&](const std::string& kernel, const std::vector<double>& bytes, const std::function<void()>& verb) {
      verb();
      device->download({}, View());  // waits
      const std::vector<nlohmann::json> launches = report_.take();
      EXPECT_EQ(launches.back()["kernel"], kernel);
      EXPECT_EQ(launches.back()["global_write_sectors"].get<double>() * 32, launches.back()["global_write_bytes"].get<double>());
      for (const double share : shares(launches, bytes)) EXPECT_LE(share, 1.1) << kernel;
    };
    const std::string end = fmt::format("_{}", name_of(type));
    for (const auto& [size, channels] : {std::pair<int64_t, int64_t>{32, 320}, {16, 640}, {16, 1920}, {8, 1280}, {64, 128}}) {
      const View x = s.input({size, size, channels}), y = s.output({size, size, channels});
      const Norm norm = s.norm(channels, 1e-5f);
      const auto bytes = static_cast<double>(x.bytes());
      expect("group_scale" + end, {bytes, 2 * bytes}, [&] { device->group_norm(y, x, norm, {32, Act::silu}); });
    }
    const View own = s.input({16, 16, 640}), more = s.input({16, 16, 320}), joined = s.output({16, 16, 960});
    const Norm of_both = s.norm(960, 1e-5f);
    const auto joined_bytes = static_cast<double>(joined.bytes());
    expect("group_scale" + end, {joined_bytes, 2 * joined_bytes}, [&] {
      device->joined_group_norm(joined, own, more, of_both, {32, Act::silu});
    });
    for (const auto& [rows, channels] : {std::pair<int64_t, int64_t>{1024, 320}, {256, 640}, {60, 1280}}) {
      const View x = s.input({rows, channels}), y = s.output({rows, channels});
      const Norm norm = s.norm(channels, 1e-5f);
      expect("layer_norm_vectors" + end, {2.0 * static_cast<double>(x.bytes())}, [&] { device->layer_norm(y, x, norm); });
    }
    const View both = s.input({256, 640}), left = both.slice(2, 0, 320), right = both.slice(2, 320, 640);
    const View y = s.output({256, 320}), wide = s.output({256, 320}, DType::f32);
    const auto bytes = static_cast<double>(y.bytes());
    expect("act_by8", {2 * bytes}, [&] { device->act(y, left, Act::gelu); });
    expect("multiply_by8", {3 * bytes}, [&] { device->multiply(y, left, right); });
    expect("copy_by4", {3 * bytes}, [&] { device->copy(wide, right); });
    const View a = s.input({5000}, DType::f32), b = s.input({5000}, DType::f32), w = s.input({5000}, DType::f32);
    const std::array<Term, 2> terms{Term{1, a}, Term{2, b}};
    const auto floats = static_cast<double>(a.bytes());
    expect("combine_by4", {3 * floats}, [&] { device->combine(a, terms); });
    expect("lerp_by4", {4 * floats}, [&] { device->lerp(a, a, b, w); });
  }
}

// A UNet with the heads of real ones, and everything else small.
UNetSpec narrow_unet() {
  return {.context = 64,
          .channels = {80, 128, 160, 320},
          .down_depth = {{1}, {1}, {1}, {1}},
          .up_depth = {{1, 1}, {1, 1}, {1, 1}, {1, 1}},
          .heads = {2, 2, 2, 2},
          .groups = 16};
}

std::vector<float> predict(Device& device) {
  WeightStore store;
  const UNet unet(store.root() / "unet", narrow_unet());
  uint32_t state = 1;
  const auto random = [&](int64_t n, double spread, float center) {
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) {
      state = state * 1664525u + 1013904223u;
      v = center + static_cast<float>(spread * (state * 0x1p-32 - 0.5));
    }
    return values;
  };
  for (size_t i = 0; i < store.requests().size(); i++) {
    const Shape& shape = store.requests()[i].weight.shape;
    const bool matrix = shape.rank > 1;
    const double fan_in = matrix ? static_cast<double>(shape.size() / shape[0]) : 1;
    const std::vector<float> values = random(shape.size(), matrix ? std::sqrt(12 / fan_in) : 0.1, matrix ? 0 : 1);
    store.fill(i, device, DType::f32, std::as_bytes(std::span(values)));
  }
  const std::vector<float> x = random(2 * 8 * 8 * 4, 3, 0), text = random(2 * 77 * 64, 3, 0), t = {500};
  Ops ops(device);
  std::vector<float> out;
  const auto body = [&] {
    const Tensor states = ops.upload(DType::f32, {2, 77, 64}, std::span<const float>(text));
    const Tensor context = ops.cast(states, device.info().compute);
    const std::vector<int32_t> lengths{77, 70};
    const PromptState prompt = unet.read(ops, {.context = context, .key_lengths = lengths});
    const Tensor noisy = ops.upload(DType::f32, {2, 8, 8, 4}, std::span<const float>(x));
    const Tensor latents = ops.cast(noisy, device.info().compute);
    const Tensor time = ops.upload(DType::f32, {1}, std::span<const float>(t));
    const Tensor times = unet.embed(ops, time, prompt);
    const Tensor half = unet.predict(ops, latents, times, prompt);
    const Tensor y = ops.cast(half, DType::f32);
    if (!ops.rehearsing()) out = ops.download(y);
  };
  ops.run(ops.rehearse(body), body);
  return out;
}

TEST_F(Tuned, EveryKernelRunsInAUNet) {
  const auto reference = open_reference();
  const std::vector<float> want = predict(*reference);
  for (const DType type : kHalves) {
    const auto device = cuda_or_null(type);
    EXPECT_LE(relative_l2(predict(*device), want), type == DType::f16 ? 1e-2 : 6e-2) << name_of(type);
    std::set<std::string> ran;
    for (const nlohmann::json& launch : report_.take()) ran.insert(launch["kernel"]);
    for (const char* kernel :
         {"flash40", "flash64", "flash80", "flash160_small", "group_sums", "group_scale", "layer_norm_vectors"})
      EXPECT_TRUE(ran.contains(fmt::format("{}_{}", kernel, name_of(type)))) << kernel << " never ran";
  }
}

}  // namespace
}  // namespace cudream
