// Single operations against the reference implementation's, on inputs chosen so that small mistakes show: epsilons, large
// attention scores, asymmetric padding, fp8 codes. On every device in float.
#include <gtest/gtest.h>

#include "kernels/open.h"
#include "kernels/ops.h"
#include "kernels/weight.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

// The nearly constant input of the norms was normalized in float32 by the reference: 1.2e-5 from the exact result.
constexpr double kLimit = 2e-5;

class GoldenOps : public testing::TestWithParam<const char*> {
 protected:
  GoldenOps()
      : file_(golden() / "ops" / "ops.safetensors"),
        device_(open_device({.name = GetParam(), .precision = DType::f32})),
        ops_(*device_) {}

  std::vector<float> values(const std::string& name) const { return file_.floats(file_.at(name)); }
  Tensor input(const std::string& name) {
    const Shape shape = shape_of(file_.at(name));
    const std::vector<float> v = channels_last(values(name), shape);
    return ops_.upload(DType::f32, channels_last(shape), std::span<const float>(v));
  }
  // Fills what layers of the store asked for, in their order, from recorded tensors.
  void fill(std::initializer_list<std::string> names) {
    size_t i = 0;
    for (const std::string& name : names)
      store_.fill(i++, *device_, DType::f32, std::as_bytes(std::span<const float>(values(name))));
  }
  Norm recorded_norm(const std::string& op, int64_t channels, float eps) {
    const Norm n = norm(store_.root() / op, channels, eps);
    fill({op + "/weight", op + "/bias"});
    return n;
  }
  // Runs `body` and compares its result with what was recorded.
  void expect(const std::string& op, const std::function<Tensor()>& body) {
    const auto job = [&] {
      const Tensor out = body();
      if (ops_.rehearsing()) return;
      const TensorInfo& want = file_.at(op + "/out");
      EXPECT_LE(relative_error(ops_.download(out), channels_last(file_.floats(want), shape_of(want))), kLimit) << op;
    };
    const Ops::Plan plan = ops_.rehearse(job);
    ops_.run(plan, job);
  }

  SafetensorsFile file_;
  std::unique_ptr<Device> device_;
  WeightStore store_;
  Ops ops_;
};

TEST_P(GoldenOps, GroupNormWithEps1e5) {
  const Norm n = recorded_norm("group_norm_32_eps1e-05", 64, 1e-5f);
  expect("group_norm_32_eps1e-05", [&] {
    const Tensor x = input("group_norm_32_eps1e-05/x");
    return ops_.group_norm(x, n, {.groups = 32});
  });
}
TEST_P(GoldenOps, GroupNormWithEps1e6) {
  const Norm n = recorded_norm("group_norm_32_eps1e-06", 64, 1e-6f);
  expect("group_norm_32_eps1e-06", [&] {
    const Tensor x = input("group_norm_32_eps1e-06/x");
    return ops_.group_norm(x, n, {.groups = 32});
  });
}
TEST_P(GoldenOps, GroupNormOfOffsetData) {
  const Norm n = recorded_norm("group_norm_8_silu", 64, 1e-5f);
  expect("group_norm_8_silu", [&] {
    const Tensor x = input("group_norm_8_silu/x");
    return ops_.group_norm(x, n, {.groups = 8, .act = Act::silu});
  });
}
TEST_P(GoldenOps, LayerNorm) {
  const Norm n = recorded_norm("layer_norm_eps1e-05", 40, 1e-5f);
  expect("layer_norm_eps1e-05", [&] {
    const Tensor x = input("layer_norm_eps1e-05/x");
    return ops_.layer_norm(x, n);
  });
}

