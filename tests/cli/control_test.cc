// ControlNets through the program: what they change, what is said, what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/cli/program.h"
#include "tests/golden/tensors.h"
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const std::string kModels = "--models-dir '" + (golden() / "models").string() + "' --device cpu --precision f32 ";
// By path: by name, a model made for the job would take its place.
const std::string kJob =
    kModels + "-m '" + (golden() / "models" / "sd1.safetensors").string() + "' --steps 2 -W 64 -H 64 --seed 5 ";

class ControlTest : public ::testing::Test {
 protected:
  ControlTest() {
    write_image(program_.path() / "edges.png", gradient(64, 64), {}, Exists::refuse);
    write_image(program_.path() / "small.png", gradient(32, 48), {}, Exists::refuse);
  }
  Outcome generate(const std::string& options, const std::string& output) const {
    return program_.run("generate house " + kJob + options + " -o " + output);
  }
  std::vector<uint8_t> picture(const std::string& options, const std::string& output) const {
    const Outcome o = generate(options, output);
    EXPECT_EQ(o.status, 0) << o.err;
    return o.status == 0 ? read_image(program_.path() / output).pixels : std::vector<uint8_t>{};
  }
  Program program_;
};

TEST_F(ControlTest, ActsAsStronglyAsAskedAndNotLonger) {
  const std::string image = " --control-image edges.png";
  const auto plain = picture("", "plain.png"), full = picture("--control controlnet-sd1" + image, "full.png");
  EXPECT_NE(full, plain);
  EXPECT_EQ(picture("--control controlnet-sd1:0" + image, "none.png"), plain);
  EXPECT_EQ(picture("--control controlnet-sd1:1:0.1:0.4" + image, "never.png"), plain);  // no whole step of two
  const auto half = picture("--control controlnet-sd1:0.5" + image, "half.png");
  EXPECT_NE(half, full);
  // Two of half the strength are one of the whole.
  const auto twice = picture("--control controlnet-sd1:0.5 --control controlnet-sd1:0.5" + image + image, "twice.png");
  int most = 0;
  for (size_t i = 0; i < full.size(); i++) most = std::max(most, std::abs(full[i] - twice[i]));
  EXPECT_LE(most, 1);
}

TEST_F(ControlTest, APictureIsTheSameInABatch) {
  const std::string control = "--control controlnet-sd1:1:0:0.5 --control-image edges.png ";
  const auto alone = picture(control + "--seed 6", "alone.png");
  std::filesystem::create_directory(program_.path() / "two");
  const Outcome o = program_.run("generate house " + kJob + control + "-c 2 -b 2 -o two/{index}.png");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(read_image(program_.path() / "two/2.png").pixels, alone);
}

TEST_F(ControlTest, APictureOfAnotherSizeIsResizedAndThatIsSaid) {
  const Outcome o = generate("--control controlnet-sd1 --control-image small.png", "a.png");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("small.png is 32 x 48 pixels; it is resized to 64 x 64"));
}

TEST_F(ControlTest, GoesWithEveryJob) {
  write_image(program_.path() / "p.png", gradient(40, 36), {}, Exists::refuse);
  Image mask = gradient(40, 36);
  for (size_t i = 0; i < mask.pixels.size(); i++) mask.pixels[i] = i / 3 % 40 < 20 ? 255 : 0;
  write_image(program_.path() / "m.png", mask, {}, Exists::refuse);
  for (const std::string job : {"-W 40 -H 36 --image p.png", "--image p.png --mask m.png --only-masked -W 32 -H 32",
                                "--image p.png -W 40 -H 36 --grow 0,0,8,0", "-W 32 -H 32 --hires 1.5"}) {
    SCOPED_TRACE(job);
    const auto plain = picture(job + " --overwrite", "a.png"),
               controlled = picture(job + " --overwrite --control controlnet-sd1 --control-image edges.png", "a.png");
    EXPECT_EQ(plain.size(), controlled.size());
    EXPECT_NE(plain, controlled);
  }
}

