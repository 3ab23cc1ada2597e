#include "runtime/diffusers_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "core/error.h"
#include "tests/runtime/golden.h"

namespace cudream {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string message_of(Code code, std::string_view name, const json& config) {
  try {
    from_diffusers(name, config, 20);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  return "no error";
}

TEST(DiffusersConfig, AnAbsentKeyTakesTheDefaultOfTheClassInUse) {
  EXPECT_EQ(from_diffusers("DDIMScheduler", json::object(), 20).spacing, Spacing::leading);
  EXPECT_EQ(from_diffusers("EulerDiscreteScheduler", json::object(), 20).spacing, Spacing::linspace);
  EXPECT_EQ(from_diffusers("EulerDiscreteScheduler", {{"timestep_spacing", "leading"}}, 20).spacing, Spacing::leading);
  EXPECT_EQ(from_diffusers("EulerDiscreteScheduler", {{"timestep_spacing", nullptr}}, 20).spacing, Spacing::linspace);
  EXPECT_TRUE(from_diffusers("DDIMScheduler", json::object(), 20).clip.has_value());
  EXPECT_FALSE(from_diffusers("PNDMScheduler", json::object(), 20).noise.set_alpha_to_one);
  EXPECT_EQ(from_diffusers("LCMScheduler", json::object(), 4).noise.beta_schedule, "scaled_linear");
}

TEST(DiffusersConfig, RefusesByNameWhatItDoesNotHave) {
  EXPECT_THAT(message_of(Code::unsupported, "VQDiffusionScheduler", json::object()),
              HasSubstr("\"VQDiffusionScheduler\": there are DDIMScheduler, "));
  EXPECT_THAT(message_of(Code::unsupported, "DDIMScheduler", {{"trained_betas", {0.1}}}),
              HasSubstr("trained_betas is not supported"));
  EXPECT_THAT(message_of(Code::unsupported, "UniPCMultistepScheduler", {{"use_flow_sigmas", true}}),
              HasSubstr("use_flow_sigmas"));
  EXPECT_THAT(message_of(Code::unsupported, "DPMSolverMultistepScheduler", {{"lambda_min_clipped", -5.1}}),
              HasSubstr("lambda_min_clipped"));
  EXPECT_THAT(message_of(Code::unsupported, "DDIMScheduler", {{"prediction_type", "flow"}}),
              HasSubstr("\"flow\" is not supported; there are epsilon"));
  EXPECT_THAT(message_of(Code::unsupported, "DPMSolverMultistepScheduler", {{"algorithm_type", "sde-dpmsolver"}}),
              HasSubstr("algorithm_type"));
  EXPECT_THAT(
      message_of(Code::unsupported, "DPMSolverMultistepScheduler", {{"algorithm_type", "sde-dpmsolver++"}, {"solver_order", 3}}),
      HasSubstr("--sampler dpm++3m-sde"));
}

TEST(DiffusersConfig, RefusesValuesOfTheWrongType) {
  EXPECT_THAT(message_of(Code::bad_file, "DDIMScheduler", json::array()), HasSubstr("not an object"));
  EXPECT_THAT(message_of(Code::bad_file, "DDIMScheduler", {{"steps_offset", "one"}}), HasSubstr("steps_offset is \"one\""));
  EXPECT_THAT(message_of(Code::bad_file, "DDIMScheduler", {{"num_train_timesteps", 1e18}}), HasSubstr("num_train_timesteps"));
  EXPECT_THAT(message_of(Code::bad_file, "DDIMScheduler", {{"clip_sample", 1}}), HasSubstr("clip_sample is 1"));
}

TEST(PythonJson, BareWordsBecomeStrings) {
  const json j = parse_python_json(R"({"a": -Infinity, "b": [NaN, Infinity], "c": "-Infinity \"NaN"})", "here");
  EXPECT_EQ(j["a"], "-Infinity");
  EXPECT_EQ(j["b"], json({"NaN", "Infinity"}));
  EXPECT_EQ(j["c"], "-Infinity \"NaN");
  EXPECT_EQ(from_diffusers("DPMSolverMultistepScheduler", {{"lambda_min_clipped", "-Infinity"}}, 20).order, 2);
  EXPECT_THROW(parse_python_json("{", "here"), Error);
}

std::filesystem::path golden_folder() {
  const char* given = std::getenv("CUDREAM_GOLDEN");  // NOLINT(concurrency-mt-unsafe)
  return given != nullptr ? std::filesystem::path(given) : std::filesystem::path(CUDREAM_SOURCE_DIR) / "../shared/golden";
}

// Every whole run of the golden set says what its timesteps, its sigmas and its starting scale were.
TEST(DiffusersConfig, GivesTheSchedulesOfTheGoldenRuns) {
  const auto folder = golden_folder() / "golden";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no golden set at " << folder;
  int runs = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    const json run = parse_python_json(read_text(entry.path(), 1 << 20), entry.path().string());
    if (!run.contains("scheduler_class")) continue;
    const ScheduleConfig config =
        from_diffusers(run["scheduler_class"].get<std::string>(), run["scheduler_config"], run["steps"].get<int>());
    Schedule schedule = make_schedule(config);
    EXPECT_NEAR(schedule.initial_scale, run["init_noise_sigma"].get<double>(), 1e-5) << entry.path();
    const SafetensorsFile file(std::filesystem::path(entry.path()).replace_extension(".safetensors"));
    const std::vector<float> told(schedule.timesteps.begin(), schedule.timesteps.end());
    EXPECT_LT(relative_l2(told, file.floats(file.at("timesteps"))), 1e-6) << entry.path();
    if (run.contains("strength")) schedule = tail(schedule, run["strength"].get<double>());
    if (!run.contains("denoising_end") && !run.contains("denoising_start")) {
      EXPECT_NEAR(schedule.first().t, run["step_timesteps"][0].get<double>(), 1e-3) << entry.path();
    }
    runs++;
  }
  EXPECT_GE(runs, 47);
}

}  // namespace
}  // namespace cudream
