// The autoencoder between pictures and latents: the one that a model was trained with, or a tiny one in its place.
#pragma once

#include <variant>

#include "core/spec.h"
#include "nets/kl_vae.h"
#include "nets/tiny_vae.h"

namespace cudream {

class Autoencoder {
 public:
  Autoencoder(const Weights& w, const VaeSpec& spec);
  const VaeSpec& spec() const;

  // image f32 [N,H,W,3] in [-1,1] -> f32 [N,H/f,W/f,2*latent]: mean, then log variance; of a tiny one [N,H/f,W/f,latent]: the
  // latent itself. Not yet scaled.
  Tensor encode(Ops& o, View image) const;
  // latent f32 [N,h,w,latent], already divided by the scaling factor -> f32 [N,h*f,w*f,3], about [-1,1]
  Tensor decode(Ops& o, View latent) const;

 private:
  std::variant<KlAutoencoder, TinyAutoencoder> net_;
};

}  // namespace cudream
