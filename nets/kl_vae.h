// AutoencoderKL: the autoencoder that models are trained with ("Auto-Encoding Variational Bayes", Kingma and Welling 2013;
// the network of Esser et al. 2021 as Rombach et al. 2022 use it).
#pragma once

#include <optional>
#include <vector>

#include "core/spec.h"
#include "nets/blocks.h"

namespace cudream {

class KlAutoencoder {
 public:
  KlAutoencoder(const Weights& w, const VaeSpec& spec);
  const VaeSpec& spec() const { return spec_; }

  // As those of Autoencoder (nets/vae.h).
  Tensor encode(Ops& o, View image) const;
  Tensor decode(Ops& o, View latent) const;

 private:
  struct Level {
    std::vector<ResBlock> resnets;
    std::optional<Conv> resample;
  };
  // One-headed self-attention over all pixels.
  struct Attention {
    Norm norm;
    Linear qkv, out;
    int groups;
    Attention(const Weights& w, int64_t channels, int groups);
    Tensor operator()(Ops& o, View x) const;
  };
  struct Middle {
    ResBlock first, second;
    Attention attention;
    Middle(const Weights& w, int64_t channels, int groups);
    Tensor operator()(Ops& o, View x) const;
  };
  struct Half {  // encoder or decoder
    Half(const Weights& w, const VaeSpec& spec, bool encoder);
    Conv in, out;
    Norm norm_out;
    std::vector<Level> levels;
    Middle middle;
  };

  VaeSpec spec_;
  Half encoder_, decoder_;
  Linear quant_, post_quant_;  // 1x1 convolutions
};

}  // namespace cudream
