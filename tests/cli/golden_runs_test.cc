// Whole runs of the program against the reference's, step by step, on every device in float; bf16 as a sanity check.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "loader/safetensors.h"
#include "tests/cli/program.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

fs::path golden() {
  const char* given = std::getenv("CUDREAM_GOLDEN");
  return given != nullptr ? fs::path(given) : fs::path(CUDREAM_SOURCE_DIR "/tests/golden");
}

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

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i++) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / norm);
}

struct Limits {
  double text, network, latents, image;
};
// The golden set's own tolerances: relative L2 over the whole tensor.
constexpr Limits kFloat{1e-6, 5e-6, 1e-5, 5e-6}, kBf16{1.5e-2, 4e-2, 5e-2, 3e-2};

class GoldenRun : public testing::TestWithParam<std::tuple<std::string, std::string>> {
 protected:
  void check(const std::string& name, const std::string& options, const Limits& limits) {
    const fs::path folder = golden() / "golden" / "sd1", model = golden() / "models" / "sd1.safetensors";
    const Program program;
    const Outcome o =
        program.run("generate -m '" + model.string() + "' --config '" + (folder / (name + ".json")).string() + "' --noise '" +
                    (folder / (name + ".safetensors")).string() + "' --trace trace.safetensors -o out/ " + options);
    ASSERT_EQ(o.status, 0) << o.err;
    const SafetensorsFile got(program.path() / "trace.safetensors"), want(folder / (name + ".safetensors"));
    const std::vector<std::pair<std::string, double>> checked{{"ids.tokenizer.prompt", 0},
                                                              {"ids.tokenizer.negative", 0},
                                                              {"prompt_embeds", limits.text},
                                                              {"negative_prompt_embeds", limits.text},
                                                              {"timesteps", 1e-6},
                                                              {"sigmas", 1e-6},
                                                              {"unet_out.first", limits.network},
                                                              {"latents", limits.latents},
                                                              {"final_image", limits.image}};
    int compared = 0;
    for (const auto& [tensor, limit] : checked) {
      // Without guidance the negative prompt is not read, though the reference records it.
      const bool unread = name == "txt2img_noguidance" && tensor.find("negative") != std::string::npos;
      if (want.header().find(tensor) == nullptr || unread) continue;
      compared++;
      std::vector<float> ours = got.floats(got.at(tensor)), theirs = want.floats(want.at(tensor));
      if (tensor == "sigmas") {  // the reference lists the levels of two-call samplers twice
        theirs.erase(std::unique(theirs.begin(), theirs.end()), theirs.end());
      } else {
        ASSERT_EQ(got.at(tensor).shape, want.at(tensor).shape) << tensor;
      }
      ASSERT_EQ(ours.size(), theirs.size()) << tensor;
      EXPECT_LE(relative_error(ours, theirs), limit) << tensor;
    }
    EXPECT_GE(compared, 5);
  }
};

TEST_P(GoldenRun, FollowsTheReference) {
  const auto& [name, device] = GetParam();
  check(name, "--precision f32 --device " + device, kFloat);
}

INSTANTIATE_TEST_SUITE_P(Devices, GoldenRun, testing::Combine(testing::ValuesIn(runs()), testing::Values("reference", "cpu")),
                         [](const auto& run) { return std::get<0>(run.param) + "_" + std::get<1>(run.param); });

class Bf16Run : public GoldenRun {};

TEST_P(Bf16Run, StaysNear) {
  const Program program;
  if (program.run("generate x " + kQuick + "--precision bf16 -o a.png").status == 4) GTEST_SKIP() << "this processor has no bf16";
  check(std::get<0>(GetParam()), "--precision bf16 --device cpu", kBf16);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Bf16Run, testing::Combine(testing::Values("txt2img_ddim5", "img2img_s060"), testing::Values("cpu")),
                         [](const auto& run) { return std::get<0>(run.param); });

}  // namespace
}  // namespace cudream
