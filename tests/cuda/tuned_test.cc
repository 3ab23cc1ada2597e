// The tuned kernels at the widths of real networks: results against the reference device; and, counted by the virtual GPU,
// tensor-core work and shared memory as planned, and that every one of them runs in a network.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "cli/launch_report.h"
#include "kernels/ops.h"
#include "kernels/reference/reference_device.h"
#include "kernels/weight.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "tests/cuda/open.h"
#include "tests/kernels/verb_cases.h"
#include "tests/kernels/verb_makers.h"

namespace cudream {
namespace {

constexpr DType kHalves[] = {DType::f16, DType::bf16};

class Tuned : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_or_null(DType::f16) == nullptr) GTEST_SKIP() << "no GPU here, real or virtual";
  }
  // The launch of the case's own kernel, behind those that pack weights.
  nlohmann::json last_launch() { return report_.take().back(); }

  LaunchReport report_;
};

class TunedCounts : public Tuned {
 protected:
  void SetUp() override {
    Tuned::SetUp();
    if (!is_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU counts";
  }
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
      if (!is_virtual_gpu()) continue;
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
  if (!is_virtual_gpu()) return;
  for (const char* kernel : {"flash40", "flash64", "flash80", "flash160_small", "flash512"})
    for (const DType type : kHalves) EXPECT_TRUE(ran.contains(fmt::format("{}_{}", kernel, name_of(type)))) << kernel;
}

// More than an A100 or a 4090 holds at once: chunks in turn.
TEST_F(Tuned, LargeGroupNormsAgree) {
  const auto reference = open_reference();
  for (const auto& [type, channels] : {std::pair{DType::f32, 480}, {DType::f16, 960}, {DType::bf16, 960}}) {
    const VerbCase c = makers::group_norm(128, 144, channels, 32, Act::silu, 3);
    const auto device = cuda_or_null(type);
    EXPECT_LE(relative_l2(run_values(*device, c, 1), run_values(*reference, c, 1)), type == DType::f32 ? 1e-5 : tolerance(type))
        << name_of(type);
    if (!is_virtual_gpu()) continue;
    EXPECT_EQ(last_launch()["kernel"], fmt::format("group_norm_large_{}", name_of(type)));
  }
}

// Each is one launch, which moves whole sectors of memory: what it must read and write once, and a tenth at most beside it.
TEST_F(TunedCounts, NormsAndElementsMoveLittleMoreThanTheyMust) {
  for (const DType type : kHalves) {
    const auto device = cuda_or_null(type);
    VerbStage s(*device, 2);
    const auto expect = [&](const std::string& kernel, double bytes, const std::function<void()>& verb) {
      device->download({}, View());  // waits for what packs weights
      report_.take();
      verb();
      device->download({}, View());
      const std::vector<nlohmann::json> launches = report_.take();
      ASSERT_EQ(launches.size(), 1u) << kernel;
      const nlohmann::json& launch = launches[0];
      EXPECT_EQ(launch["kernel"], kernel);
      const double sectors = launch["global_read_sectors"].get<double>() + launch["global_write_sectors"].get<double>();
      EXPECT_LE(32 * sectors / bytes, 1.1) << kernel << " of " << bytes << " bytes";
    };
    const std::string end = fmt::format("_{}", name_of(type));
    for (const auto& [size, channels] :
         {std::pair<int64_t, int64_t>{32, 320}, {16, 640}, {16, 1920}, {8, 1280}, {64, 128}, {64, 960}, {128, 960}}) {
      const View x = s.input({size, size, channels}), y = s.output({size, size, channels});
      const Norm norm = s.norm(channels, 1e-5f);
      const auto bytes = static_cast<double>(x.bytes());
      const char* kernel = size < 128 ? "group_norm_vectors" : "group_norm_large";
      expect(kernel + end, 2 * bytes, [&] { device->group_norm(y, x, norm, {32, Act::silu}); });
    }
    const View own = s.input({16, 16, 640}), more = s.input({16, 16, 320}), joined = s.output({16, 16, 960});
    const Norm of_both = s.norm(960, 1e-5f);
    const auto joined_bytes = static_cast<double>(joined.bytes());
    expect("group_norm_vectors" + end, 2 * joined_bytes, [&] {
      device->joined_group_norm(joined, own, more, of_both, {32, Act::silu});
    });
    for (const auto& [rows, channels] : {std::pair<int64_t, int64_t>{1024, 320}, {256, 640}, {60, 1280}}) {
      const View x = s.input({rows, channels}), y = s.output({rows, channels});
      const Norm norm = s.norm(channels, 1e-5f);
      expect("layer_norm_vectors" + end, 2.0 * static_cast<double>(x.bytes()), [&] { device->layer_norm(y, x, norm); });
    }
    const View both = s.input({256, 640}), left = both.slice(2, 0, 320), right = both.slice(2, 320, 640);
    const View y = s.output({256, 320}), wide = s.output({256, 320}, DType::f32);
    const auto bytes = static_cast<double>(y.bytes());
    expect("act_by8", 2 * bytes, [&] { device->act(y, left, Act::gelu); });
    expect("multiply_by8", 3 * bytes, [&] { device->multiply(y, left, right); });
    expect("copy_by4", 3 * bytes, [&] { device->copy(wide, right); });
    const View a = s.input({5000}, DType::f32), b = s.input({5000}, DType::f32), w = s.input({5000}, DType::f32);
    const std::array<Term, 2> terms{Term{1, a}, Term{2, b}};
    const auto floats = static_cast<double>(a.bytes());
    expect("combine_by4", 3 * floats, [&] { device->combine(a, terms); });
    expect("lerp_by4", 4 * floats, [&] { device->lerp(a, a, b, w); });
  }
}

// All lanes of a warp ask for their row's id, so 28 bytes are asked for where 24 must move. They lie in one place, which memory
// gives once; a shuffle from one lane would save nothing but the count.
TEST_F(TunedCounts, GatherMovesLittleMoreThanItMust) {
  constexpr int64_t kRows = 77, kWidth = 768;
  for (const DType type : kHalves) {
    const auto device = cuda_or_null(type);
    VerbStage s(*device, 1);
    const Weight* table = s.weight(Use::table, {1000, kWidth});
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < kRows; i++) ids.push_back(i * 389 % 1000);
    const View y = s.output({kRows, kWidth}, DType::f32), which = s.integers({1, kRows}, ids);
    device->gather(y, *table, which);
    device->download({}, View());  // waits
    const nlohmann::json launch = last_launch();
    EXPECT_EQ(launch["kernel"], "gather_by4");
    constexpr int64_t kVectors = kRows * kWidth / 4;
    EXPECT_EQ(launch["global_read_bytes"], kVectors * (8 + 4));
    EXPECT_EQ(launch["global_write_bytes"], kVectors * 16);
    const double moved = 32.0 * (launch["global_read_sectors"].get<double>() + launch["global_write_sectors"].get<double>());
    EXPECT_LE(moved / (24.0 * kVectors), 1.05);
  }
}

