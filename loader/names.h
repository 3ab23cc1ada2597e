// Names: every known naming of Stable Diffusion tensors -> one canonical naming, that of diffusers with the part in front:
// "unet.down_blocks.0...", "vae.decoder...", "text_encoder.text_model...", "text_encoder_2.text_projection.weight".
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "loader/safetensors.h"

namespace cudream {

// One file's header, with the place it has in a folder: the part its tensors belong to ("unet"), or empty where the
// tensors' own names say so.
struct PlacedHeader {
  std::string part;
  const SafetensorsHeader* header = nullptr;
};

// Where the bytes of a canonical tensor are: all rows of a stored tensor, or one of `pieces` equal ranges of rows (q, k and
// v of OpenCLIP are stored as one). transpose: a stored [in,out] matrix that is asked for as [out,in].
struct Source {
  uint32_t file = 0, tensor = 0;
  uint8_t piece = 0, pieces = 1;
  bool transpose = false;
};

// The tensors of a model under their canonical names.
struct NameTable {
  std::vector<PlacedHeader> files;
  std::map<std::string, Source, std::less<>> weights;
  // Stored tensors that are no weights (piece and pieces unused), in file order.
  std::vector<Source> buffers;  // known and not used: noise schedules, position ids, averages kept by training (model_ema)
  std::vector<Source> unknown;  // match no rule

  const TensorInfo& stored(const Source& s) const { return files[s.file].header->tensors[s.tensor]; }
  std::vector<uint64_t> shape(const Source&) const;  // of the canonical tensor: piece and transpose applied
  bool has_part(std::string_view part) const;        // "unet"
};

// A module of the UNet as kohya's trainer writes it, with '_' for '.': "input_blocks_4_1_proj_in" becomes
// "down_blocks_1_attentions_0_proj_in"; names that are diffusers' already stay as they are. `blocks_per_level`: residual
// blocks of a down level, plus one for the downsampling.
std::string diffusers_flat_name(std::string_view flat, int blocks_per_level);

// Throws Error(bad_file) when two stored tensors have the same meaning, or a fused one does not divide.
NameTable name_tensors(std::vector<PlacedHeader> files);

}  // namespace cudream
