// The real cuDNN accepts our graphs: plans built for a described A100, RTX 4090 and H100, with no card and no driver. Workspace
// and plan name are pinned in plans.txt, since a slow path shows in them first. Numbers, speed and execution only a card can
// tell.
//
// The descriptions are the fields that cuDNN asks for (CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION) with the values of the cards.
#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "kernels/cuda/dnn_graph.h"

namespace cudream {
namespace {

constexpr int64_t kMostWorkspace = 16 << 20;
constexpr const char* kPinnedVersion = "9.19.0";

std::string describe_card(const char* name, int version, int multiprocessors, int clock, int memory_clock, int cache, int shared,
                          int blocks, int threads, int64_t memory) {
  return nlohmann::json{{"deviceName", name},
                        {"deviceVer", version},
                        {"multiProcessorCount", multiprocessors},
                        {"smClockRateKHz", clock},
                        {"memClockRateKHz", memory_clock},
                        {"l2CacheSize", cache},
                        {"maxSharedMemoryPerBlock", 49152},
                        {"maxSharedMemoryPerBlockOptin", shared},
                        {"reservedSharedMemoryPerBlock", 1024},
                        {"regsPerBlock", 65536},
                        {"maxRegistersPerSM", 65536},
                        {"maxCtasPerSM", blocks},
                        {"maxThreadsPerBlock", 1024},
                        {"maxThreadsPerSM", threads},
                        {"warpSize", 32},
                        {"maxGridSize", {2147483647, 65535, 65535}},
                        {"maxBlockSize", {1024, 1024, 64}},
                        {"pciDeviceId", 0},
                        {"isTccDriver", 0},
                        {"supportCoopLaunch", 1},
                        {"driverVer", 13000},
                        {"cudaDeviceId", 0},
                        {"totalGlobalMem", memory}}
      .dump();
}

std::string card(const std::string& name) {
  if (name == "a100")
    return describe_card("NVIDIA A100-SXM4-80GB", 800, 108, 1410000, 1593000, 41943040, 166912, 32, 2048, 85899345920);
  if (name == "rtx4090")
    return describe_card("NVIDIA GeForce RTX 4090", 890, 128, 2520000, 10501000, 75497472, 101376, 24, 1536, 25769803776);
  return describe_card("NVIDIA H100 80GB HBM3", 900, 132, 1980000, 2619000, 52428800, 232448, 32, 2048, 85899345920);
}

// "engine 7, cudnn_generated_...": what the library will run.
std::string name_of_plan(const std::string& json) {
  const auto j = nlohmann::json::parse(json.c_str());
  const auto& engine = j.at("engine");
  std::string name = fmt::format("engine {}", engine.at("engineId").get<int>());
  if (engine.contains("payload"))
    for (const auto& kernel : engine["payload"]["kernels"]) name += ", " + kernel.at("kernelName").get<std::string>();
  else
    for (const auto& [knob, value] : engine.at("knobChoices").items())
      name += fmt::format(", {} {}", knob.substr(std::string("CUDNN_KNOB_TYPE_").size()), value.dump());
  return name;
}

class CudnnPlans : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::getenv("CUDREAM_FULL") == nullptr) GTEST_SKIP() << "compiles kernels for half a minute: in scripts/test --full";
    // Under this name the library finds it when it asks for a driver.
    if (dlopen(CUDREAM_ACCEPTING_LIBCUDA, RTLD_NOW | RTLD_GLOBAL) == nullptr) FAIL() << dlerror();
    try {
      dnn_ = open_dnn();
    } catch (const Error& e) {
      GTEST_SKIP() << "cuDNN is not on this machine: " << e.what();
    }
  }

  void expect(const std::string& what, const std::optional<DnnPlan>& plan) const {
    ASSERT_TRUE(plan.has_value()) << what << ": no plan";
    EXPECT_LE(plan->workspace_bytes, kMostWorkspace);
    const std::string got = fmt::format("{} bytes, {}", plan->workspace_bytes, name_of_plan(plan_json(dnn_, *plan)));
    const auto pinned = pins().find(fmt::format("{} {}", GetParam(), what));
    if (version_text(dnn_) != kPinnedVersion) return;  // another release may rank its engines otherwise
    ASSERT_NE(pinned, pins().end()) << what << ": " << got;
    EXPECT_EQ(got, pinned->second) << what;
  }
  static const std::map<std::string, std::string>& pins();

  Dnn dnn_{};
};

// plans.txt: "card what: workspace, plan name".
const std::map<std::string, std::string>& CudnnPlans::pins() {
  static const std::map<std::string, std::string> table = [] {
    std::map<std::string, std::string> read;
    std::ifstream file(CUDREAM_SOURCE_DIR "/tests/cudnn/plans.txt");
    for (std::string line; std::getline(file, line);) {
      const size_t colon = line.find(": ");
      if (colon != std::string::npos) read[line.substr(0, colon)] = line.substr(colon + 2);
    }
    return read;
  }();
  return table;
}

// Layers of the UNet of SD 1.5 with what our device folds into them.
TEST_P(CudnnPlans, TakeConvolutions) {
  const DnnDescriptor device = describe_device(dnn_, card(GetParam()));
  const auto plan = [&](const DnnConvolution& c) { return plan_convolution(dnn_, {.device = &device}, c, kMostWorkspace); };
  DnnConvolution c{.type = DType::f16, .height = 64, .width = 64, .channels = 320, .outs = 320};
  expect("conv 320 at 64x64", plan(c));
  c.bias = true;
  expect("conv 320 at 64x64, bias", plan(c));
  c.residual = true;
  expect("conv 320 at 64x64, bias, residual", plan(c));
  c.type = DType::bf16;
  expect("conv 320 at 64x64, bias, residual, bf16", plan(c));
  c = {.type = DType::f16, .height = 64, .width = 64, .channels = 320, .outs = 320, .stride = 2, .bias = true};
  expect("conv 320 at 64x64, stride 2, bias", plan(c));
  c = {.type = DType::f16, .height = 8, .width = 8, .channels = 1280, .outs = 1280, .bias = true};
  expect("conv 1280 at 8x8, bias", plan(c));
}

// q, k and v as slices of one packed matrix, and keys and values of a prompt.
TEST_P(CudnnPlans, TakeAttention) {
  const DnnDescriptor device = describe_device(dnn_, card(GetParam()));
  for (const int64_t size : {40, 64, 80, 160}) {
    const int64_t width = 8 * size;
    const DnnAttention own{DType::f16, 1024, 1024, 8, size, 3 * width, 3 * width, 3 * width};
    const DnnAttention text{DType::f16, 1024, 77, 8, size, width, 2 * width, 2 * width};
    expect(fmt::format("attention, heads of {}", size), plan_attention(dnn_, {.device = &device}, own, kMostWorkspace));
    expect(fmt::format("attention, heads of {}, 77 keys", size), plan_attention(dnn_, {.device = &device}, text, kMostWorkspace));
  }
}

TEST_P(CudnnPlans, RefuseWhatMakesNoSense) {
  const DnnDescriptor device = describe_device(dnn_, card(GetParam()));
  DnnAttention odd{DType::f16, 64, 64, 8, 36, 288, 288, 288};
  EXPECT_FALSE(plan_attention(dnn_, {.device = &device}, odd, kMostWorkspace));
  EXPECT_THROW(describe_device(dnn_, "{}"), Error);
}

INSTANTIATE_TEST_SUITE_P(Cards, CudnnPlans, testing::Values("a100", "rtx4090", "h100"),
                         [](const auto& given) { return std::string(given.param); });

}  // namespace
}  // namespace cudream
