// What a network predicts, told by its output.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/file.h"
#include "kernels/open.h"
#include "runtime/engine.h"
#include "runtime/prediction_probe.h"
#include "runtime/rng.h"
#include "tests/golden/tensors.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

TEST(Prediction, NoiseThatComesBackIsEpsilon) {
  const std::vector<float> noise = TorchCpuNoise(1).normal(4096), other = TorchCpuNoise(2).normal(4096);
  std::vector<float> epsilon(noise.size()), v(noise.size());
  for (size_t i = 0; i < noise.size(); i++) {
    epsilon[i] = 0.98f * noise[i] + 0.1f * other[i];
    v[i] = 0.068f * noise[i] - 0.998f * other[i];  // alpha and sigma of the last of 1000 steps
  }
  EXPECT_GT(share_of_noise(noise, epsilon), 0.9);
  EXPECT_LT(share_of_noise(noise, v), 0.2);
}

Prediction probed(const std::filesystem::path& path) {
  const Model model = open_model(path);
  Engine engine(open_device({.name = "cpu", .precision = DType::f32, .threads = 2}));
  engine.load(model);
  return probe_prediction(engine.ops(), model.spec(), engine.text_encoders(), engine.unet(), engine.weights(), Tokenizer());
}

TEST(Prediction, ATrainedNetworkIsRead) {
  EXPECT_EQ(probed(CUDREAM_SOURCE_DIR "/models/demo.safetensors"), Prediction::epsilon);
  // Random weights give nothing back, as a network of velocities would.
  EXPECT_EQ(probed(golden_model("sd2.safetensors")), Prediction::v);
}

TEST(Prediction, IsAskedWhereTheFileDoesNotSayIt) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "sd2.safetensors";
  std::filesystem::copy_file(golden_model("sd2.safetensors"), file);
  nlohmann::json config = nlohmann::json::parse(read_text(golden_model("sd2.config.json"), 1 << 20));
  config.erase("scheduler");
  std::ofstream(folder.path() / "sd2.config.json") << config;
  const Model model = open_model(file);
  EXPECT_FALSE(model.spec().prediction_known);
  Engine engine(open_device({.name = "cpu", .precision = DType::f32, .threads = 2}));
  engine.load(model);
  EXPECT_TRUE(engine.spec().prediction_known);
  EXPECT_EQ(engine.spec().noise.prediction, Prediction::v);
  EXPECT_EQ(engine.spec().assumed.back(), "prediction type: v, by what the network makes of pure noise");
}

}  // namespace
}  // namespace cudream
