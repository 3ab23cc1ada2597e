// Whole runs of the program against the reference's, step by step, on every device in float; bf16 as a sanity check.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "tests/cli/golden_list.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

using NameAndDevice = std::tuple<std::string, std::string>;
class GoldenRun : public testing::TestWithParam<NameAndDevice> {};

TEST_P(GoldenRun, FollowsTheReference) {
  const auto& [name, device] = GetParam();
  check_golden_run(name, "--precision f32 --device " + device, kFloat);
}

INSTANTIATE_TEST_SUITE_P(Devices, GoldenRun,
                         testing::Combine(testing::ValuesIn(golden_runs()), testing::Values("reference", "cpu")),
                         [](const auto& run) { return name_of_run(std::get<0>(run.param)) + "_" + std::get<1>(run.param); });

class GoldenAdapter : public testing::TestWithParam<AdapterRun> {};
INSTANTIATE_TEST_SUITE_P(Cpu, GoldenAdapter, testing::ValuesIn(kAdapterRuns),
                         [](const auto& a) { return name_of_run(a.param.run); });

TEST_P(GoldenAdapter, FollowsTheReference) {
  check_adapter_run(GetParam(), "cpu");
}

class DerivedRun : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Cpu, DerivedRun, testing::ValuesIn(kDerivedRuns),
                         [](const auto& run) { return name_of_run(run.param); });

TEST_P(DerivedRun, FollowsTheReference) {
  check_derived_run(GetParam(), "cpu");
}

class DistilledRun : public testing::TestWithParam<Distilled> {};
INSTANTIATE_TEST_SUITE_P(Cpu, DistilledRun, testing::ValuesIn(kDistilled),
                         [](const auto& run) { return name_of_run(run.param.run); });

TEST_P(DistilledRun, FollowsTheReference) {
  check_distilled_run(GetParam(), "cpu");
}

// Networks with blocks missing in one file with the original keys, whose numbers depend on how many blocks a level has.
TEST(DistilledFile, FollowsTheReference) {
  for (const Distilled& net : kDistilled) {
    const TemporaryFolder folder;
    const fs::path file = folder.path() / "one.safetensors";
    convert_model(open_model(write_distilled(folder.path(), net)), {}, file);
    check_golden_run(net.run, "--precision f32 --device cpu", kFloat, file);
  }
}

// Matrices and convolutions stored in eight bits.
TEST(GoldenF8, FollowsTheReference) {
  check_golden_run("sd1-inpaint/inpaint9_f8", "--precision f32 --device cpu", kFloat,
                   golden_model("sd1-inpaint-f8_e4m3.safetensors"));
}

// The base model takes four of five steps, the refiner the last: recorded as two runs, of which one hands its latents over.
TEST(GoldenRefiner, TakesOverAsTheReferenceDoes) {
  const Program program;
  const std::filesystem::path runs = golden() / "golden", base = runs / "sdxl/base_to_80";
  const Outcome o = program.run(fmt::format(
      "generate -m '{}' --refiner '{}' --refiner-start 0.8 --config '{}.json' --noise '{}.safetensors' --trace trace.safetensors "
      "--precision f32 --device cpu -o out/",
      golden_model("sdxl.safetensors").string(), golden_model("sdxl-refiner.safetensors").string(), base.string(),
      base.string()));
  ASSERT_EQ(o.status, 0) << o.err;
  const SafetensorsFile got(program.path() / "trace.safetensors"), first(base.string() + ".safetensors"),
      second(runs / "sdxl-refiner/ensemble_from_80.safetensors");
  std::vector<float> want = first.floats(first.at("latents"));
  const std::vector<float> last = second.floats(second.at("latents"));
  want.insert(want.end(), last.begin(), last.end());
  EXPECT_LE(relative_error(got.floats(got.at("latents")), want), kFloat.latents);
  for (const auto& [tensor, limit] : {std::pair("prompt_embeds", kFloat.text),
                                      {"negative_prompt_embeds", kFloat.text},
                                      {"unet_out.first", kFloat.network},
                                      {"final_image", kFloat.image}})
    EXPECT_LE(relative_error(got.floats(got.at(tensor)), second.floats(second.at(tensor))), limit) << tensor;
}

class Bf16Run : public GoldenRun {};

TEST_P(Bf16Run, StaysNear) {
  const Program program;
  if (program.run("generate x " + kQuick + "--precision bf16 -o a.png").status == 4) GTEST_SKIP() << "this processor has no bf16";
  check_golden_run(std::get<0>(GetParam()), "--precision bf16 --device cpu", kBf16);
}

INSTANTIATE_TEST_SUITE_P(Cpu, Bf16Run,
                         testing::Combine(testing::Values("sd1/txt2img_ddim5", "sd1/img2img_s060"), testing::Values("cpu")),
                         [](const auto& run) { return name_of_run(std::get<0>(run.param)); });

}  // namespace
}  // namespace cudream
