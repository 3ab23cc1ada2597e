// Pictures of other programs: what of their settings becomes a job.
#include "runtime/foreign_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"

namespace cudream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

struct Taken {
  Job job;
  std::vector<std::string> notices;
};

Taken take(const std::string& values) {
  Taken taken;
  taken.job = job_from_parameters(read_parameters("a fox\nNegative prompt: rain\n" + values),
                                  [&](const std::string& text) { taken.notices.push_back(text); });
  return taken;
}

TEST(ForeignSettings, OfAPictureFromWords) {
  const auto [job, notices] = take(
      "Steps: 24, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 123, Size: 512x768, Model hash: 6ce0161689, "
      "Model: sd/v1-5-pruned, VAE: vae-ft-mse.safetensors, Clip skip: 2, Tiling: True, Version: v1.10.1");
  EXPECT_THAT(notices, IsEmpty());
  EXPECT_EQ(job.prompt, "a fox");
  EXPECT_EQ(job.negative, "rain");
  EXPECT_EQ(job.steps, 24);
  EXPECT_EQ(job.sampler, "DPM++ 2M");
  EXPECT_EQ(job.schedule, "Karras");
  EXPECT_EQ(job.guidance, 6.5);
  EXPECT_EQ(job.seed, 123u);
  EXPECT_EQ(job.width, 512);
  EXPECT_EQ(job.height, 768);
  EXPECT_EQ(job.model, "v1-5-pruned");
  EXPECT_EQ(job.vae, "vae-ft-mse");
  EXPECT_EQ(job.clip_skip, 2);
  EXPECT_EQ(job.tile, "xy");
  EXPECT_EQ(job.rng, "philox") << "what its setting RNG: GPU draws";
  EXPECT_FALSE(job.strength);
}

TEST(ForeignSettings, ASecondPassIsNoPictureFromAPicture) {
  const Taken twice =
      take("Steps: 20, Seed: 1, Denoising strength: 0.4, Hires upscale: 1.5, Hires steps: 10, Hires upscaler: ESRGAN");
  EXPECT_FALSE(twice.job.strength);
  EXPECT_EQ(twice.job.hires, "1.5");
  EXPECT_EQ(twice.job.hires_strength, 0.4);
  EXPECT_EQ(twice.job.hires_steps, 10);
  EXPECT_EQ(twice.job.hires_upscaler, "lanczos");
  EXPECT_THAT(twice.notices, ElementsAre(HasSubstr("ESRGAN")));
  EXPECT_EQ(take("Steps: 20, Seed: 1, Denoising strength: 0.4").job.strength, 0.4);
}

TEST(ForeignSettings, OfTheNoise) {
  const Taken varied = take("Steps: 20, Seed: 1, RNG: CPU, Variation seed: 7, Variation seed strength: 0.2, ENSD: 31337");
  EXPECT_EQ(varied.job.rng, "torch-cpu");
  EXPECT_EQ(varied.job.variation_seed, 7u);
  EXPECT_EQ(varied.job.variation_strength, 0.2);
  EXPECT_THAT(varied.notices, ElementsAre(HasSubstr("31337")));
}

TEST(ForeignSettings, WhatIsNotTakenOverIsSaid) {
  EXPECT_THAT(take("Steps: 20, Seed: 1, ADetailer model: face, Size: 64x64").notices, ElementsAre(HasSubstr("ADetailer model")));
}

TEST(ForeignSettings, NumbersThatAreNoneAreRefused) {
  for (const char* bad :
       {"Steps: many, Seed: 1, CFG scale: 7", "Steps: 2, Seed: -1, CFG scale: 7", "Steps: 2, Seed: 1, Size: 512",
        "Steps: 99999999999, Seed: 1, CFG scale: 7", "Steps: 2, Seed: 1, Size: 512x", "Steps: 2, Seed: 1, Size: ax2"})
    EXPECT_THROW(take(bad), Error) << bad;
}

}  // namespace
}  // namespace cudream
