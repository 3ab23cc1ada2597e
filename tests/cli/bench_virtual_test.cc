// cudream bench verbs --virtual: every launch of a picture belongs to a verb, and what is counted is no less than the verb needs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tests/cli/program.h"
#include "tests/cuda/virtual_gpu.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

using nlohmann::json;
using testing::ContainsRegex;
using testing::HasSubstr;

class BenchVirtual : public VirtualGpuTest {};

// Sums over the kernels of a verb.
double sum(const json& verb, const char* name) {
  double all = 0;
  for (const json& kernel : verb.at("kernels")) all += kernel.at(name).get<double>();
  return all;
}

TEST_F(BenchVirtual, CountsTheLaunchesOfEachVerb) {
  const Program program;
  const Outcome o = program.run("bench verbs --virtual -m demo --size 64 --steps 1 --precision f16 --json");
  ASSERT_EQ(o.status, 0) << o.err;
  const json counted = json::parse(o.out);
  double launches = 0, calls = 0;
  std::set<std::string> convolutions, stages;
  for (const json& verb : counted["verbs"]) {
    SCOPED_TRACE(verb.dump());
    launches += sum(verb, "launches");
    calls += verb["calls"].get<double>();
    stages.insert(verb["stage"]);
    EXPECT_GE(sum(verb, "launches"), verb["calls"].get<double>()) << "no verb is done without a kernel";
    if (verb["verb"] == "conv2d")
      for (const json& kernel : verb["kernels"]) convolutions.insert(kernel["kernel"]);
    if (const double mma = sum(verb, "mma_flops"); mma > 0) {
      EXPECT_GE(mma, verb["flops"].get<double>()) << "tiles may hold more than the product, never less";
    }
    if (verb["verb"] == "group_norm" || verb["verb"] == "layer_norm") {
      EXPECT_GE(sum(verb, "bytes"), verb["bytes"].get<double>()) << "each input is read, each output written";
    }
  }
  EXPECT_EQ(stages, (std::set<std::string>{"text", "denoise", "decode"}));
  EXPECT_EQ(launches, counted["total"]["launches"].get<double>());
  EXPECT_EQ(launches, calls) << "a launch a verb";
  EXPECT_TRUE(convolutions.contains("conv_64x64_f16"));
  for (const std::string& kernel : convolutions) EXPECT_THAT(kernel, testing::StartsWith("conv_"));
  EXPECT_EQ(counted["uncounted_calls"], 0);
  EXPECT_GT(counted["total"]["instructions"]["tensor"], 0);
}

TEST_F(BenchVirtual, PrintsATable) {
  const Program program;
  const Outcome o = program.run("bench verbs --virtual -m '" + golden_model("sd1.safetensors").string() +
                                "' --size 32 --steps 1 --guidance 1 --precision f16");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("insn/mma"));
  EXPECT_THAT(o.out, ContainsRegex("denoise +conv2d +conv_[0-9x]+_f16 +(memory|issue|shared|tensor) "));
  EXPECT_THAT(o.out, ContainsRegex("[0-9]+ launches of [0-9]+ verbs; at least [0-9.]+ us by the data sheet"));
}

TEST_F(BenchVirtual, NeedsTheVirtualGpu) {
  const Program program;
  const Outcome cpu = program.run("bench verbs --virtual -m demo --device cpu");
  EXPECT_EQ(cpu.status, 2) << cpu.err;
  EXPECT_THAT(cpu.err, HasSubstr("--virtual counts what a GPU does, and --device cpu is none"));
  const Outcome none = program.run("bench verbs --virtual -m demo", "CUDREAM_LIBCUDA=");
  EXPECT_EQ(none.status, 6) << none.err;
  EXPECT_THAT(none.err, HasSubstr("set CUDREAM_LIBCUDA to its libcuda.so.1"));
}

}  // namespace
}  // namespace cudream
