// Every verb of the cpu device against the reference, and the two promises about bytes: they depend neither on the number of
// threads nor on the batch.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "core/error.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/reference/reference_device.h"
#include "tests/kernels/verb_cases.h"

namespace cudream {
namespace {

// Computed once for all ways.
const std::vector<float>& reference_values(const VerbCase& c) {
  static const auto kReference = open_reference();
  static std::map<std::string, std::vector<float>> values;
  const auto [at, missing] = values.try_emplace(c.name);
  if (missing) at->second = run_values(*kReference, c, 2);
  return at->second;
}

// One instruction set of this processor and a type it computes in.
struct Way {
  Isa isa;
  DType precision;
};

std::vector<Way> ways() {
  std::vector<Way> all;
  for (const Isa& isa : supported_isas()) {
    all.push_back({isa, DType::f32});
    if (isa.bf16) all.push_back({isa, DType::bf16});
  }
  return all;
}

std::string name_of_way(const testing::TestParamInfo<Way>& given) {
  std::string name = given.param.isa.name + "_in_" + std::string(name_of(given.param.precision));
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == ' ' || c == '-'; }, '_');
  return name;
}

class Verbs : public testing::TestWithParam<Way> {
 protected:
  static std::unique_ptr<Device> cpu(int threads) { return open_cpu(GetParam().precision, threads, GetParam().isa); }
};

TEST_P(Verbs, AgreeWithTheReference) {
  const auto device = cpu(2);
  const double tolerance = GetParam().precision == DType::f32 ? 2e-6 : 1e-2;
  for (const VerbCase& c : small_verb_cases()) {
    const std::vector<float>&want = reference_values(c), got = run_values(*device, c, 2);
    ASSERT_EQ(got.size(), want.size()) << c.name;
    EXPECT_LE(relative_l2(got, want), tolerance) << c.name;
  }
}

TEST_P(Verbs, GiveTheSameBytesForAnyNumberOfThreads) {
  const auto one = cpu(1), two = cpu(2), four = cpu(4);
  for (const VerbCase& c : small_verb_cases()) {
    const std::vector<std::byte> want = run_bytes(*one, c, 1, 0);
    EXPECT_TRUE(run_bytes(*two, c, 1, 0) == want) << c.name << ", 2 threads";
    EXPECT_TRUE(run_bytes(*four, c, 1, 0) == want) << c.name << ", 4 threads";
  }
}

TEST_P(Verbs, GiveAPictureTheSameBytesAloneAndInABatch) {
  const auto device = cpu(2);
  for (const VerbCase& c : small_verb_cases()) {
    if (c.name.find("lengths") != std::string::npos) continue;  // the lengths follow the place in the batch
    const std::vector<std::byte> batch = run_bytes(*device, c, 3, 0);
    const auto each = static_cast<int64_t>(batch.size() / 3);
    for (int64_t picture = 0; picture < 3; picture++) {
      const std::vector<std::byte> want(batch.begin() + picture * each, batch.begin() + (picture + 1) * each);
      EXPECT_TRUE(run_bytes(*device, c, 1, picture) == want) << c.name << ", picture " << picture;
    }
  }
}

// Infinities and NaN reach the output, where the finiteness check of a run looks for them.
TEST_P(Verbs, LetNanThrough) {
  const auto device = cpu(2);
  for (const VerbCase& c : small_verb_cases()) {
    if (c.name.find("gather") == 0 || c.name.find("sinusoid") == 0) continue;
    VerbStage stage(*device, 1);
    stage.poison();
    const VerbRun made = c.prepare(stage);
    made.run();
    const std::vector<float> values = values_of(*device, made.out);
    EXPECT_TRUE(std::any_of(values.begin(), values.end(), [](float v) { return std::isnan(v); })) << c.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, Verbs, testing::ValuesIn(ways()), name_of_way);

TEST(CpuDevice, RefusesATypeItDoesNotComputeIn) {
  try {
    open_cpu(DType::f16, 1);
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::usage);
    EXPECT_THAT(e.what(), testing::HasSubstr("f32 or bf16, not in f16"));
  }
}

TEST(CpuDevice, RefusesBf16WhereTheProcessorDoesNotMultiplyIt) {
  const Isa isa{"AVX2", supported_isas().back().kernels, false};
  try {
    open_cpu(DType::bf16, 1, isa);
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::unsupported);
    EXPECT_THAT(e.what(), testing::HasSubstr("AVX2) does not multiply bf16; use --precision f32"));
  }
}

TEST(CpuDevice, PacksEveryStoredType) {
  const auto device = open_cpu(DType::f32, 2), reference = open_reference();
  for (const DType stored : {DType::f32, DType::f16, DType::bf16, DType::f8e4m3, DType::f8e5m2}) {
    std::vector<std::byte> raw(static_cast<size_t>(256 * size_of(stored)));
    for (size_t i = 0; i < raw.size(); i++) raw[i] = static_cast<std::byte>(i / static_cast<size_t>(size_of(stored)) * 7 & 0x6f);
    std::vector<std::byte> shifted(raw.size() + 1);
    std::copy(raw.begin(), raw.end(), shifted.begin() + 1);
    const std::span<const std::byte> odd = std::span(shifted).subspan(1);  // files hold tensors at any address
    const Weight got = device->prepack(Use::vector, stored, {256}, odd),
                 want = reference->prepack(Use::vector, stored, {256}, raw);
    EXPECT_EQ(values_of(*device, got.data), values_of(*reference, want.data)) << name_of(stored);
    device->release(got.data.data, got.data.bytes());
    reference->release(want.data.data, want.data.bytes());
  }
}

}  // namespace
}  // namespace cudream