// n values from a state that goes on, uniform around `center`.
std::vector<float> uniform(uint32_t& state, int64_t n, double spread, float center) {
  std::vector<float> values(static_cast<size_t>(n));
  for (float& v : values) {
    state = state * 1664525u + 1013904223u;
    v = center + static_cast<float>(spread * (state * 0x1p-32 - 0.5));
  }
  return values;
}

// Weights that let values neither vanish nor grow; those below `left_out` get none.
void fill(WeightStore& store, Device& device, std::string_view left_out = "none") {
  uint32_t state = 1;
  for (size_t i = 0; i < store.requests().size(); i++) {
    const Weight& w = store.requests()[i].weight;
    if (w.name.starts_with(left_out)) continue;
    const bool matrix = w.shape.rank > 1;
    const double fan_in = matrix ? static_cast<double>(w.shape.size() / w.shape[0]) : 1;
    const std::vector<float> values = uniform(state, w.shape.size(), matrix ? std::sqrt(12 / fan_in) : 0.1, matrix ? 0 : 1);
    store.fill(i, device, DType::f32, std::as_bytes(std::span(values)));
  }
}

// A network as a test runs it: random weights, random inputs, what comes out.
using Network = std::vector<float> (*)(Device&);

// `calls`: how many verbs that takes.
std::vector<float> predict(Device& device, const UNetSpec& spec, const Shape& latents, int64_t* calls = nullptr) {
  WeightStore store;
  const UNet unet(store.root() / "unet", spec);
  fill(store, device);
  uint32_t state = 2;
  const int64_t pictures = latents[0];
  const std::vector<float> x = uniform(state, latents.size(), 3, 0), text = uniform(state, pictures * 77 * 64, 3, 0), t = {500};
  std::vector<int32_t> lengths{77, 70};
  lengths.resize(static_cast<size_t>(pictures));
  Ops ops(device);
  std::vector<float> out;
  const auto body = [&] {
    const Tensor states = ops.upload(DType::f32, {pictures, 77, 64}, std::span<const float>(text));
    const Tensor context = ops.cast(states, ops.compute());
    const PromptState prompt = unet.read(ops, {.context = context, .key_lengths = lengths});
    const Tensor noisy = ops.upload(DType::f32, latents, std::span<const float>(x));
    const Tensor given = ops.cast(noisy, ops.compute());
    const Tensor time = ops.upload(DType::f32, {1}, std::span<const float>(t));
    const Tensor times = unet.embed(ops, time, prompt);
    const Tensor predicted = unet.predict(ops, given, times, prompt);
    const Tensor y = ops.cast(predicted, DType::f32);
    out = ops.download(y);
  };
  const Ops::Plan plan = ops.rehearse(body);
  ops.run(plan, body);
  if (calls != nullptr)
    for (const auto& [verb, count] : plan.counts) *calls += count.calls;
  return out;
}

