// Whole runs of the program against the reference's, step by step, on every device in float; bf16 as a sanity check.
#include <gtest/gtest.h>

#include "tests/cli/golden_run.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

// Text to image and image to image; decoding with another autoencoder comes later.
std::vector<std::string> runs() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(golden() / "golden" / "sd1")) {
    const std::string name = entry.path().stem().string();
    const bool kind = name.starts_with("txt2img_") || name.starts_with("img2img_");
    if (entry.path().extension() == ".json" && kind && name != "txt2img_taesd") names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

using NameAndDevice = std::tuple<std::string, std::string>;
class GoldenRun : public testing::TestWithParam<NameAndDevice> {};

TEST_P(GoldenRun, FollowsTheReference) {
  const auto& [name, device] = GetParam();
  check_golden_run(name, "--precision f32 --device " + device, kFloat);
}

INSTANTIATE_TEST_SUITE_P(Devices, GoldenRun, testing::Combine(testing::ValuesIn(runs()), testing::Values("reference", "cpu")),
                         [](const auto& run) { return std::get<0>(run.param) + "_" + std::get<1>(run.param); });

class Bf16Run : public GoldenRun {};

TEST_P(Bf16Run, StaysNear) {
  const Program program;
  if (program.run("generate x " + kQuick + "--precision bf16 -o a.png").status == 4) GTEST_SKIP() << "this processor has no bf16";
  check_golden_run(std::get<0>(GetParam()), "--precision bf16 --device cpu", kBf16);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Bf16Run, testing::Combine(testing::Values("txt2img_ddim5", "img2img_s060"), testing::Values("cpu")),
                         [](const auto& run) { return std::get<0>(run.param); });

}  // namespace
}  // namespace cudream
