// The engine on a GPU, virtual or real: recorded stages give the bytes of eager ones.
#include "runtime/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/error.h"
#include "kernels/open.h"
#include "loader/model.h"
#include "runtime/tasks.h"
#include "tests/cuda/virtual_gpu.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

// Three latents, decoded alone, two by two and all at once.
void expect_equal_decodes(Engine& engine) {
  const Shape latent{1, 4, 4, engine.spec().vae->latent_channels};
  const auto decoded = [&](int64_t from, int64_t to) {
    std::vector<float> values, pixels;
    for (int64_t i = from * latent.size(); i < to * latent.size(); i++) values.push_back(std::sin(static_cast<float>(i)));
    Ops& o = engine.ops();
    const auto job = [&] {
      const Tensor z = o.upload(DType::f32, latent.with(0, to - from), std::span<const float>(values));
      const Tensor pictures = engine.autoencoder().decode(o, z);
      pixels = o.download(pictures);
    };
    o.run(o.rehearse(job), job);
    return pixels;
  };
  const std::vector<float> all = decoded(0, 3);
  const auto size = static_cast<std::ptrdiff_t>(all.size() / 3);
  for (const auto& [from, to] : {std::pair(0, 1), {1, 2}, {2, 3}, {0, 2}, {1, 3}})
    EXPECT_EQ(decoded(from, to), std::vector(all.begin() + from * size, all.begin() + to * size)) << from << " to " << to;
}

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
  static std::vector<uint8_t> picture(Engine& engine, const Job& job) { return engine.run({&job, 1}, {}).images.front().pixels; }
};

TEST_F(GpuEngine, ReplayedStepsAreEagerStepsBitForBit) {
  const auto recording = open(), eager = open();
  eager->ops().set_tap([](const std::string&, View) {});  // inner values can be seen in an eager run only
  for (const auto& [width, steps] : {std::pair(32, 2), {64, 2}, {32, 3}, {64, 2}})
    EXPECT_EQ(picture(*recording, job(*recording, width, steps)), picture(*eager, job(*eager, width, steps))) << width;
  EXPECT_EQ(eager->ops().replays(), 0);
  EXPECT_GE(recording->ops().replays(), 5);  // calls beyond the first two at the same addresses
}

TEST_F(GpuEngine, PreviewsChangeNoBit) {
  const auto engine = open();
  const Job quiet = job(*engine, 64, 3);
  const std::vector<uint8_t> want = picture(*engine, quiet);
  int shown = 0;
  const RunHooks hooks{.preview_every = 1, .on_preview = [&](const Image& small) {
                         EXPECT_EQ(small.width, 64);
                         shown++;
                       }};
  EXPECT_EQ(engine->run({&quiet, 1}, {}, hooks).images.front().pixels, want);
  EXPECT_EQ(shown, 4);  // of five calls of the network (see the sampler above), without the last
}

TEST_F(GpuEngine, DecodingSeveralAtOnceChangesNoByte) {
  expect_equal_decodes(*open());
}

// Weights in one slab, sessions and stages in theirs: what the plan says is what the device gives, on every device, whole and in
// turn (--offload).
class Memory : public testing::TestWithParam<const char*> {
 protected:
  // As the program opens it: a card computes in f16, with the workspace of its tensor-core products.
  static std::unique_ptr<Device> open() {
    const std::string name = GetParam();
    return open_device({.name = name, .precision = name == "cuda" ? DType::f16 : DType::f32, .threads = 2});
  }
};

TEST_P(Memory, IsWhatThePlanSays) {
  for (const bool in_turn : {false, true}) {
    Engine engine(open());
    const Model model = open_model(golden() / "models" / "sd1.safetensors");
    const bool gpu = engine.device().info().kind.starts_with("cuda");
    const int64_t free = engine.device().free_bytes();
    engine.prepare(model, in_turn);
    Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 1, .guidance = 1};
    complete(job, engine.spec());
    const std::vector<ControlUse> controls{{.path = golden() / "models" / "controlnet-sd1.safetensors", .window = {}}};
    engine.prepare_controls(controls);
    const MemoryPlan plan = engine.memory({&job, 1}, {});
    EXPECT_EQ(engine.device().held_bytes(), 0);
    engine.load(model, {.in_turn = in_turn});
    EXPECT_EQ(engine.device().held_bytes(), plan.weights.device_bytes());
    engine.use_controls(controls);
    EXPECT_EQ(engine.device().held_bytes(), plan.weights.device_bytes() + plan.controls);
    engine.run({&job, 1}, {.controls = {std::vector<float>(32 * 32 * 3)}});
    EXPECT_EQ(engine.device().held_bytes(), plan.device_bytes());
    EXPECT_EQ(engine.device().most_bytes(), plan.device_bytes());
    if (gpu && is_virtual_gpu()) {  // others may use a real one
      EXPECT_EQ(free - engine.device().free_bytes(), plan.device_bytes());
    }
  }
}

