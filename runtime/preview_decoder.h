// The decoder of a tiny autoencoder beside a model: for previews, which then take little of a step's time.
#pragma once

#include <filesystem>
#include <memory>

#include "kernels/weight.h"
#include "loader/model.h"
#include "nets/vae.h"

namespace cudream {

class PreviewDecoder {
 public:
  // For the latents of a model of this spec; reads headers only. Throws Error(unsupported) for what is no tiny autoencoder of
  // such latents, and what opening it throws.
  PreviewDecoder(const std::filesystem::path&, const ModelSpec&, const Device&);
  // Reads the weights. Throws Error(out_of_memory) before it reads what does not fit.
  void load(Device&);
  int64_t weight_bytes() const { return layout_.device_bytes(); }
  const Autoencoder& autoencoder() const { return autoencoder_; }

 private:
  Model model_;
  std::unique_ptr<WeightStore> store_;
  Autoencoder autoencoder_;
  WeightLayout layout_;
};

}  // namespace cudream