TEST_F(ControlTest, IsStoredAndAskedForAgain) {
  const auto made = picture("--control controlnet-sd1:0.8:0:0.5 --control-image edges.png", "a.png");
  EXPECT_THAT(program_.run("inspect a.png").out,
              HasSubstr("Module: none, Model: controlnet-sd1, Weight: 0.8, Guidance Start: 0, Guidance End: 0.5"));
  const std::string again = "generate --from a.png " + kModels + "-o b.png ";
  const Outcome without = program_.run(again);
  EXPECT_EQ(without.status, 2);
  EXPECT_THAT(without.err, HasSubstr("its ControlNets saw edges.png; pass these with --control-image"));
  EXPECT_EQ(program_.run(again + "--control-image edges.png").status, 0);
  EXPECT_EQ(read_image(program_.path() / "b.png").pixels, made);
}

TEST_F(ControlTest, WorksInABatchFile) {
  const auto alone = picture("--control controlnet-sd1:0.8 --control-image edges.png", "alone.png");
  program_.write("jobs.jsonl",
                 R"({"prompt": "house", "control": "controlnet-sd1:0.8", "control-image": "edges.png"}
{"prompt": "house", "control": "controlnet-sd1,controlnet-sd1", "control-image": "edges.png,gone.png"}
)");
  const Outcome o = program_.run("batch jobs.jsonl " + kJob + "-o out");
  EXPECT_THAT(o.err, HasSubstr("--control-image gone.png: no file that can be read"));
  size_t found = 0;
  for (const auto& entry : std::filesystem::directory_iterator(program_.path() / "out"))
    if (entry.path().extension() == ".png") found += read_image(entry.path()).pixels == alone;
  EXPECT_EQ(found, 1u);
}

TEST_F(ControlTest, ThePlanHasIts) {
  const std::string plan = "plan house " + kJob;
  EXPECT_THAT(program_.run(plan + "--control controlnet-sd1 --control-image edges.png").out, HasSubstr("controlnet"));
  EXPECT_EQ(program_.run(plan).out.find("controlnet"), std::string::npos);
}

TEST_F(ControlTest, WhatDoesNotFitIsRefused) {
  const auto refusal = [&](const std::string& options, int status) {
    const Outcome o = program_.run("generate house " + kModels + "--steps 1 -W 64 -H 64 " + options + " -o x.png");
    EXPECT_EQ(o.status, status) << o.err;
    EXPECT_FALSE(program_.has("x.png"));
    return o.err;
  };
  const std::string image = " --control-image edges.png";
  EXPECT_THAT(refusal("-m controlnet-sd1", 4), AllOf(HasSubstr("is an adapter"), HasSubstr("and this with --control")));
  EXPECT_THAT(refusal("-m sd1 --control lora-sd1-kohya" + image, 4), HasSubstr("it is no ControlNet (sd1 lora)"));
  EXPECT_THAT(refusal("-m '" + golden_model("sdxl.safetensors").string() + "' --control controlnet-sd1" + image, 4),
              HasSubstr("is for another kind of model (sd1): it reads text of width 16, and this model's has 24"));
  EXPECT_THAT(refusal("-m sd1 --control controlnet-sd1", 2), HasSubstr("1 --control with 0 --control-image"));
  EXPECT_THAT(refusal("-m sd1" + image, 2), HasSubstr("0 --control with 1 --control-image"));
  EXPECT_THAT(refusal("-m sd1 --control controlnet-sd1:much" + image, 2), HasSubstr("expected NAME, NAME:STRENGTH"));
  EXPECT_THAT(refusal("-m sd1 --control controlnet-sd1:1:0.6:0.2" + image, 2), HasSubstr("it acts from 0.6 to 0.2"));
  EXPECT_THAT(refusal("-m sd1 --control gone" + image, 8), HasSubstr("no model is named \"gone\""));
}

}  // namespace
}  // namespace cudream