// A UNet with the heads of real ones, and everything else small.
UNetSpec narrow_spec() {
  return {.context = 64,
          .channels = {80, 128, 160, 320},
          .down_depth = {{1}, {1}, {1}, {1}},
          .up_depth = {{1, 1}, {1, 1}, {1, 1}, {1, 1}},
          .heads = {2, 2, 2, 2},
          .groups = 16};
}
std::vector<float> narrow_unet(Device& device) {
  return predict(device, narrow_spec(), {2, 8, 8, 4});
}

// One transformer whose head of 160 sees more than the 256 pixels at which the tile of 128 queries begins.
std::vector<float> wide_level(Device& device) {
  return predict(device,
                 {.context = 64,
                  .channels = {160},
                  .down_depth = {{1}},
                  .up_depth = {{0, 0}},
                  .heads = {1},
                  .mid_resnets = 0,
                  .mid_depth = 0,
                  .groups = 16},
                 {1, 17, 16, 4});
}

// The middle of an autoencoder of real width, and one residual block.
std::vector<float> decoder(Device& device) {
  WeightStore store;
  const Autoencoder vae(store.root() / "vae", {.channels = {512}, .layers = 0});
  fill(store, device, "vae.encoder.");
  uint32_t state = 2;
  const Shape shape{1, 5, 8, 4};
  const std::vector<float> latents = uniform(state, shape.size(), 3, 0);
  Ops ops(device);
  std::vector<float> out;
  const auto body = [&] {
    const Tensor x = ops.upload(DType::f32, shape, std::span<const float>(latents));
    const Tensor y = vae.decode(ops, x);
    out = ops.download(y);
  };
  ops.run(ops.rehearse(body), body);
  return out;
}

// So the calls of a step are its launches (step_test.cc).
TEST_F(TunedCounts, ACallIsALaunch) {
  const auto device = cuda_or_null(DType::f16);
  WeightStore store;
  const UNet unet(store.root() / "unet", narrow_spec());
  fill(store, *device);
  device->download({}, View());  // waits
  const size_t packing = report_.take().size();
  int64_t calls = 0;
  predict(*device, narrow_spec(), {2, 8, 8, 4}, &calls);
  EXPECT_EQ(static_cast<int64_t>(report_.take().size() - packing), calls);
}

TEST_F(Tuned, NetworksAgreeAndEveryKernelRunsInOne) {
  const auto reference = open_reference();
  const std::pair<Network, std::vector<const char*>> networks[] = {
      {narrow_unet, {"flash40", "flash64", "flash80", "flash160_small", "group_norm_vectors", "layer_norm_vectors"}},
      {wide_level, {"flash160"}},
      {decoder, {"flash512", "conv_few"}}};
  for (const auto& [network, kernels] : networks) {
    const std::vector<float> want = network(*reference);
    for (const DType type : kHalves) {
      const auto device = cuda_or_null(type);
      EXPECT_LE(relative_l2(network(*device), want), type == DType::f16 ? 1e-2 : 6e-2) << kernels.front() << ' ' << name_of(type);
      if (!is_virtual_gpu()) continue;
      std::set<std::string> ran;
      for (const nlohmann::json& launch : report_.take()) ran.insert(launch["kernel"]);
      for (const char* kernel : kernels)
        EXPECT_TRUE(ran.contains(fmt::format("{}_{}", kernel, name_of(type)))) << kernel << " never ran";
    }
  }
}

}  // namespace
}  // namespace cudream
