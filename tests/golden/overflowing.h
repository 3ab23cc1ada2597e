// A golden model in which one stage computes what no half float holds: a bias of 3.4e38, which is finite in float32 alone, on a
// channel that the next layer multiplies by 0. In float32 nothing comes of it; in f16 and bf16 it is infinity times 0, NaN.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "tests/golden/tensors.h"

namespace cudream {

// The two layers, as the original layout names them.
struct Overflow {
  const char *stage, *bias, *next;
};
inline constexpr Overflow kOverflows[] = {
    {"text", "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.bias",
     "cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc2.weight"},
    {"unet", "model.diffusion_model.time_embed.0.bias", "model.diffusion_model.time_embed.2.weight"},
    {"encode", "first_stage_model.encoder.conv_out.bias", "first_stage_model.quant_conv.weight"},
    {"decode", "first_stage_model.post_quant_conv.bias", "first_stage_model.decoder.conv_in.weight"}};

// Writes sd1 so changed, with the bias `value`, to FOLDER/overflowing.safetensors.
inline std::filesystem::path write_overflowing(const std::filesystem::path& folder, const Overflow& overflow,
                                               float value = 3.4e38f) {
  const SafetensorsFile file(golden_model("sd1.safetensors"));
  std::map<std::string, std::vector<std::byte>> bytes;
  std::vector<TensorData> tensors;
  for (const TensorInfo& t : file.tensors()) {
    const bool bias = t.name == overflow.bias, next = t.name == overflow.next;
    std::vector<std::byte>& mine = bytes[t.name] = file.bytes(t);
    if (bias || next) {
      std::vector<float> values = file.floats(t);
      const size_t row = bias ? values.size() : values.size() / t.shape[0], column = bias ? 1 : row / t.shape[1];
      for (size_t i = 0; i < values.size(); i++)
        if (i % row < column) values[i] = bias ? value : 0;
      mine.assign(reinterpret_cast<const std::byte*>(values.data()),
                  reinterpret_cast<const std::byte*>(values.data() + values.size()));
    }
    tensors.push_back({.name = t.name, .type = bias || next ? FileType::f32 : t.type, .shape = t.shape, .bytes = mine});
  }
  const std::filesystem::path path = folder / "overflowing.safetensors";
  write_safetensors(path, std::move(tensors), {}, Exists::replace);
  std::filesystem::copy_file(golden_model("sd1.config.json"), folder / "overflowing.config.json",
                             std::filesystem::copy_options::overwrite_existing);
  return path;
}

}  // namespace cudream
