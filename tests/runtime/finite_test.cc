// Stages whose values overflow in a half float: found, named, done again in float32, each picture as if alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "core/error.h"
#include "kernels/open.h"
#include "runtime/engine.h"
#include "runtime/picture/convert.h"
#include "tests/golden/overflowing.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A device that computes in half floats, and the overflow.
using Case = std::tuple<const char*, Overflow>;

class Finite : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const std::string device = std::get<0>(GetParam());
    try {
      half_ = std::make_unique<Engine>(
          open_device({.name = device, .precision = device == "cuda" ? DType::f16 : DType::bf16, .threads = 2}));
    } catch (const Error& e) {
      GTEST_SKIP() << e.what();  // a processor without bf16
    }
    whole_ = std::make_unique<Engine>(open_device({.name = device, .precision = DType::f32, .threads = 2}));
    const Model model = open_model(write_overflowing(folder_.path(), overflow()));
    half_->load(model);
    whole_->load(model);
    hooks_.on_redone = [this](size_t i, const std::string& stage) { redone_.emplace(i, stage); };
    hooks_.on_notice = [this](const std::string& notice) { notices_.push_back(notice); };
  }
  static const Overflow& overflow() { return std::get<1>(GetParam()); }
  Job job() const {
    Job job{.prompt = "a red house", .negative = "blurry", .seed = 3, .width = 32, .height = 32, .steps = 2};
    job.sampler = "ddim";
    complete(job, half_->spec());
    job.strength = 0.5;  // where there is a picture
    return job;
  }
  // The encoder is only asked about a picture.
  static Pass pass() {
    Pass pass;
    if (overflow().stage != std::string("encode")) return pass;
    for (int i = 0; i < 32 * 32 * 3; i++) pass.pictures.push_back(std::sin(0.01f * static_cast<float>(i)));
    return pass;
  }

  TemporaryFolder folder_;
  std::unique_ptr<Engine> half_, whole_;
  RunHooks hooks_;
  std::set<std::pair<size_t, std::string>> redone_;
  std::vector<std::string> notices_;
};

TEST_P(Finite, AStageThatOverflowsIsDoneAgainInFloat) {
  const Job mine = job();
  const Engine::Made made = half_->run({&mine, 1}, pass(), hooks_), want = whole_->run({&mine, 1}, pass());
  EXPECT_THAT(redone_, ElementsAre(std::pair(size_t{0}, std::string(overflow().stage))));
  EXPECT_THAT(notices_, ElementsAre(HasSubstr(std::string(overflow().stage) + ": values overflow in ")));
  // The other stages are in half floats: tests/golden's limit for latents of a run in bf16.
  EXPECT_LT(relative_error(made.latents, want.latents), 5e-2);
  // And the next run has the networks already.
  EXPECT_EQ(half_->run({&mine, 1}, pass()).images.front().pixels, made.images.front().pixels);
}

TEST_P(Finite, APictureOfABatchIsTheOneMadeAlone) {
  if (overflow().stage == std::string("encode")) GTEST_SKIP() << "one picture serves the batch";
  std::vector<Job> jobs{job(), job()};
  jobs[1].seed = 4;
  jobs[1].prompt = "a blue boat";
  jobs[1].guidance = 5;
  const Engine::Made both = half_->run(jobs, pass(), hooks_);
  EXPECT_EQ(redone_.size(), 2u);
  for (size_t i = 0; i < jobs.size(); i++)
    EXPECT_EQ(both.images[i].pixels, half_->run({&jobs[i], 1}, pass()).images.front().pixels) << i;
}

INSTANTIATE_TEST_SUITE_P(Stages, Finite, testing::Combine(testing::Values("cpu", "cuda"), testing::ValuesIn(kOverflows)),
                         [](const auto& c) { return std::string(std::get<0>(c.param)) + "_" + std::get<1>(c.param).stage; });

// Bit for bit what a device in float32 makes of the same latents.
TEST(FiniteDecode, IsThatOfFloat) {
  const TemporaryFolder folder;
  const Model model = open_model(write_overflowing(folder.path(), kOverflows[3]));
  Engine half(open_device({.name = "cuda", .precision = DType::f16})),
      whole(open_device({.name = "cuda", .precision = DType::f32}));
  half.load(model);
  whole.load(model);
  Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 1};
  complete(job, half.spec());
  const Engine::Made made = half.run({&job, 1}, {});
  std::vector<float> pixels;
  const auto decode = [&] {
    Ops& o = whole.ops();
    const int64_t side = 32 / half.spec().vae->factor();
    const Tensor z = o.upload(DType::f32, {1, side, side, 4}, std::span<const float>(made.latents)),
                 scaled = o.combine({{1 / half.spec().vae->scaling_factor, z}}), picture = whole.autoencoder().decode(o, scaled);
    pixels = o.download(picture);
  };
  whole.ops().run(whole.ops().rehearse(decode), decode);
  EXPECT_EQ(made.images.front().pixels, to_image(pixels, 32, 32, Layout::hwc, Range::minus_one_one).pixels);
}

// A preview that overflows is left out, and said once; one that a tiny autoencoder decodes is shown. The picture is the same.
TEST(FinitePreview, ChangesNoPicture) {
  const TemporaryFolder folder;
  std::shared_ptr<Device> device;
  try {
    device = open_device({.name = "cpu", .precision = DType::bf16, .threads = 2});
  } catch (const Error& e) {
    GTEST_SKIP() << e.what();  // a processor without bf16
  }
  Engine half(device);
  half.load(open_model(write_overflowing(folder.path(), kOverflows[3])));
  Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 3};
  complete(job, half.spec());
  const std::vector<uint8_t> want = half.run({&job, 1}, {}).images.front().pixels;
  int shown = 0;
  std::vector<std::string> notices;
  RunHooks hooks{.preview_every = 1, .on_preview = [&](const Image&) { shown++; }};
  hooks.on_notice = [&](const std::string& notice) { notices.push_back(notice); };
  EXPECT_EQ(half.run({&job, 1}, {}, hooks).images.front().pixels, want);
  EXPECT_EQ(shown, 0);
  EXPECT_THAT(notices, ElementsAre(HasSubstr("previews: the autoencoder's values overflow in bf16"), HasSubstr("decode: ")));
  half.use_previews(golden_model("taesd"));
  EXPECT_EQ(half.run({&job, 1}, {}, hooks).images.front().pixels, want);
  EXPECT_EQ(shown, 2);
}

// What is not finite in float32 either is an error, not a black picture.
TEST(FiniteWeights, DamagedOnesAreNamedByTheirStage) {
  const TemporaryFolder folder;
  Engine engine(open_device({.name = "cpu", .precision = DType::f32, .threads = 2}));
  for (const Overflow& overflow : kOverflows) {
    if (overflow.stage == std::string("encode")) continue;
    engine.load(open_model(write_overflowing(folder.path(), overflow, std::nanf(""))));
    Job job{.prompt = "a red house", .width = 32, .height = 32, .steps = 1};
    complete(job, engine.spec());
    try {
      engine.run({&job, 1}, {});
      FAIL() << overflow.stage;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::bad_file);
      EXPECT_THAT(e.what(), HasSubstr(std::string(overflow.stage) + ": the model gives NaN or infinity, in f32 too"));
    }
  }
}

}  // namespace
}  // namespace cudream
