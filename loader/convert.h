// Writing an opened model in the other layout or precision: always as safetensors, always the same bytes for the same input.
#pragma once

#include <filesystem>
#include <optional>

#include "core/file.h"
#include "loader/model.h"

namespace cudream {

struct Conversion {
  enum class Layout { single_file, folder } layout = Layout::single_file;  // the original keys, or diffusers' sub-folders
  std::optional<FileType> precision;                                       // f16, bf16 or f32; nothing: as it is stored
  const WeightChanges* changes = nullptr;  // LoRAs that become part of the weights: added in float32, rounded once
  std::optional<Prediction> prediction;    // in place of the model's own
  HeaderMetadata added;                    // to the metadata that the model's files have
  Exists exists = Exists::refuse;          // of a single file; a folder must not exist
};

// Writes beside `to` and renames. Configurations go along: into the metadata of a single file (key "config"), or as the
// config.json of each part, made from the spec where the model has none. Kept of the metadata is all but hashes of what it was.
// Throws Error(unsupported) for what is no model or part of one, and for a value that the precision cannot hold, naming the
// tensor.
void convert_model(const Model&, const Conversion&, const std::filesystem::path& to);

}  // namespace cudream
