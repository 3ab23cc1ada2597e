// TAESD: a tiny autoencoder, trained to imitate the two halves of another one (Ollin Boer Bohan, github.com/madebyollin/taesd;
// diffusers' AutoencoderTiny). Convolutions and ReLU alone.
#pragma once

#include <optional>
#include <vector>

#include "core/spec.h"
#include "kernels/ops.h"
#include "kernels/weight.h"

namespace cudream {

class TinyAutoencoder {
 public:
  TinyAutoencoder(const Weights& w, const VaeSpec& spec);
  const VaeSpec& spec() const { return spec_; }

  // As those of Autoencoder (nets/vae.h), each with the half that it needs.
  Tensor encode(Ops& o, View image) const;
  Tensor decode(Ops& o, View latent) const;

 private:
  // relu(x + three convolutions of x, with ReLU between them)
  struct Block {
    Conv first, second, third;
    Block(const Weights& w, int64_t width);
    Tensor operator()(Ops& o, View x) const;
  };
  struct Level {
    std::optional<Conv> resample;  // before the blocks: to half the size, or behind nearest upsampling to twice
    std::vector<Block> blocks;
  };
  struct Half {  // encoder or decoder
    Half(const Weights& layers, const VaeSpec& spec, bool encoder);
    Conv in, out;
    std::vector<Level> levels;
  };

  VaeSpec spec_;
  std::optional<Half> encoder_, decoder_;
};

}  // namespace cudream
