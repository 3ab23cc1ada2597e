// Textual inversions: new words for a text encoder, each a row of vectors ("An Image is Worth One Word", Gal et al. 2022).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/spec.h"

namespace cudream {

struct TextualInversion {
  std::vector<std::string> words;           // what it is called in a prompt: the file's stem, and the name the file gives it
  int64_t count = 0;                        // how many tokens it stands for
  std::vector<std::vector<float>> vectors;  // [count * width] for each text encoder of the model
};

// Reads {"emb_params": [n,width]} (the web UI's form), {"<word>": [n,width] or [width]} (diffusers') or {"clip_l", "clip_g"}
// (SDXL). Throws Error(unsupported) when the widths are not those of the model's text encoders, naming both, and
// Error(bad_file) for a file that is no textual inversion.
TextualInversion read_textual_inversion(const std::filesystem::path&, const ModelSpec&);

}  // namespace cudream
