// The networks against the reference implementation, block by block, on every device in float.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "core/error.h"
#include "kernels/open.h"
#include "loader/model.h"
#include "nets/clip.h"
#include "nets/controlnet.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

// A device with a golden model on it, and a file of expected values.
class NetworkTest : public testing::TestWithParam<std::tuple<const char*, const char*>> {
 protected:
  NetworkTest()
      : name_(std::get<0>(GetParam())),
        model_(open_model(golden_model(name_ == "lcm" || name_ == "taesd" ? name_ : name_ + ".safetensors"))),
        device_(open_device({.name = std::get<1>(GetParam()), .precision = DType::f32, .threads = 2})),
        ops_(*device_) {}

  // Asks for the weights of one part and fills them.
  template <typename Net, typename Spec>
  Net load(const char* part, const Spec& spec) {
    Net net(store_.root() / part, spec);
    load_weights(model_, store_, *device_);
    return net;
  }

  SafetensorsFile expected(const char* name) const { return SafetensorsFile(golden() / "golden" / name_ / name); }
  std::vector<float> values(const SafetensorsFile& file, const std::string& name) const {
    const TensorInfo& t = file.at(name);
    return channels_last(file.floats(t), shape_of(t));
  }
  Tensor input(const SafetensorsFile& file, const std::string& name) {
    const std::vector<float> v = values(file, name);
    return ops_.upload(DType::f32, channels_last(shape_of(file.at(name))), std::span<const float>(v));
  }

  // Runs `job` (rehearsed first), comparing every tapped value that `file` has under prefix + name.
  void compare(const SafetensorsFile& file, const std::string& prefix, double limit, const std::function<void()>& job) {
    int compared = 0;
    ops_.set_tap([&](const std::string& name, View x) {
      if (file.header().find(prefix + name) == nullptr) return;
      compared++;
      EXPECT_LE(relative_error(ops_.download(x), values(file, prefix + name)), limit) << name;
    });
    const Ops::Plan plan = ops_.rehearse(job);
    ops_.run(plan, job);
    ops_.set_tap({});
    EXPECT_GT(compared, 2);
  }

  void expect_equal(View got, const SafetensorsFile& file, const std::string& name, double limit) {
    if (ops_.rehearsing()) return;
    EXPECT_LE(relative_error(ops_.download(got), values(file, name)), limit) << name;
  }

  std::string name_;
  Model model_;
  std::unique_ptr<Device> device_;
  WeightStore store_;
  Ops ops_;
};

// Tolerances: the golden set's own, several times the distance of float32 from float64.
constexpr double kText = 1e-6, kNetwork = 5e-6;

class TextTest : public NetworkTest {};

TEST_P(TextTest, EncodersFollowTheReference) {
  const SafetensorsFile file = expected("text.safetensors");
  std::vector<ClipTextEncoder> encoders;
  for (const TextEncoderSpec& spec : model_.spec().text_encoders)
    encoders.emplace_back(store_.root() / (spec.projection > 0 ? "text_encoder_2" : "text_encoder"), spec);
  load_weights(model_, store_, *device_);
  for (const ClipTextEncoder& encoder : encoders) {
    const std::string part = encoder.spec().projection > 0 ? "text_encoder_2." : "text_encoder.";
    const std::vector<std::byte> raw = file.bytes(file.at(part + "ids"));
    compare(file, part, kText, [&] {
      const Tensor ids = ops_.upload(DType::i32, shape_of(file.at(part + "ids")), raw);
      const Tensor last = encoder(ops_, ids, 0, true), skipped = encoder(ops_, ids, 1, true);
      expect_equal(last, file, part + "last", kText);
      expect_equal(skipped, file, part + "skip1", kText);
    });
    if (encoder.spec().projection == 0) continue;
    std::vector<int32_t> ids(raw.size() / 4);
    std::memcpy(ids.data(), raw.data(), raw.size());
    std::vector<TextEnd> ends;
    for (auto row = ids.begin(); row != ids.end(); row += 77)
      ends.push_back({.row = (row - ids.begin()) / 77, .position = std::find(row, row + 77, 49407) - row});
    const auto pooled = [&](std::span<const TextEnd> texts) {
      std::vector<float> made;
      const auto job = [&] {
        const Tensor id = ops_.upload(DType::i32, {static_cast<int64_t>(ids.size()) / 77, 77}, std::span<const int32_t>(ids));
        const Tensor to = ops_.make(DType::f32, {static_cast<int64_t>(texts.size()), encoder.spec().projection});
        encoder.with_pooled(ops_, id, 1, false, texts, to);
        made = ops_.download(to);
      };
      ops_.run(ops_.rehearse(job), job);
      return made;
    };
    const std::vector<float> all = pooled(ends);
    EXPECT_LE(relative_error(all, values(file, part + "pooled")), kText) << part;
    // Of some rows alone the same bytes: a text of several chunks is pooled in its first.
    const auto last = all.end() - encoder.spec().projection;
    EXPECT_EQ(pooled({&ends.back(), 1}), std::vector(last, all.end())) << part;
  }
}

