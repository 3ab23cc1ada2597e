// What the networks of a model ask for.
#pragma once

#include "loader/model.h"
#include "nets/clip.h"
#include "nets/unet.h"
#include "nets/vae.h"

namespace cudream {

inline void request_networks(WeightStore& store, const ModelSpec& spec) {
  for (const TextEncoderSpec& encoder : spec.text_encoders)
    ClipTextEncoder(store.root() / (encoder.projection > 0 ? "text_encoder_2" : "text_encoder"), encoder);
  if (spec.unet) UNet(store.root() / "unet", *spec.unet);
  if (spec.vae) Autoencoder(store.root() / "vae", *spec.vae);
}

}  // namespace cudream
