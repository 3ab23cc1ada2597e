// What a file or folder of tensors is: pure reasoning over names, shapes and configuration texts, no weights read.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec.h"
#include "loader/names.h"
#include "loader/safetensors.h"

namespace cudream {

enum class Verdict {
  open,     // a model, or its UNet alone: pictures can be made with it once what is missing is given
  part,     // a component: a VAE, a text encoder
  adapter,  // something that changes a model: LoRA, ControlNet, textual inversion
  refuse,   // not something this program runs, known or not
};
std::string_view name_of(Verdict);

// Configuration texts (JSON objects) by component: "unet", "controlnet", "vae", "text_encoder", "text_encoder_2", "scheduler",
// "tokenizer", "tokenizer_2". A component that has none is absent.
using Configs = std::map<std::string, std::string>;

struct Identity {
  Verdict verdict = Verdict::refuse;
  std::string family = "unknown";  // "sd1", "sd2", "sdxl", "sdxl-refiner", "sd1-distilled", "flux", "taesd", "vae-4ch", ...
  std::string task = "-";          // "txt2img", "inpaint", "edit", "img2img", "vae", "lora", "controlnet", ...
  std::string prediction = "-";    // "epsilon", "v", "sample", "flow", or what cannot be known
  std::vector<std::string> parts, missing;
  std::vector<std::string> extra;  // stored tensors that no network uses, grouped: "safety_checker (397 tensors)"
  std::string obstacle;            // why this program cannot run it, a sentence for people; empty: it can
  ModelSpec spec;                  // as far as the parts are there (verdicts open and part)
};

// Throws Error(bad_file) when shapes contradict each other or a configuration.
Identity identify(const NameTable&, const Configs&);

}  // namespace cudream
