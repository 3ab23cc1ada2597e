#include "runtime/scheduler_names.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/error.h"

namespace cudream {
namespace {

using testing::HasSubstr;

ScheduleConfig config_of(std::string_view name) {
  ScheduleConfig config;
  set_sampler(config, name);
  return config;
}

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::usage);
    return error.what();
  }
  return "no error";
}

TEST(SamplerNames, LeadThereAndBack) {
  for (const NamedSampler& named : sampler_names()) {
    EXPECT_EQ(sampler_name(config_of(named.name)).name, named.name);
    EXPECT_EQ(config_of(named.label), config_of(named.name)) << named.label;
  }
  for (const std::string_view name : schedule_names()) {
    ScheduleConfig config;
    set_schedule(config, name);
    EXPECT_EQ(schedule_name(config), name);
  }
}

TEST(SamplerNames, OfOtherProgramsAreAliases) {
  const std::pair<std::string_view, std::string_view> aliases[] = {
      {"dpmpp_2m", "dpm++2m"},  // ComfyUI
      {"dpmpp_2m_sde_gpu", "dpm++2m-sde"},
      {"dpmpp_3m_sde", "dpm++3m-sde"},
      {"dpmpp_2s_ancestral", "dpm++2s-a"},
      {"dpmpp_sde", "dpm++sde"},
      {"euler_ancestral", "euler-a"},
      {"dpm_2", "dpm2"},
      {"dpm_2_ancestral", "dpm2-a"},
      {"uni_pc", "unipc"},
      {"uni_pc_bh2", "unipc"},
      {"PLMS", "pndm"},  // the web UI
      {"DPM++ 2M SDE Heun", "dpm++2m-sde-heun"},
      {"DPMSolverMultistepScheduler", "dpm++2m"},  // diffusers
      {"EulerAncestralDiscreteScheduler", "euler-a"},
      {"KDPM2DiscreteScheduler", "dpm2"},
      {"PNDMScheduler", "pndm"},
      {"LCMScheduler", "lcm"},
  };
  for (const auto& [alias, name] : aliases) EXPECT_EQ(sampler_name(config_of(alias)).name, name) << alias;
}

TEST(SamplerNames, MayCarryAScheduleAlong) {
  for (const std::string_view name : {"DPM++ 2M Karras", "dpmpp_2m_karras", "dpm++2m karras"}) {
    EXPECT_EQ(sampler_name(config_of(name)).label, "DPM++ 2M") << name;
    EXPECT_EQ(schedule_name(config_of(name)), "karras") << name;
  }
  EXPECT_EQ(schedule_name(config_of("DPM++ 2M SDE Exponential")), "exponential");
  EXPECT_EQ(schedule_name(config_of("DPM++ 2M SDE Heun Karras")), "karras");
  EXPECT_EQ(schedule_name(config_of("Euler trailing")), "trailing");
}

TEST(SamplerNames, KeepStepsAndNoiseAndNothingElse) {
  ScheduleConfig config = config_of("dpm++3m-sde");
  config.steps = 7;
  config.noise.prediction = Prediction::v;
  set_sampler(config, "euler");
  EXPECT_EQ(config.steps, 7);
  EXPECT_EQ(config.noise.prediction, Prediction::v);
  EXPECT_EQ(config.eta, 0);
  EXPECT_FALSE(config.heun_type);
}

TEST(SamplerNames, UnknownOnesListTheNearest) {
  const auto sampler = message_of([] { config_of("eulr"); });
  EXPECT_THAT(sampler, HasSubstr("--sampler \"eulr\" is not known; the nearest are euler, "));
  EXPECT_THAT(sampler, HasSubstr("There are ddim, "));
  ScheduleConfig config;
  EXPECT_THAT(message_of([&] { set_schedule(config, "karas"); }),
              HasSubstr("--schedule \"karas\" is not known; the nearest are karras, "));
  EXPECT_THAT(message_of([] { config_of(""); }), HasSubstr("is not known"));
  EXPECT_THAT(message_of([] { config_of("a\x1b[31m"); }), HasSubstr("\\x1b"));
}

}  // namespace
}  // namespace cudream
