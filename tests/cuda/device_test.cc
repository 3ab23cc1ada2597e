// What a CUDA device does beside its verbs: memory, weights in every stored type, recordings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <numeric>

#include "core/half.h"
#include "tests/cuda/open.h"

namespace cudream {
namespace {

using testing::HasSubstr;

class CudaDevice : public testing::Test {
 protected:
  void SetUp() override {
    device_ = cuda_or_null(DType::f32);
    if (device_ == nullptr) GTEST_SKIP() << "no GPU here, real or virtual";
  }
  void TearDown() override {
    for (const View& v : views_) device_->release(v.data, v.bytes());
  }

  View make(const std::vector<float>& values) {
    const View v(device_->allocate(static_cast<int64_t>(values.size() * 4)), DType::f32, {static_cast<int64_t>(values.size())});
    views_.push_back(v);
    device_->upload(v, std::as_bytes(std::span(values)));
    return v;
  }
  std::vector<float> read(const View& v) {
    std::vector<float> values(static_cast<size_t>(v.shape.size()));
    device_->download(std::as_writable_bytes(std::span(values)), v);
    return values;
  }
  // The weight as it lies on the device.
  template <typename T>
  std::vector<float> packed(Use use, DType stored, const Shape& shape, const std::vector<T>& raw) {
    const Weight w = device_->prepack(use, stored, shape, std::as_bytes(std::span(raw)));
    views_.push_back(w.data);
    EXPECT_EQ(w.shape, shape);
    return read(w.data);
  }

  std::unique_ptr<Device> device_;
  std::vector<View> views_;
};

TEST_F(CudaDevice, DescribesItself) {
  EXPECT_EQ(device_->info().kind, "cuda:0");
  EXPECT_THAT(device_->info().description, HasSubstr("compute capability"));
  EXPECT_GT(device_->info().memory_bytes, 1 << 20);
  EXPECT_EQ(device_->info().compute, DType::f32);
}

TEST_F(CudaDevice, GivesBytesBackAsTheyWere) {
  std::vector<float> values(1000);
  std::iota(values.begin(), values.end(), 0.0f);
  EXPECT_EQ(read(make(values)), values);
}

TEST_F(CudaDevice, SaysHowMuchMemoryIsMissing) {
  try {
    device_->allocate(int64_t{1} << 50);
    FAIL() << "allocated a pebibyte";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::out_of_memory);
    EXPECT_THAT(e.what(), HasSubstr("MiB are free"));
  }
}

TEST_F(CudaDevice, RefusesACardThatIsNotThere) {
  try {
    open_cuda(99, std::nullopt);
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::device);
    EXPECT_THAT(e.what(), HasSubstr("cuda:99"));
  }
}

TEST_F(CudaDevice, ReadsWeightsOfEveryStoredType) {
  std::vector<uint8_t> bytes(256);
  std::iota(bytes.begin(), bytes.end(), uint8_t{0});
  const auto compare = [](const std::vector<float>& got, size_t i, float want) {
    if (std::isnan(want))
      EXPECT_TRUE(std::isnan(got[i])) << i;
    else
      EXPECT_EQ(got[i], want) << i;
  };
  const std::vector<float> e4m3 = packed(Use::table, DType::f8e4m3, {16, 16}, bytes);
  const std::vector<float> e5m2 = packed(Use::table, DType::f8e5m2, {16, 16}, bytes);
  for (size_t i = 0; i < 256; i++) {
    compare(e4m3, i, f8e4m3_to_float(bytes[i]));
    compare(e5m2, i, f8e5m2_to_float(bytes[i]));
  }
  const std::vector<f16> halves{f16(1.5f), f16(-65504.0f), f16(6e-8f), f16(0.1f)};
  EXPECT_THAT(packed(Use::vector, DType::f16, {4}, halves),
              testing::ElementsAre(1.5f, -65504.0f, static_cast<float>(f16(6e-8f)), static_cast<float>(f16(0.1f))));
  const std::vector<bf16> brains{bf16(3e38f), bf16(-0.1f)};
  EXPECT_THAT(packed(Use::vector, DType::bf16, {2}, brains),
              testing::ElementsAre(static_cast<float>(bf16(3e38f)), static_cast<float>(bf16(-0.1f))));
}

// A weight longer than what passes through the staging memory at once, in the two layouts that move rows and columns.
TEST_F(CudaDevice, PacksLargeWeightsInPieces) {
  const int64_t outs = 600, in = 10000;
  std::vector<float> raw(static_cast<size_t>(outs * in));
  for (size_t i = 0; i < raw.size(); i++) raw[i] = static_cast<float>(i);
  const std::vector<float> pairs = packed(Use::geglu, DType::f32, {outs, in}, raw);
  const std::vector<float> filter = packed(Use::conv, DType::f32, {outs, in / 4, 2, 2}, raw);
  for (int64_t o = 0; o < outs; o += 7)
    for (int64_t i = 0; i < in; i += 99) {
      const int64_t place = o < outs / 2 ? 2 * o : 2 * (o - outs / 2) + 1, tap = i % 4, channel = i / 4;
      ASSERT_EQ(pairs[static_cast<size_t>(place * in + i)], raw[static_cast<size_t>(o * in + i)]) << o << "," << i;
      ASSERT_EQ(filter[static_cast<size_t>(o * in + tap * (in / 4) + channel)], raw[static_cast<size_t>(o * in + i)])
          << o << "," << i;
    }
}

TEST_F(CudaDevice, ReplaysWhatItRecorded) {
  const View x = make({1, 2, 3}), y = make({0, 0, 0});
  const std::array<Term, 2> twice{Term{2, x}, Term{1, y}};
  const auto recorded = device_->record([&] { device_->combine(y, twice); });
  EXPECT_THAT(read(y), testing::ElementsAre(2, 4, 6));
  recorded->run();
  EXPECT_THAT(read(y), testing::ElementsAre(4, 8, 12));
  const std::array<float, 3> ones{1, 1, 1};
  device_->upload(x, std::as_bytes(std::span(ones)));
  recorded->run();
  EXPECT_THAT(read(y), testing::ElementsAre(6, 10, 14));
}

TEST_F(CudaDevice, EndsARecordingThatFails) {
  const View x = make({1, 2, 3});
  EXPECT_THROW(device_->record([&] { throw fail(Code::cancelled, "stop"); }), Error);
  EXPECT_THROW(device_->record([&] { device_->allocate(8); }), Error);
  device_->act(x, x, Act::none);
  EXPECT_THAT(read(x), testing::ElementsAre(1, 2, 3));
}

}  // namespace
}  // namespace cudream