class UNetTest : public NetworkTest {};

TEST_P(UNetTest, FollowsTheReference) {
  const auto unet = load<UNet>("unet", *model_.spec().unet);
  const SafetensorsFile file = expected("unet.safetensors");
  const std::vector<int32_t> lengths{77, 77};
  compare(file, "at.", kNetwork, [&] {
    const Tensor context = input(file, "context"), sample = input(file, "sample"), timestep = input(file, "timestep");
    Conditions conditions{.context = context, .key_lengths = lengths};
    Tensor pooled, sizes, guidance;
    if (unet.spec().guidance_embedding > 0) {
      guidance = input(file, "w_embedding");
      conditions.guidance = guidance;
    }
    if (unet.spec().pooled_embedding > 0) {
      pooled = input(file, "pooled"), sizes = input(file, "time_ids");
      sizes = std::move(sizes).reshape({sizes.shape().size()});
      conditions.pooled = pooled, conditions.sizes = sizes;
    }
    const PromptState prompt = unet.read(ops_, conditions);
    const Tensor times = unet.embed(ops_, timestep, prompt);
    const Tensor out = unet.predict(ops_, sample, times, prompt);
    expect_equal(out, file, "out", kNetwork);
  });
}

class ControlNetTest : public NetworkTest {};

// The reference scaled its residuals by 0.9; they grow when those of another ControlNet are added to.
TEST_P(ControlNetTest, FollowsTheReference) {
  const auto net = load<ControlNet>("controlnet", *model_.spec().controlnet);
  const SafetensorsFile file = expected("controlnet.safetensors");
  const std::vector<int32_t> lengths{77, 77};
  const auto job = [&] {
    const Tensor context = input(file, "context"), sample = input(file, "sample"), timestep = input(file, "timestep"),
                 hint = input(file, "hint");
    const PromptState prompt = net.read(ops_, {.context = context, .key_lengths = lengths});
    const Tensor times = net.embed(ops_, timestep, prompt), seen = net.see(ops_, hint);
    std::vector<Tensor> residuals = net.predict(ops_, sample, seen, times, prompt, 0.5f, {});
    residuals = net.predict(ops_, sample, seen, times, prompt, 0.4f, std::move(residuals));
    ASSERT_EQ(residuals.size(), 13u);
    for (size_t i = 0; i + 1 < residuals.size(); i++) expect_equal(residuals[i], file, "down." + std::to_string(i), kNetwork);
    expect_equal(residuals.back(), file, "mid", kNetwork);
  };
  ops_.run(ops_.rehearse(job), job);
}

TEST_P(NetworkTest, AutoencoderEncodes) {
  const auto vae = load<Autoencoder>("vae", *model_.spec().vae);
  const SafetensorsFile file = expected("vae.safetensors");
  compare(file, "at.", kNetwork, [&] {
    const Tensor image = input(file, "image");
    const Tensor moments = vae.encode(ops_, image);
    const Tensor mean = ops_.cast(moments.slice(3, 0, 4), DType::f32),
                 log_variance = ops_.cast(moments.slice(3, 4, 8), DType::f32);
    expect_equal(mean, file, "mean", kNetwork);
    expect_equal(log_variance, file, "logvar", kNetwork);
    const Tensor latent = input(file, "z");
    const Tensor decoded = vae.decode(ops_, latent);
    expect_equal(decoded, file, "decoded", kNetwork);
  });
}

class TinyAutoencoderTest : public NetworkTest {};

