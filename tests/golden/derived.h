// Golden models changed in some tensors, whose runs more_runs.py has recorded.
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tests/golden/tensors.h"

namespace cudream {

// Writes the model BASE ("sdxl") to FOLDER/derived.safetensors, with the tensors that the run's file has under names of its own;
// for a ControlNet, what that shares with the network, and the tensors of the file.
inline std::filesystem::path write_derived(const std::filesystem::path& folder, const std::string& base,
                                           const std::filesystem::path& run) {
  const SafetensorsFile model(golden_model(base + ".safetensors")), changed(run);
  const bool control = run.stem() == "controlnet";
  const std::string unet = "model.diffusion_model.", own = control ? "control_model." : unet;
  std::map<std::string, std::vector<std::byte>> bytes;
  std::vector<TensorData> tensors;
  const auto add = [&](const SafetensorsFile& file, const TensorInfo& t, const std::string& name) {
    const auto [mine, first] = bytes.try_emplace(name, file.bytes(t));
    if (first) tensors.push_back({.name = name, .type = t.type, .shape = t.shape, .bytes = mine->second});
  };
  for (const TensorInfo& t : changed.tensors())
    if (t.name.starts_with(own)) add(changed, t, t.name);
  for (const TensorInfo& t : model.tensors()) {
    if (!control) add(model, t, t.name);
    const std::string inner = control && t.name.starts_with(unet) ? t.name.substr(unet.size()) : "";
    for (const std::string_view shared : {"time_embed.", "label_emb.", "input_blocks.", "middle_block."})
      if (inner.starts_with(shared)) add(model, t, own + inner);
  }
  const std::filesystem::path path = folder / "derived.safetensors";
  write_safetensors(path, std::move(tensors), {}, Exists::refuse);
  const std::filesystem::path config = run.parent_path() / "controlnet.config.json";
  std::filesystem::copy_file(control ? config : golden_model(base + ".config.json"), folder / "derived.config.json");
  return path;
}

}  // namespace cudream
