// Whole runs of the program against the reference's, step by step, on every device in float; bf16 as a sanity check.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "tests/cli/golden_run.h"
#include "tests/golden/derived.h"
#include "tests/golden/distilled.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

// Of models that make pictures from words: text to image, image to image and inpainting (decoding with a tiny
// autoencoder: tiny_vae_test.cc); of those with more input channels, inpainting and editing.
std::set<std::string> runs() {
  std::set<std::string> names;
  for (const fs::path& set : {golden(), fs::path(CUDREAM_SOURCE_DIR "/tests/golden")})
    for (const std::string family : {"sd1", "sd1-inpaint", "sd1-instruct", "sd2", "sdxl", "sdxl-refiner", "lcm"})
      for (const auto& entry : fs::directory_iterator(set / "golden" / family)) {
        const std::string name = entry.path().stem().string();
        const auto is = [&](const char* kind) { return name.starts_with(kind); };
        const bool known = is("txt2img_") || is("img2img_") || is("turbo_") || is("inpaint4") || is("inpaint9_") ||
                           is("outpaint_") || is("edit");
        if (entry.path().extension() == ".json" && known && name != "txt2img_taesd" && name != "inpaint9_f8")
          names.insert(family + "/" + name);
      }
  return names;
}

std::string name_of_run(std::string run) {
  std::replace_if(
      run.begin(), run.end(), [](char c) { return c == '/' || c == '-'; }, '_');
  return run;
}

using NameAndDevice = std::tuple<std::string, std::string>;
class GoldenRun : public testing::TestWithParam<NameAndDevice> {};

TEST_P(GoldenRun, FollowsTheReference) {
  const auto& [name, device] = GetParam();
  check_golden_run(name, "--precision f32 --device " + device, kFloat);
}

INSTANTIATE_TEST_SUITE_P(Devices, GoldenRun, testing::Combine(testing::ValuesIn(runs()), testing::Values("reference", "cpu")),
                         [](const auto& run) { return name_of_run(std::get<0>(run.param)) + "_" + std::get<1>(run.param); });

// Adapters, by the options that name them.
struct AdapterRun {
  const char *run, *option, *file;
};
void PrintTo(const AdapterRun& a, std::ostream* to) {
  *to << a.run;
}
class GoldenAdapter : public testing::TestWithParam<AdapterRun> {};
INSTANTIATE_TEST_SUITE_P(Cpu, GoldenAdapter,
                         testing::Values(AdapterRun{"sd1/lora_kohya", "--lora", "lora-sd1-kohya.safetensors:0.8"},
                                         AdapterRun{"sd1/lora_peft", "--lora", "lora-sd1-peft.safetensors:1"},
                                         AdapterRun{"sdxl/lora_ldm_names", "--lora", "lora-sdxl-kohya.safetensors:0.7"},
                                         AdapterRun{"sd1/controlnet", "--control", "controlnet-sd1.safetensors:0.8"},
                                         AdapterRun{"sd1/controlnet_window", "--control", "controlnet-sd1.safetensors:1:0.2:0.7"},
                                         AdapterRun{"sd1/textual_inversion", "--embedding", "ti-sd1-diffusers.safetensors"}),
                         [](const auto& a) { return name_of_run(a.param.run); });

TEST_P(GoldenAdapter, FollowsTheReference) {
  const auto& [run, option, file] = GetParam();
  const std::string path = (golden() / "models" / file).string();
  check_golden_run(run, fmt::format("--precision f32 --device cpu {} '{}'", option, path), kFloat);
}

// Models that differ from a golden one in some tensors: SDXL that fills in and that edits, ControlNets of SDXL and SD 2.
class DerivedRun : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Cpu, DerivedRun,
                         testing::Values("sdxl-inpaint/inpaint9_s080", "sdxl-instruct/edit", "sdxl/controlnet", "sd2/controlnet"),
                         [](const auto& run) { return name_of_run(run.param); });

TEST_P(DerivedRun, FollowsTheReference) {
  const std::string run = GetParam(), base = run.substr(0, run.find_first_of("-/"));
  const TemporaryFolder folder;
  const fs::path derived = write_derived(folder.path(), base, recorded_run(run).string() + ".safetensors");
  const std::string options = "--precision f32 --device cpu ";
  if (run.ends_with("controlnet"))
    check_golden_run(run, options + "--control '" + derived.string() + ":0.8'", kFloat);
  else
    check_golden_run(run, options, kFloat, derived);
}

// Networks with blocks missing.
class DistilledRun : public testing::TestWithParam<Distilled> {};
INSTANTIATE_TEST_SUITE_P(Cpu, DistilledRun, testing::ValuesIn(kDistilled),
                         [](const auto& run) { return name_of_run(run.param.run); });

TEST_P(DistilledRun, FollowsTheReference) {
  const TemporaryFolder folder;
  check_golden_run(GetParam().run, "--precision f32 --device cpu", kFloat, write_distilled(folder.path(), GetParam()));
}

// The same in one file with the original keys, whose numbers depend on how many blocks a level has.
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

// README's table of jobs and families says "recorded" where there is a run, and nowhere else.
TEST(Readme, SaysRecordedWhereThereIsARun) {
  const std::map<std::string, std::vector<std::string>> jobs{// how a row and the names of its runs' files begin
                                                             {"from words, from a picture", {"txt2img_", "img2img_"}},
                                                             {"few steps", {"txt2img_tcd", "txt2img_lightning", "turbo_"}},
                                                             {"networks with blocks missing", {"txt2img."}},
                                                             {"fill in, any model", {"inpaint4"}},
                                                             {"fill in, models made for it", {"inpaint9"}},
                                                             {"edit by instruction", {"edit"}},
                                                             {"ControlNet", {"controlnet"}},
                                                             {"LoRA", {"lora_"}},
                                                             {"refiner", {"base_to_80"}}};
  const std::vector<std::set<std::string>> families{
      // the columns, and folders of runs
      {"sd1", "sd1-inpaint", "sd1-instruct", "bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"},
      {"sd2"},
      {"sdxl", "sdxl-inpaint", "sdxl-instruct", "sdxl-refiner", "ssd-1b", "segmind-vega"},
      {"lcm"}};
  const auto has_run = [&](const std::set<std::string>& folders, const std::vector<std::string>& names) {
    for (const std::string& folder : folders)
      for (const auto& entry : fs::directory_iterator(CUDREAM_SOURCE_DIR "/tests/golden/golden/" + folder))
        for (const std::string& name : names)
          if (entry.path().extension() == ".json" && entry.path().filename().string().starts_with(name)) return true;
    return false;
  };
  size_t rows = 0;
  std::ifstream readme(CUDREAM_SOURCE_DIR "/README.md");
  for (std::string line; std::getline(readme, line);)
    for (const auto& [job, names] : jobs) {
      if (!line.starts_with("| " + job)) continue;
      rows++;
      std::istringstream cells(line);
      std::string cell;
      std::getline(std::getline(cells, cell, '|'), cell, '|');  // the job itself
      for (const auto& folders : families) {
        std::getline(cells, cell, '|');
        EXPECT_EQ(cell.ends_with("recorded "), has_run(folders, names)) << line << "\n" << cell << ' ' << *folders.begin();
      }
    }
  EXPECT_EQ(rows, jobs.size());
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