// The reference's latents are those that a UNet reads: ours are to be scaled to them.
TEST_P(TinyAutoencoderTest, FollowsTheReference) {
  const auto vae = load<Autoencoder>("vae", *model_.spec().vae);
  const float scale = vae.spec().scaling_factor;
  const SafetensorsFile file(recorded_run("taesd/levels").string() + ".safetensors");
  compare(file, "at.", kNetwork, [&] {
    const Tensor image = input(file, "image"), encoded = vae.encode(ops_, image), latent = ops_.combine({{scale, encoded}});
    expect_equal(latent, file, "encoded", kNetwork);
    const Tensor z = input(file, "z"), unscaled = ops_.combine({{1 / scale, z}}), decoded = vae.decode(ops_, unscaled);
    expect_equal(decoded, file, "decoded", kNetwork);
  });
}

#ifndef CUDREAM_TEST_DEVICES
#define CUDREAM_TEST_DEVICES "reference", "cpu"
#endif
std::string name_of_case(const testing::TestParamInfo<std::tuple<const char*, const char*>>& info) {
  std::string name = std::string(std::get<0>(info.param)) + "_" + std::get<1>(info.param);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Devices, NetworkTest, testing::Combine(testing::Values("sd1"), testing::Values(CUDREAM_TEST_DEVICES)),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(Devices, TextTest,
                         testing::Combine(testing::Values("sd1", "sd2", "sdxl", "sdxl-refiner"),
                                          testing::Values(CUDREAM_TEST_DEVICES)),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(Devices, UNetTest,
                         testing::Combine(testing::Values("sd1", "sd2", "sdxl", "sdxl-refiner", "lcm"),
                                          testing::Values(CUDREAM_TEST_DEVICES)),
                         name_of_case);

INSTANTIATE_TEST_SUITE_P(Devices, ControlNetTest,
                         testing::Combine(testing::Values("controlnet-sd1"), testing::Values(CUDREAM_TEST_DEVICES)),
                         name_of_case);

INSTANTIATE_TEST_SUITE_P(Devices, TinyAutoencoderTest,
                         testing::Combine(testing::Values("taesd"), testing::Values(CUDREAM_TEST_DEVICES)), name_of_case);

// The full-size networks, rehearsed without weights: parameters, calls and memory are what the published ones have.
TEST(FullSize, Sd15) {
  WeightStore store;
  const UNet unet(store.root() / "unet", UNetSpec{});
  int64_t parameters = 0;
  for (const WeightRequest& r : store.requests()) parameters += r.weight.shape.size();
  EXPECT_EQ(parameters, 859520964);

  const auto device = open_device({.name = "cpu", .precision = DType::f32});
  Ops o(*device);
  const Ops::Plan plan = o.rehearse([&] {
    const Tensor x = o.make(DType::f32, {2, 64, 64, 4}), t = o.make(DType::f32, {1}), context = o.make(DType::f32, {2, 77, 768});
    const std::vector<int32_t> lengths{77, 77};
    const PromptState prompt = unet.read(o, {.context = context, .key_lengths = lengths});
    const Tensor times = unet.embed(o, t, prompt);
    const Tensor out = o.make(DType::f32, {2, 64, 64, 4});
    std::vector<View> reads = prompt.views();
    reads.insert(reads.end(), {x, times});
    o.stage("unet", reads, out, [&] { return unet.predict(o, x, times, prompt); });
  });
  const Ops::Stage& stage = plan.stages.at("unet");
  EXPECT_LE(static_cast<double>(stage.layout.bytes), 1.02 * static_cast<double>(stage.layout.lower_bound));
  EXPECT_EQ(stage.counts.at("attention").calls, 32);
  EXPECT_EQ(stage.counts.at("conv2d").calls, 52);
  // The reference counts 1606.6 GFLOP for two branches, text keys and values included.
  double flops = 0;
  int64_t calls = 0;
  for (const auto& [verb, count] : stage.counts) {
    flops += count.flops;
    calls += count.calls;
  }
  EXPECT_NEAR(flops / 1e9, 1606.6, 10);
  // 335 verbs of the network, two copies for each of its 12 concatenations (none where the device joins: cuda_step_test), and
  // the result's.
  EXPECT_EQ(calls, 335 + 24 + 1);
}

}  // namespace
}  // namespace cudream
