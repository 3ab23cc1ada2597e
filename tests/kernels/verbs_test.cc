// Every verb of the cpu device against the reference, and the two promises about bytes: they depend neither on the number of
// threads nor on the batch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <optional>

#include "core/error.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/reference/reference_device.h"
#include "tests/kernels/verb_cases.h"

namespace cudream {
namespace {

// |got - want| / |want| over all elements.
double relative_l2(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i++) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

std::vector<float> run_values(Device& device, const VerbCase& c, int64_t pictures) {
  VerbStage stage(device, pictures);
  const VerbRun made = c.prepare(stage);
  made.run();
  return values_of(device, made.out);
}

std::vector<std::byte> run_bytes(Device& device, const VerbCase& c, int64_t pictures, int64_t first) {
  VerbStage stage(device, pictures, first);
  const VerbRun made = c.prepare(stage);
  made.run();
  return bytes_of(device, made.out);
}

// Null where the processor lacks it.
std::unique_ptr<Device> cpu(DType precision, int threads) {
  try {
    return open_cpu(precision, threads);
  } catch (const Error& e) {
    if (e.code() != Code::unsupported) throw;
    return nullptr;
  }
}

class Verbs : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (cpu(GetParam(), 1) == nullptr) GTEST_SKIP() << "this processor has no " << name_of(GetParam());
  }
};

TEST_P(Verbs, AgreeWithTheReference) {
  const auto reference = open_reference(), device = cpu(GetParam(), 2);
  const double tolerance = GetParam() == DType::f32 ? 2e-6 : 1e-2;
  for (const VerbCase& c : small_verb_cases()) {
    const std::vector<float> want = run_values(*reference, c, 2), got = run_values(*device, c, 2);
    ASSERT_EQ(got.size(), want.size()) << c.name;
    EXPECT_LE(relative_l2(got, want), tolerance) << c.name;
  }
}

void expect_same_bytes_for_any_threads(DType precision, const std::vector<VerbCase>& cases) {
  const auto one = cpu(precision, 1), two = cpu(precision, 2), four = cpu(precision, 4);
  for (const VerbCase& c : cases) {
    const std::vector<std::byte> want = run_bytes(*one, c, 1, 0);
    EXPECT_TRUE(run_bytes(*two, c, 1, 0) == want) << c.name << ", 2 threads";
    EXPECT_TRUE(run_bytes(*four, c, 1, 0) == want) << c.name << ", 4 threads";
  }
}

TEST_P(Verbs, GiveTheSameBytesForAnyNumberOfThreads) {
  expect_same_bytes_for_any_threads(GetParam(), small_verb_cases());
}

TEST_P(Verbs, GiveAPictureTheSameBytesAloneAndInABatch) {
  const auto device = cpu(GetParam(), 2);
  for (const VerbCase& c : small_verb_cases()) {
    if (c.name.find("lengths") != std::string::npos) continue;  // the lengths follow the place in the batch
    const std::vector<std::byte> batch = run_bytes(*device, c, 3, 0);
    const size_t each = batch.size() / 3;
    for (int64_t picture = 0; picture < 3; picture++) {
      const auto from = batch.begin() + picture * static_cast<int64_t>(each);
      const std::vector<std::byte> want(from, from + static_cast<int64_t>(each));
      EXPECT_TRUE(run_bytes(*device, c, 1, picture) == want) << c.name << ", picture " << picture;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Verbs, testing::Values(DType::f32, DType::bf16),
                         [](const auto& given) { return std::string(name_of(given.param)); });

TEST(CpuDevice, RefusesATypeItDoesNotComputeIn) {
  try {
    open_cpu(DType::f16, 1);
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::usage);
    EXPECT_THAT(e.what(), testing::HasSubstr("f32 or bf16, not in f16"));
  }
}

}  // namespace
}  // namespace cudream
