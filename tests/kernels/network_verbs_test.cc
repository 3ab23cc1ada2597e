// Every layer shape of Stable Diffusion 1.5 (256 and 512 pixels), its text encoder and autoencoder, and the demo model: the
// same bytes with 1, 2 and 4 threads, on every instruction set.
#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>

#include "kernels/cpu/cpu_device.h"
#include "tests/kernels/verb_cases.h"

namespace cudream {
namespace {

void expect_the_same_bytes(DType precision, const Isa& isa, const std::vector<VerbCase>& cases) {
  std::vector<std::unique_ptr<Device>> devices;
  for (const int threads : {1, 2, 4}) devices.push_back(open_cpu(precision, threads, isa));
  for (const VerbCase& c : cases) {
    std::vector<std::byte> want;
    for (const auto& device : devices) {
      VerbStage stage(*device, 1);
      const VerbRun made = c.prepare(stage);
      made.run();
      const std::vector<std::byte> got = bytes_of(*device, made.out);
      if (want.empty()) want = got;
      EXPECT_TRUE(got == want) << c.name << " on " << device->info().description;
    }
  }
}

// The larger shapes take minutes: they are for --full.
std::vector<VerbCase> cases() {
  return std::getenv("CUDREAM_FULL") != nullptr ? network_verb_cases() : network_verb_cases({32});
}

TEST(NetworkVerbs, GiveTheSameBytesInFloat) {
  expect_the_same_bytes(DType::f32, supported_isas().front(), cases());
}

// AMX tiles and oneDNN are two ways to multiply bf16.
TEST(NetworkVerbs, GiveTheSameBytesInBf16OnEveryInstructionSet) {
  for (const Isa& isa : supported_isas())
    if (isa.bf16) expect_the_same_bytes(DType::bf16, isa, cases());
}

}  // namespace
}  // namespace cudream
