// The engine on a GPU, virtual or real: recorded stages give the bytes of eager ones.
#include "runtime/engine.h"

#include <gtest/gtest.h>

#include <cstdlib>
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
  static std::vector<uint8_t> picture(Engine& engine, const Job& job) { return engine.run(job, {}, 1).images.front().pixels; }
};

TEST_F(GpuEngine, ReplayedStepsAreEagerStepsBitForBit) {
  const auto recording = open(), eager = open();
  eager->ops().set_tap([](const std::string&, View) {});  // inner values can be seen in an eager run only
  for (const auto& [width, steps] : {std::pair(32, 2), {64, 2}, {32, 3}, {64, 2}})
    EXPECT_EQ(picture(*recording, job(*recording, width, steps)), picture(*eager, job(*eager, width, steps))) << width;
  EXPECT_EQ(eager->ops().replays(), 0);
  EXPECT_GE(recording->ops().replays(), 5);  // calls beyond the first two at the same addresses
}

// Weights in one slab, sessions and stages in theirs: what the plan says is what the device gives, on every device.
class Memory : public testing::TestWithParam<const char*> {};

TEST_P(Memory, IsWhatThePlanSays) {
  for (const bool in_turn : {false, true}) {
    Engine engine(open_device({.name = GetParam(), .precision = DType::f32, .threads = 2}));
    const Model model = open_model(golden() / "models" / "sd1.safetensors");
    const bool gpu = engine.device().info().kind.starts_with("cuda");
    const int64_t free = engine.device().free_bytes();
    engine.prepare(model, in_turn);
    Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 1, .guidance = 1};
    complete(job, engine.spec());
    const std::vector<ControlUse> controls{{.path = golden() / "models" / "controlnet-sd1.safetensors", .window = {}}};
    engine.prepare_controls(controls);
    const MemoryPlan plan = engine.memory(job, {}, 1);
    EXPECT_EQ(engine.device().held_bytes(), 0);
    engine.load(model, {.in_turn = in_turn});
    EXPECT_EQ(engine.device().held_bytes(), plan.weights.device_bytes());
    engine.use_controls(controls);
    EXPECT_EQ(engine.device().held_bytes(), plan.weights.device_bytes() + plan.controls);
    engine.run(job, {.controls = {std::vector<float>(32 * 32 * 3)}}, 1);
    EXPECT_EQ(engine.device().held_bytes(), plan.device_bytes());
    EXPECT_EQ(engine.device().most_bytes(), plan.device_bytes());
    if (gpu && std::getenv("CUDREAM_LIBCUDA") != nullptr) {
      EXPECT_EQ(free - engine.device().free_bytes(), plan.device_bytes());
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Memory, testing::Values("reference", "cpu", "cuda"),
                         [](const auto& device) { return std::string(device.param); });

// Three parts in turn give the picture of three parts at once.
TEST_F(GpuEngine, OffloadedWeightsMakeTheSamePicture) {
  const auto whole = open();
  Engine in_turn(open_device({.name = "cuda", .precision = DType::f16}));
  const LoadReport report = in_turn.load(open_model(golden() / "models" / "sd1.safetensors"), {.in_turn = true});
  EXPECT_GT(report.bytes, 0);
  EXPECT_LT(in_turn.weight_bytes(), whole->weight_bytes());
  const Job small = job(*whole, 32, 1);
  for (int i = 0; i < 2; i++) EXPECT_EQ(picture(in_turn, small), picture(*whole, small));
}

}  // namespace
}  // namespace cudream
