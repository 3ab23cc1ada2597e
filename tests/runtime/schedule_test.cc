#include "runtime/schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "core/error.h"
#include "runtime/beta_quantile.h"
#include "runtime/noise_table.h"
#include "runtime/scheduler_names.h"

namespace cudream {
namespace {

using testing::HasSubstr;

std::string message_of(Code code, const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no error";
}

ScheduleConfig config_of(std::string_view sampler, std::string_view schedule, int steps) {
  ScheduleConfig config;
  config.steps = steps;
  set_sampler(config, sampler);
  set_schedule(config, schedule);
  return config;
}

bool needs_training_steps(std::string_view sampler) {
  return sampler == "tcd" || sampler == "pndm";
}

TEST(Schedule, FallsFromNoiseToPictureWhateverItsName) {
  for (const auto& [sampler, label] : sampler_names()) {
    for (const std::string_view name : schedule_names()) {
      const bool along_training = name == "leading" || name == "trailing" || name == "linspace";
      if (needs_training_steps(sampler) && !along_training) continue;
      for (const int steps : {1, 2, 3, 7, 20, 50}) {
        const auto at = fmt::format("{} {} {}", sampler, name, steps);
        const ScheduleConfig config = config_of(sampler, name, steps);
        const Schedule schedule = make_schedule(config);
        ASSERT_EQ(schedule.steps.size(), static_cast<size_t>(steps)) << at;
        ASSERT_EQ(schedule.sigmas.size(), static_cast<size_t>(steps) + 1) << at;
        for (size_t i = 0; i < schedule.steps.size(); i++) {
          const auto& [from, mid, to] = schedule.steps[i];
          // One step of linspace is at timestep 0, the cleanest, and DDIM stays there; that is how it is defined.
          if (name != "linspace") {
            EXPECT_GT(from.sigma / from.alpha, to.sigma / to.alpha) << at;
          }
          EXPECT_GE(from.t, 0) << at;
          EXPECT_LE(from.t, 999) << at;
          const double norm = variance_preserving(config.sampler) ? std::hypot(from.alpha, from.sigma) : from.alpha;
          EXPECT_NEAR(norm, 1, 1e-6) << at;
        }
      }
    }
  }
}

TEST(Schedule, ATailIsTheEndOfTheWhole) {
  const Schedule whole = make_schedule(config_of("ddim", "leading", 5));
  const Schedule part = tail(whole, 0.6);
  EXPECT_EQ(part.begin, 2u);
  EXPECT_EQ(part.first(), whole.steps[2].from);
  EXPECT_EQ(tail(whole, 1).begin, 0u);
  EXPECT_EQ(tail(whole, 0.75).begin, 2u);  // int(3.75) steps
  EXPECT_THAT(message_of(Code::usage, [&] { tail(whole, 0.1); }),
              HasSubstr("--strength 0.1 of 5 steps leaves none to take: use at least 0.2"));
}

TEST(Schedule, ATailCallsTheStartersOfItsFirstStep) {
  const ScheduleConfig config = config_of("pndm", "leading", 5);
  const Schedule part = tail(make_schedule(config), 0.6);
  EXPECT_EQ(calls_of_step(config, part, 2), 2);
  EXPECT_EQ(calls_of_step(config, part, 3), 1);
}

TEST(Schedule, RefusesWhatHasNoMeaning) {
  const auto usage = [](const ScheduleConfig& config) { return message_of(Code::usage, [&] { make_schedule(config); }); };
  EXPECT_THAT(usage(config_of("ddim", "leading", 0)), HasSubstr("0 steps: this sampler and schedule take 1 to 1000"));
  EXPECT_THAT(usage(config_of("ddim", "leading", 1001)), HasSubstr("1001 steps"));
  EXPECT_THAT(usage(config_of("ddim", "leading", 1000)), HasSubstr("with leading spacing and an offset of 1"));
  EXPECT_THAT(usage(config_of("lcm", "leading", 51)), HasSubstr("take 1 to 50"));
  EXPECT_THAT(usage(config_of("pndm", "karras", 20)), HasSubstr("use the schedule leading, trailing or linspace"));

  const auto unsupported = [](const ScheduleConfig& config) {
    return message_of(Code::unsupported, [&] { make_schedule(config); });
  };
  ScheduleConfig config = config_of("ddim", "trailing", 10);
  config.noise.zero_terminal_snr = true;
  EXPECT_THAT(unsupported(config), HasSubstr("prediction type must be v_prediction or sample"));
  config.noise.prediction = Prediction::v;
  EXPECT_EQ(make_schedule(config).first().alpha, 0);
  ScheduleConfig pndm = config_of("pndm", "trailing", 10);
  pndm.noise = config.noise;
  EXPECT_THAT(usage(pndm), HasSubstr("use ddim or euler"));
  config.noise.beta_schedule = "sigmoid";
  EXPECT_THAT(unsupported(config), HasSubstr("beta_schedule \"sigmoid\": there are linear, scaled_linear"));
  config = config_of("ddim", "leading", 10);
  config.noise.beta_end = 1.5;
  EXPECT_THAT(unsupported(config), HasSubstr("is not between 0 and 1"));
  config = config_of("ddim", "leading", 10);
  config.noise.steps_offset = -3;
  EXPECT_THAT(unsupported(config), HasSubstr("steps_offset -3"));
  config = config_of("ddim", "leading", 10);
  config.eta = 1.5;
  EXPECT_THAT(usage(config), HasSubstr("--eta 1.5: from 0"));
  config = config_of("euler", "karras", 10);
  config.sigma_min = 80;
  EXPECT_THAT(unsupported(config), HasSubstr("sigma_min 80 and sigma_max 14.6"));
  config = config_of("dpm++2m", "karras", 10);
  config.order = 4;
  EXPECT_THAT(unsupported(config), HasSubstr("solver order 4: this solver has 1 to 3"));
}

TEST(NoiseTable, KnowsTheWayBack) {
  const NoiseTable table{NoiseSpec{}};
  EXPECT_NEAR(table.sigma_max(), 14.6146, 1e-4);
  EXPECT_NEAR(table.sigma_min(), 0.0291675, 1e-7);
  for (const double t : {0.0, 0.25, 1.0, 500.5, 998.75, 999.0}) EXPECT_NEAR(table.t_of(table.sigma_log_linear(t)), t, 1e-9);
  EXPECT_EQ(table.t_of(0), 0);
  EXPECT_EQ(table.t_of(100), 999);
}

TEST(PredictedClean, UndoesEveryPrediction) {
  // x = alpha * x0 + sigma * noise, for x0 = 2 and noise = 3, in both scalings
  for (const Level& level : {Level{0.6, 0.8, 0}, Level{1, 14.6, 0}, Level{1, 0.03, 0}}) {
    const double x0 = 2, noise = 3, x = level.alpha * x0 + level.sigma * noise, norm = std::hypot(level.alpha, level.sigma);
    const std::pair<Prediction, double> outputs[] = {
        {Prediction::epsilon, noise}, {Prediction::v, (level.alpha * noise - level.sigma * x0) / norm}, {Prediction::sample, x0}};
    for (const auto& [prediction, output] : outputs) {
      const auto [cx, co] = predicted_clean(level, prediction);
      EXPECT_NEAR(cx * x + co * output, x0, 1e-12);
    }
  }
}

TEST(BetaQuantile, MeetsClosedForms) {
  for (const double p : {0.0, 0.01, 0.3, 0.5, 0.99, 1.0}) {
    EXPECT_NEAR(beta_quantile(p, 1, 1), p, 1e-12);
    EXPECT_NEAR(beta_quantile(p, 3, 1), std::cbrt(p), 1e-12);
    EXPECT_NEAR(beta_quantile(p, 0.5, 0.5), std::pow(std::sin(p * M_PI / 2), 2), 1e-12);  // the arcsine law
    EXPECT_NEAR(beta_quantile(p, 0.6, 0.6), 1 - beta_quantile(1 - p, 0.6, 0.6), 1e-12);
  }
}

}  // namespace
}  // namespace cudream
