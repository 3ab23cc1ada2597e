// Convolutions of pictures whose opposite edges are neighbors: what is moved around such a picture moves the result, and nothing
// else. On every device in float.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/open.h"
#include "kernels/ops.h"
#include "kernels/weight.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

struct Case {
  const char* name;
  int64_t height, width;
  ConvArgs args;
  int64_t up = 1;
  bool residual = false;
};

std::vector<float> noise(int64_t count, uint32_t seed) {
  std::vector<float> v(static_cast<size_t>(count));
  for (float& x : v) x = static_cast<float>((seed = seed * 1664525u + 1013904223u) >> 8) * 0x1p-24f - 0.5f;
  return v;
}

// [1,H,W,C] moved down and right, around the edges.
std::vector<float> moved(const std::vector<float>& x, const Shape& s, int64_t down, int64_t right) {
  std::vector<float> y(x.size());
  for (int64_t i = 0; i < s.size(); i++) {
    const int64_t c = i % s[3], column = (i / s[3] + right) % s[2], line = (i / s[3] / s[2] + down) % s[1];
    const int64_t from = (i / s[3] / s[2] * s[2] + i / s[3] % s[2]) * s[3] + c;
    y[static_cast<size_t>((line * s[2] + column) * s[3] + c)] = x[static_cast<size_t>(from)];
  }
  return y;
}

class Wrapped : public testing::TestWithParam<const char*> {
 protected:
  static constexpr int64_t kIn = 5, kOut = 6;
  Wrapped() : device_(open_device({.name = GetParam(), .precision = DType::f32})), ops_(*device_) {
    conv_ = conv(store_.root() / "conv", kIn, kOut, 3);
    const std::vector<float> w = noise(kIn * kOut * 9, 1), b = noise(kOut, 2);
    store_.fill(0, *device_, DType::f32, std::as_bytes(std::span<const float>(w)));
    store_.fill(1, *device_, DType::f32, std::as_bytes(std::span<const float>(b)));
  }
  std::vector<float> run(const Case& c, Ops::Wrap wrap, int64_t down, int64_t right) {
    std::vector<float> result;
    const auto body = [&] {
      ops_.set_wrap(wrap);
      const Shape in{1, c.height, c.width, kIn}, out{1, c.height * c.up / c.args.stride, c.width * c.up / c.args.stride, kOut};
      const std::vector<float> x = moved(noise(in.size(), 3), in, down, right);
      const std::vector<float> r = moved(noise(out.size(), 4), out, down * c.up / c.args.stride, right * c.up / c.args.stride);
      const Tensor input = ops_.upload(DType::f32, in, std::span<const float>(x));
      const Tensor residual = ops_.upload(DType::f32, out, std::span<const float>(r));
      ConvArgs args = c.args;
      if (c.residual) args.e.residual = residual;
      const Tensor y = ops_.conv2d(input, conv_, args);
      ASSERT_EQ(y.shape(), out) << c.name;
      result = ops_.download(y);
      ops_.set_wrap({});
    };
    const Ops::Plan plan = ops_.rehearse(body);
    ops_.run(plan, body);
    return result;
  }
  std::unique_ptr<Device> device_;
  WeightStore store_;
  Ops ops_;
  Conv conv_;
};

const Case kCases[] = {{"plain", 6, 8, {}},
                       {"residual", 6, 8, {}, 1, true},
                       {"half", 8, 4, {.stride = 2}},
                       {"half as the autoencoder does", 8, 12, {.stride = 2, .pad_left_top = 0, .pad_right_bottom = 1}},
                       {"twice", 3, 4, {.up_height = 6, .up_width = 8}, 2},
                       {"one pixel", 1, 1, {}, 1, true},
                       {"one pixel, twice", 1, 1, {.up_height = 2, .up_width = 2}, 2}};

TEST_P(Wrapped, MovesWithThePicture) {
  for (const Case& c : kCases) {
    const Shape out{1, c.height * c.up / c.args.stride, c.width * c.up / c.args.stride, kOut};
    for (const Ops::Wrap wrap : {Ops::Wrap{true, true}, {true, false}, {false, true}}) {
      const int64_t down = wrap.y ? c.height / 2 : 0, right = wrap.x ? c.width / 2 : 0;
      const auto still = run(c, wrap, 0, 0), shifted = run(c, wrap, down, right);
      EXPECT_LE(relative_error(shifted, moved(still, out, down * c.up / c.args.stride, right * c.up / c.args.stride)), 1e-6)
          << c.name;
    }
  }
}

// Away from the edges it is the plain convolution, and across an edge that is not wrapped there are zeros.
TEST_P(Wrapped, ChangesTheEdgesAlone) {
  const Case& c = kCases[0];
  const auto plain = run(c, {}, 0, 0), around = run(c, {.x = true, .y = false}, 0, 0);
  for (int64_t y = 0; y < c.height; y++)
    for (int64_t x = 0; x < c.width; x++) {
      const auto at = static_cast<size_t>((y * c.width + x) * kOut);
      const bool edge = x == 0 || x + 1 == c.width;
      EXPECT_EQ(std::abs(plain[at] - around[at]) > 1e-6f, edge) << x << ',' << y;
    }
}

#ifndef CUDREAM_TEST_DEVICES
#define CUDREAM_TEST_DEVICES "reference", "cpu"
#endif
INSTANTIATE_TEST_SUITE_P(Devices, Wrapped, testing::Values(CUDREAM_TEST_DEVICES),
                         [](const auto& device) { return std::string(device.param); });

}  // namespace
}  // namespace cudream
