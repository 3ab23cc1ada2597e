// Every layer shape of Stable Diffusion 1.5 (256 and 512 pixels), its text encoder and autoencoder, and the demo model: the
// same bytes with 1, 2 and 4 threads, whole and finite.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "core/error.h"
#include "kernels/cpu/cpu_device.h"
#include "tests/kernels/verb_cases.h"

namespace cudream {
namespace {

class NetworkVerbs : public testing::TestWithParam<DType> {};

TEST_P(NetworkVerbs, GiveTheSameBytesForAnyNumberOfThreads) {
  std::vector<std::unique_ptr<Device>> devices;
  try {
    for (const int threads : {1, 2, 4}) devices.push_back(open_cpu(GetParam(), threads));
  } catch (const Error& e) {
    GTEST_SKIP() << e.what();
  }
  for (const VerbCase& c : network_verb_cases()) {
    std::vector<std::byte> want;
    for (const auto& device : devices) {
      VerbStage stage(*device, 1);
      const VerbRun made = c.prepare(stage);
      made.run();
      const std::vector<std::byte> got = bytes_of(*device, made.out);
      if (want.empty()) want = got;
      EXPECT_TRUE(got == want) << c.name << " on " << device->info().description;
      for (const float value : values_of(*device, made.out)) ASSERT_TRUE(std::isfinite(value)) << c.name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cpu, NetworkVerbs, testing::Values(DType::f32, DType::bf16),
                         [](const auto& given) { return std::string(name_of(given.param)); });

}  // namespace
}  // namespace cudream