TEST_P(GoldenOps, Activations) {
  const std::pair<const char*, Act> acts[] = {{"silu", Act::silu}, {"gelu_erf", Act::gelu}, {"quick_gelu", Act::quick_gelu}};
  for (const auto& [op, act] : acts)
    expect(op, [&, name = std::string(op), a = act] {
      const Tensor x = input(name + "/x");
      return ops_.act(x, a);
    });
}
TEST_P(GoldenOps, Geglu) {  // through a matrix that changes nothing
  constexpr int64_t kWidth = 24;
  const Linear l = linear(store_.root() / "geglu", kWidth, kWidth, false, Use::geglu);
  std::vector<float> identity(kWidth * kWidth, 0.f);
  for (size_t i = 0; i < kWidth; i++) identity[i * kWidth + i] = 1;
  store_.fill(0, *device_, DType::f32, std::as_bytes(std::span<const float>(identity)));
  expect("geglu", [&] {
    const Tensor x = input("geglu/x");
    return ops_.geglu(x, l);
  });
}

TEST_P(GoldenOps, Sinusoids) {
  for (const int64_t width : {int64_t{320}, int64_t{256}}) {
    const std::string op = "timestep_embedding_" + std::to_string(width);
    expect(op, [&] {
      const Tensor t = input(op + "/x");
      return ops_.sinusoid(t, width, 10000, true, 0);
    });
  }
}

TEST_P(GoldenOps, Attention) {
  for (const char* name : {"self", "cross", "large_scores", "d160", "one_key", "causal"}) {
    const std::string op = std::string("attention_") + name;
    expect(op, [&] {
      const Tensor q = input(op + "/q"), k = input(op + "/k"), v = input(op + "/v");
      const auto size = static_cast<float>(q.shape()[2]);
      return ops_.attention(q, k, v, {.heads = 1, .scale = 1 / std::sqrt(size), .causal = op == "attention_causal"});
    });
  }
}

TEST_P(GoldenOps, Convolutions) {
  const std::pair<const char*, ConvArgs> cases[] = {
      {"conv3x3", {}},
      {"conv3x3_stride2", {.stride = 2}},
      {"conv3x3_stride2_vae", {.stride = 2, .pad_left_top = 0, .pad_right_bottom = 1}},
      {"conv1x1", {.pad_left_top = 0, .pad_right_bottom = 0}}};
  size_t next = 0;
  for (const auto& [name, args] : cases) {
    const std::string op = name;
    const Conv c = conv(store_.root() / op, 6, 10, op == "conv1x1" ? 1 : 3);
    for (const char* part : {"/weight", "/bias"})
      store_.fill(next++, *device_, DType::f32, std::as_bytes(std::span<const float>(values(op + part))));
    expect(op, [&, a = args] {
      const Tensor x = input(op + "/x");
      return ops_.conv2d(x, c, a);
    });
  }
}

TEST_P(GoldenOps, UpsamplingBeforeAFilterThatChangesNothing) {
  const Conv c = conv(store_.root() / "up", 6, 6, 3);
  std::vector<float> identity(36 * 9, 0.f), zero(6, 0.f);
  for (size_t i = 0; i < 6; i++) identity[i * 7 * 9 + 4] = 1;  // the middle of each filter
  store_.fill(0, *device_, DType::f32, std::as_bytes(std::span<const float>(identity)));
  store_.fill(1, *device_, DType::f32, std::as_bytes(std::span<const float>(zero)));
  const std::pair<const char*, std::pair<int64_t, int64_t>> cases[] = {{"upsample2", {18, 22}}, {"upsample_to_17x21", {17, 21}}};
  for (const auto& [name, size] : cases)
    expect(name, [&, op = std::string(name), to = size] {
      const Tensor x = input(op + "/x");
      return ops_.conv2d(x, c, {.up_height = to.first, .up_width = to.second});
    });
}

#ifndef CUDREAM_TEST_DEVICES
#define CUDREAM_TEST_DEVICES "reference", "cpu"
#endif
INSTANTIATE_TEST_SUITE_P(Devices, GoldenOps, testing::Values(CUDREAM_TEST_DEVICES),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace cudream
