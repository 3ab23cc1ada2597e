// The recorded runs that there are, by what they need.
#pragma once

#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <ostream>
#include <set>
#include <vector>

#include "tests/cli/golden_run.h"
#include "tests/golden/derived.h"
#include "tests/golden/distilled.h"

namespace cudream {

// Of models that make pictures from words: text to image, image to image and inpainting (decoding with a tiny
// autoencoder: tiny_vae_test.cc); of those with more input channels, inpainting and editing.
inline std::set<std::string> golden_runs() {
  std::set<std::string> names;
  std::vector<std::filesystem::path> sets{golden()};
  const std::filesystem::path source(CUDREAM_SOURCE_DIR "/tests/golden");  // which a bundle of tests has not beside it
  if (std::filesystem::exists(source)) sets.push_back(source);
  for (const std::filesystem::path& set : sets)
    for (const std::string family : {"sd1", "sd1-inpaint", "sd1-instruct", "sd2", "sdxl", "sdxl-refiner", "lcm"})
      for (const auto& entry : std::filesystem::directory_iterator(set / "golden" / family)) {
        const std::string name = entry.path().stem().string();
        const auto is = [&](const char* kind) { return name.starts_with(kind); };
        const bool known = is("txt2img_") || is("img2img_") || is("turbo_") || is("inpaint4") || is("inpaint9_") ||
                           is("outpaint_") || is("edit");
        if (entry.path().extension() == ".json" && known && name != "txt2img_taesd" && name != "inpaint9_f8")
          names.insert(family + "/" + name);
      }
  return names;
}

// Adapters, by the options that name them.
struct AdapterRun {
  const char *run, *option, *file;
};
inline void PrintTo(const AdapterRun& a, std::ostream* to) {
  *to << a.run;
}
inline constexpr std::array kAdapterRuns{AdapterRun{"sd1/lora_kohya", "--lora", "lora-sd1-kohya.safetensors:0.8"},
                                         AdapterRun{"sd1/lora_peft", "--lora", "lora-sd1-peft.safetensors:1"},
                                         AdapterRun{"sdxl/lora_ldm_names", "--lora", "lora-sdxl-kohya.safetensors:0.7"},
                                         AdapterRun{"sd1/controlnet", "--control", "controlnet-sd1.safetensors:0.8"},
                                         AdapterRun{"sd1/controlnet_window", "--control", "controlnet-sd1.safetensors:1:0.2:0.7"},
                                         AdapterRun{"sd1/textual_inversion", "--embedding", "ti-sd1-diffusers.safetensors"}};

inline void check_adapter_run(const AdapterRun& a, const std::string& device) {
  const std::string path = (golden() / "models" / a.file).string();
  check_golden_run(a.run, fmt::format("--precision f32 --device {} {} '{}'", device, a.option, path), kFloat);
}

// Of models that differ from a golden one in some tensors: SDXL that fills in and that edits, ControlNets of SDXL and SD 2.
inline constexpr std::array kDerivedRuns{"sdxl-inpaint/inpaint9_s080", "sdxl-instruct/edit", "sdxl/controlnet", "sd2/controlnet"};

inline void check_derived_run(const std::string& run, const std::string& device) {
  const TemporaryFolder folder;
  const std::filesystem::path derived =
      write_derived(folder.path(), run.substr(0, run.find_first_of("-/")), recorded_run(run).string() + ".safetensors");
  const std::string options = "--precision f32 --device " + device;
  if (run.ends_with("controlnet"))
    check_golden_run(run, options + " --control '" + derived.string() + ":0.8'", kFloat);
  else
    check_golden_run(run, options, kFloat, derived);
}

// Networks with blocks missing.
inline void check_distilled_run(const Distilled& net, const std::string& device) {
  const TemporaryFolder folder;
  check_golden_run(net.run, "--precision f32 --device " + device, kFloat, write_distilled(folder.path(), net));
}

// Of a run or its folder, as part of a test's name.
inline std::string name_of_run(std::string run) {
  std::replace_if(
      run.begin(), run.end(), [](char c) { return c == '/' || c == '-'; }, '_');
  return run;
}

}  // namespace cudream
