// Every verb of the CUDA device against the reference, and a picture's bytes alone and in a batch.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "kernels/reference/reference_device.h"
#include "tests/cuda/open.h"
#include "tests/kernels/verb_cases.h"

namespace cudream {
namespace {

class CudaVerbs : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    device_ = cuda_or_null(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no GPU here, real or virtual";
  }
  std::unique_ptr<Device> device_;
};

TEST_P(CudaVerbs, AgreeWithTheReference) {
  const auto reference = open_reference();
  const double tolerance = GetParam() == DType::f32 ? 1e-5 : GetParam() == DType::f16 ? 2e-3 : 1e-2;
  for (const VerbCase& c : small_verb_cases()) {
    const std::vector<float> want = run_values(*reference, c, 2), got = run_values(*device_, c, 2);
    ASSERT_EQ(got.size(), want.size()) << c.name;
    EXPECT_LE(relative_l2(got, want), tolerance) << c.name;
  }
}

// The kernels of all types are made of one source: here f32 and f16 have the sizes of batches between them; --full has all sizes
// for all, bf16 too.
TEST_P(CudaVerbs, GiveAPictureTheSameBytesAloneAndInABatch) {
  const bool full = std::getenv("CUDREAM_FULL") != nullptr;
  if (!full && GetParam() == DType::bf16) GTEST_SKIP() << "CUDREAM_FULL is not set";
  std::vector<int64_t> batches{2, 3, 8};
  if (!full) batches = GetParam() == DType::f32 ? std::vector<int64_t>{3} : std::vector<int64_t>{2, 8};
  for (const VerbCase& c : small_verb_cases()) {
    if (c.name.find("lengths") != std::string::npos) continue;  // the lengths follow the place in the batch
    std::vector<std::vector<std::byte>> alone;
    for (int64_t picture = 0; picture < 3; picture++) alone.push_back(run_bytes(*device_, c, 1, picture));
    for (const int64_t pictures : batches) {
      const std::vector<std::byte> batch = run_bytes(*device_, c, pictures, 0);
      const size_t each = alone[0].size();
      ASSERT_EQ(batch.size(), each * static_cast<size_t>(pictures)) << c.name;
      for (size_t picture = 0; picture < std::min<size_t>(3, static_cast<size_t>(pictures)); picture++)
        EXPECT_TRUE(
            std::equal(alone[picture].begin(), alone[picture].end(), batch.begin() + static_cast<int64_t>(picture * each)))
            << c.name << ", picture " << picture << " of " << pictures;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cuda, CudaVerbs, testing::Values(DType::f32, DType::f16, DType::bf16),
                         [](const auto& given) { return std::string(name_of(given.param)); });

}  // namespace
}  // namespace cudream
