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
  // Loads it onto the device, for the latents of a model of this spec. Throws Error(unsupported) for what is no tiny autoencoder
  // of such latents, Error(out_of_memory), and what opening it throws.
  PreviewDecoder(const std::filesystem::path&, const ModelSpec&, Device&);
  const Autoencoder& autoencoder() const { return autoencoder_; }

 private:
  PreviewDecoder(const Model&, const ModelSpec&, Device&);

  std::unique_ptr<WeightStore> store_;
  Autoencoder autoencoder_;
};

}  // namespace cudream