TEST_P(Memory, OfAJobOfTwoPassesIsWhatThePlanSays) {
  for (const bool in_turn : {false, true}) {
    Engine engine(open());
    engine.load(open_model(golden() / "models" / "sd1.safetensors"), {.in_turn = in_turn});
    Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 2, .guidance = 1};
    job.hires = "2";
    complete(job, engine.spec());
    const JobMemory plan = plan_pictures({engine}, {job});
    EXPECT_EQ(plan.base.weights.in_turn, in_turn);
    EXPECT_EQ(engine.device().held_bytes(), plan.base.weights.device_bytes());
    EXPECT_EQ(make_pictures({engine}, {job}).front().width, 64);
    EXPECT_EQ(engine.device().held_bytes(), plan.device_bytes());
  }
}

TEST_P(Memory, OfPreviewsAndARefinerIsWhatThePlanSays) {
  for (const bool in_turn : {false, true}) {
    Engine base(open()), refiner(base.shared_device());
    const Engines engines{base, &refiner};
    const Model model = open_model(golden() / "models" / "sd1.safetensors");
    for (Engine* engine : {&base, &refiner}) {
      engine->prepare(model, in_turn);
      engine->prepare_previews(golden_model("taesd"));
    }
    Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 4, .guidance = 1};
    job.refiner = "sd1";
    job.refiner_start = 0.5;
    complete(job, base.spec());
    int shown = 0;
    const RunHooks hooks{.preview_every = 1, .on_preview = [&](const Image&) { shown++; }};
    const JobMemory plan = plan_pictures(engines, {job}, hooks);
    ASSERT_TRUE(plan.refiner);
    EXPECT_EQ(base.device().held_bytes(), 0);
    for (Engine* engine : {&base, &refiner}) {
      engine->load(model, {.in_turn = in_turn});
      engine->use_previews(golden_model("taesd"));
    }
    EXPECT_EQ(base.device().held_bytes(), plan.base.weight_bytes() + plan.refiner->weight_bytes());
    make_pictures(engines, {job}, hooks);
    EXPECT_EQ(shown, 2);  // of two steps each, without the last
    EXPECT_EQ(base.device().held_bytes(), plan.device_bytes());
    EXPECT_EQ(base.device().most_bytes(), plan.device_bytes());
    for (const MemoryPlan& one : {plan.base, *plan.refiner}) {
      EXPECT_GT(one.previews, 0);
      EXPECT_TRUE(one.job.stages.contains("preview [1,4,4,4]"));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Devices, Memory, testing::Values("reference", "cpu", "cuda"),
                         [](const auto& device) { return std::string(device.param); });

// Pictures of one pass with prompts, guidance and seeds of their own are those made alone, byte for byte.
class Together : public testing::TestWithParam<const char*> {
 protected:
  Together() : engine_(open_device({.name = GetParam(), .precision = DType::f32, .threads = 2})) {
    engine_.load(open_model(golden() / "models" / "sd1.safetensors"));
  }
  Job job(const std::string& prompt, uint64_t seed, double guidance) {
    Job job{.prompt = prompt, .negative = "blurry", .seed = seed, .width = 32, .height = 32, .steps = 2, .guidance = guidance};
    job.sampler = "euler_a";  // draws noise in every step
    complete(job, engine_.spec());
    return job;
  }
  bool encodes(const Job& job) {
    const Ops::Plan plan = engine_.plan({&job, 1}, {});
    return std::ranges::any_of(plan.stages, [](const auto& stage) { return stage.first.starts_with("text"); });
  }
  Engine engine_;
};

TEST_P(Together, EachPictureIsTheOneMadeAlone) {
  const std::vector<Job> jobs{job("a red house", 5, 7), job("two (blue:1.3) boats, calm sea", 9, 3), job("a red house", 6, 7)};
  const std::vector<Image> made = engine_.run(jobs, {}).images;
  ASSERT_EQ(made.size(), jobs.size());
  for (size_t i = 0; i < jobs.size(); i++) {
    EXPECT_EQ(engine_.pass_key(jobs[i]), engine_.pass_key(jobs[0])) << i;
    engine_.forget_texts();
    EXPECT_EQ(engine_.run({&jobs[i], 1}, {}).images.front().pixels, made[i].pixels) << i;
  }
  EXPECT_NE(made[0].pixels, made[2].pixels);
}

TEST_P(Together, ComposedPromptsAndARefinerChangeNothingOfThat) {
  std::vector<Job> jobs{job("a red house AND fog:0.5", 5, 7), job("two boats AND calm sea:0.5", 9, 3)};
  for (Job& one : jobs) one.refiner = "itself", one.refiner_start = 0.5;
  const Engines engines{engine_, &engine_};
  const std::vector<Image> made = make_pictures(engines, jobs);
  ASSERT_EQ(made.size(), jobs.size());
  EXPECT_EQ(engines.pass_key(jobs[0]), engines.pass_key(jobs[1]));
  for (size_t i = 0; i < jobs.size(); i++) EXPECT_EQ(make_pictures(engines, {jobs[i]}).front().pixels, made[i].pixels) << i;
}

TEST_P(Together, ATextIsEncodedOnce) {
  const Job one = job("a red house", 5, 7), other = job("a blue house", 5, 7);
  EXPECT_TRUE(encodes(one));
  const std::vector<uint8_t> before = engine_.run({&one, 1}, {}).images.front().pixels;
  EXPECT_FALSE(encodes(one));
  EXPECT_TRUE(encodes(other));
  EXPECT_EQ(engine_.run({&one, 1}, {}).images.front().pixels, before);
  engine_.use_loras({{golden() / "models" / "lora-sd1-kohya.safetensors", 1}});
  EXPECT_TRUE(encodes(one)) << "other weights";
  EXPECT_NE(engine_.run({&one, 1}, {}).images.front().pixels, before);
}

// Where an encoder pools texts too: three different ones in one call.
TEST_P(Together, TextsThatArePooledAreEncodedAtOnce) {
  engine_.load(open_model(golden_model("sdxl.safetensors")));
  const std::vector<Job> jobs{job("a red house", 5, 7), job("two (blue:1.3) boats, calm sea", 9, 3)};
  const Ops::Plan plan = engine_.plan(jobs, {});
  EXPECT_TRUE(std::ranges::any_of(plan.stages, [](const auto& stage) { return stage.first.starts_with("text pooled 3 x"); }));
  const std::vector<Image> made = engine_.run(jobs, {}).images;
  for (size_t i = 0; i < jobs.size(); i++) {
    engine_.forget_texts();
    EXPECT_EQ(engine_.run({&jobs[i], 1}, {}).images.front().pixels, made[i].pixels) << i;
  }
}

TEST_P(Together, DecodingSeveralAtOnceChangesNoByte) {
  expect_equal_decodes(engine_);
}

TEST_P(Together, ALatentThatWasNotDecodedIsKept) {
  const std::vector<Job> jobs{job("a red house", 5, 7), job("a boat", 6, 7)};
  const std::vector<Image> made = engine_.run(jobs, {}).images;
  std::vector<float> kept;
  const RunHooks failing{.on_stage =
                             [](const std::string& stage, int) {
                               if (stage == "decode") throw fail(Code::out_of_memory, "no room");
                             },
                         .on_undecoded = [&](std::span<const float> latents) { kept.assign(latents.begin(), latents.end()); }};
  EXPECT_THROW(engine_.run(jobs, {}, failing), Error);
  ASSERT_FALSE(kept.empty());
  const std::vector<Image> decoded = engine_.run(jobs, {.latents = kept, .denoise = false}).images;
  for (size_t i = 0; i < jobs.size(); i++) EXPECT_EQ(decoded[i].pixels, made[i].pixels) << i;
}

INSTANTIATE_TEST_SUITE_P(Devices, Together, testing::Values("reference", "cpu", "cuda"),
                         [](const auto& device) { return std::string(device.param); });

// A pass decodes several at once, where its steps have been, and makes of them what it makes of each alone.
TEST(Decodes, OfAPassTakeNoMoreMemoryThanItsSteps) {
  Engine engine(open_device({.name = "cpu", .precision = DType::f32, .threads = 2}));
  engine.load(open_model(golden() / "models" / "sd1.safetensors"));
  Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 1};
  complete(job, engine.spec());
  const std::vector<Job> jobs = first_pictures(job, 19);
  int64_t decodes = 0, steps = 0;
  const Ops::Plan plan = engine.plan(jobs, {});
  for (const auto& [key, stage] : plan.stages) {
    if (key.starts_with("decode ["))
      decodes = std::max<int64_t>(decodes, std::stoll(key.substr(8)));
    else
      steps = std::max(steps, stage.layout.bytes);
  }
  EXPECT_EQ(decodes, 2) << "and the last one alone";
  EXPECT_EQ(plan.stage_bytes, steps);
  const Engine::Made made = engine.run(jobs, {});
  const std::vector<Image> alone = engine.run(jobs, {.latents = made.latents, .denoise = false}).images;
  ASSERT_EQ(made.images.size(), jobs.size());
  for (size_t i = 0; i < jobs.size(); i++) EXPECT_EQ(made.images[i].pixels, alone[i].pixels) << i;
}

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
