// One golden run through the program: its trace beside what the reference recorded.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "loader/safetensors.h"
#include "tests/cli/program.h"
#include "tests/golden/tensors.h"

namespace cudream {

struct Limits {
  double text, network, latents, image;
};
// The golden set's own tolerances: relative L2 over the whole tensor. The pooled text has passed a LayerNorm over only eight
// channels and gets four times the text's: the exact device is 1.4e-6 from the recorded float32.
inline constexpr Limits kFloat{1e-6, 5e-6, 1e-5, 5e-6}, kBf16{1.5e-2, 4e-2, 5e-2, 3e-2};

// A run with one branch of guidance: the network was called with the rows of the latents alone.
inline bool is_unguided(const SafetensorsFile& run) {
  return run.at("unet_out.first").shape[0] == run.at("latents").shape[1];
}

// Of a family's model, or of another.
inline std::filesystem::path model_of_run(const std::string& run) {
  const std::string family = run.substr(0, run.find('/'));
  const std::filesystem::path file = golden_model(family + ".safetensors");
  return std::filesystem::exists(file) ? file : golden_model(family);
}

// `run`: "sd1/txt2img_ddim5".
inline void check_golden_run(const std::string& run, const std::string& options, const Limits& limits,
                             const std::filesystem::path& model) {
  const std::string name = run.substr(run.find('/') + 1), files = recorded_run(run).string();
  const Program program;
  const Outcome o = program.run("generate -m '" + model.string() + "' --config '" + files + ".json' --noise '" + files +
                                ".safetensors' --trace trace.safetensors -o out/ " + options);
  ASSERT_EQ(o.status, 0) << o.err;
  const SafetensorsFile got(program.path() / "trace.safetensors"), want(files + ".safetensors");
  const std::vector<std::pair<std::string, double>> checked{{"ids.tokenizer.prompt", 0},
                                                            {"ids.tokenizer.negative", 0},
                                                            {"prompt_embeds", limits.text},
                                                            {"ids.tokenizer_2.prompt", 0},
                                                            {"ids.tokenizer_2.negative", 0},
                                                            {"negative_prompt_embeds", limits.text},
                                                            {"pooled_prompt_embeds", 4 * limits.text},
                                                            {"negative_pooled_prompt_embeds", 4 * limits.text},
                                                            {"timesteps", 1e-6},
                                                            {"sigmas", 1e-6},
                                                            {"unet_out.first", limits.network},
                                                            {"latents", limits.latents},
                                                            {"final_image", limits.image}};
  int compared = 0;
  for (const auto& [tensor, limit] : checked) {
    if (want.header().find(tensor) == nullptr) continue;
    // Without guidance the negative prompt is not read, though the reference records it.
    if (tensor.find("negative") != std::string::npos && is_unguided(want)) continue;
    // There the reference recorded what the second tokenizer would make of the first prompt.
    if (name == "txt2img_sizes" && tensor == "ids.tokenizer_2.prompt") continue;
    compared++;
    std::vector<float> ours = got.floats(got.at(tensor)), theirs = want.floats(want.at(tensor));
    if (tensor == "sigmas") {  // the reference lists the levels of two-call samplers twice
      theirs.erase(std::unique(theirs.begin(), theirs.end()), theirs.end());
    } else {
      ASSERT_EQ(got.at(tensor).shape, want.at(tensor).shape) << tensor;
    }
    ASSERT_EQ(ours.size(), theirs.size()) << tensor;
    EXPECT_TRUE(ours == theirs || relative_error(ours, theirs) <= limit)
        << tensor << " " << relative_error(ours, theirs);  // an empty negative prompt is all zeros
  }
  EXPECT_GE(compared, 5);
}

inline void check_golden_run(const std::string& run, const std::string& options, const Limits& limits) {
  check_golden_run(run, options, limits, model_of_run(run));
}

}  // namespace cudream
