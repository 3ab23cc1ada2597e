#include "runtime/rng.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/runtime/golden.h"

namespace cudream {
namespace {

constexpr double kTolerance = 3e-6;  // sine and logarithm differ between correct implementations

class RngTest : public testing::Test {
 protected:
  std::vector<float> want(const std::string& name) const { return file_.floats(file_.at(name)); }
  SafetensorsFile file_{data_path("rng.safetensors")};
  nlohmann::json facts_ = golden_json("rng.json");
};

TEST_F(RngTest, TorchCpuDrawsWhatTheReferenceDraws) {
  for (const uint64_t seed : facts_["seeds"]) {
    for (const int64_t count : facts_["sizes"]) {
      const auto name = fmt::format("cpu/{}/{}", seed, count);
      EXPECT_LT(largest_difference(TorchCpuNoise(seed).normal(count), want(name)), kTolerance) << name;
    }
    const auto latent = fmt::format("cpu_latent/{}/1x4x8x8", seed);
    EXPECT_LT(largest_difference(TorchCpuNoise(seed).normal(256), want(latent)), kTolerance) << latent;
  }
}

TEST_F(RngTest, TorchCpuKeepsHalfAScalarPairBetweenDraws) {
  for (const uint64_t seed : facts_["seeds"]) {
    TorchCpuNoise noise(seed);
    std::vector<float> all;
    for (const int64_t count : {3, 20, 2, 5, 64, 1}) {
      const auto draw = noise.normal(count);
      all.insert(all.end(), draw.begin(), draw.end());
    }
    EXPECT_LT(largest_difference(all, want(fmt::format("cpu_sequence/{}/3,20,2,5,64,1", seed))), kTolerance) << seed;
  }
}

TEST_F(RngTest, EachPictureOfABatchHasItsOwnGenerator) {
  std::vector<float> all;
  for (const uint64_t seed : facts_["seeds"]) {
    const auto draw = TorchCpuNoise(seed).normal(64);
    all.insert(all.end(), draw.begin(), draw.end());
  }
  EXPECT_LT(largest_difference(all, want("cpu_batch_of_seeds")), kTolerance);
}

TEST_F(RngTest, PhiloxDrawsWhatCudaDraws) {
  for (const uint64_t seed : facts_["seeds"]) {
    PhiloxNoise noise(seed);
    for (int call = 0; call < 2; call++) {
      const auto name = fmt::format("cuda/{}/1x4x8x8/call{}", seed, call);
      EXPECT_LT(largest_difference(noise.normal(256), want(name)), kTolerance) << name;
    }
    EXPECT_LT(largest_difference(PhiloxNoise(seed).normal(12), want(fmt::format("cuda/{}/12", seed))), kTolerance);
  }
}

TEST_F(RngTest, PhiloxMeetsTheKnownAnswers) {
  const auto words = [](const nlohmann::json& list, auto array) {
    for (size_t i = 0; i < array.size(); i++)
      array[i] = static_cast<uint32_t>(std::stoul(list[i].get<std::string>(), nullptr, 16));
    return array;
  };
  for (const auto& known : facts_["philox4x32_10_known_answers"]) {
    const auto output =
        philox4x32(words(known["counter"], std::array<uint32_t, 4>{}), words(known["key"], std::array<uint32_t, 2>{}));
    EXPECT_EQ(output, words(known["output"], std::array<uint32_t, 4>{}));
  }
}

TEST(NoiseSource, IsFoundByName) {
  EXPECT_EQ(make_noise_source("torch-cpu", 7)->normal(16), TorchCpuNoise(7).normal(16));
  EXPECT_EQ(make_noise_source("philox", 7)->normal(16), PhiloxNoise(7).normal(16));
  EXPECT_THROW(make_noise_source("dice", 7), Error);
}

}  // namespace
}  // namespace cudream
