// The engine on a GPU, virtual or real: recorded stages give the bytes of eager ones.
#include "runtime/engine.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "kernels/open.h"
#include "loader/model.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

class GpuEngine : public testing::Test {
 protected:
  static std::unique_ptr<Engine> open() {
    auto engine = std::make_unique<Engine>(open_device({.name = "cuda", .precision = DType::f16}));
    engine->load(open_model(golden() / "models" / "sd1.safetensors"));
    return engine;
  }
  static Job job(const Engine& engine, int width, int steps) {
    Job job{.prompt = "a red house", .negative = "blurry", .width = width, .height = 32, .steps = steps};
    job.sampler = "heun";  // two calls of the network a step, at levels of its own
    complete(job, engine.spec());
    return job;
  }
  static std::vector<uint8_t> picture(Engine& engine, const Job& job) { return engine.run(job, 1).front().pixels; }
};

TEST_F(GpuEngine, ReplayedStepsAreEagerStepsBitForBit) {
  const auto recording = open(), eager = open();
  eager->ops().set_tap([](const std::string&, View) {});  // inner values can be seen in an eager run only
  for (const auto& [width, steps] : {std::pair(32, 2), {64, 2}, {32, 3}, {64, 2}})
    EXPECT_EQ(picture(*recording, job(*recording, width, steps)), picture(*eager, job(*eager, width, steps))) << width;
  EXPECT_EQ(eager->ops().replays(), 0);
  EXPECT_GE(recording->ops().replays(), 5);  // calls beyond the first two at the same addresses
}

}  // namespace
}  // namespace cudream
