// The denoising UNet of Stable Diffusion 1.x and 2.x (Rombach et al. 2022; U-Net: Ronneberger et al. 2015).
#pragma once

#include <optional>
#include <vector>

#include "core/spec.h"
#include "nets/blocks.h"

namespace cudream {

class UNet {
 public:
  UNet(const Weights& w, const UNetSpec& spec);
  const UNetSpec& spec() const { return spec_; }

  // context [N,T,context] in the compute type; key_lengths i32 [N]: how many of the T tokens each row has
  PromptState read(Ops& o, View context, std::span<const int32_t> key_lengths) const;
  // x [N,h,w,in_channels] and timestep [N] or [1], both f32  ->  f32 [N,h,w,out_channels]
  Tensor predict(Ops& o, View x, View timestep, const PromptState& prompt) const;

 private:
  struct Level {
    std::vector<ResBlock> resnets;
    std::vector<SpatialTransformer> attentions;  // as many, or none
    std::optional<Conv> resample;                // down: stride 2; up: nearest upsampling before it
    Tensor step(Ops& o, size_t j, View x, View temb, const PromptState& prompt) const;
  };
  Tensor embed(Ops& o, View timestep) const;
  SpatialTransformer transformer(const Weights& w, int level, int depth);

  UNetSpec spec_;
  Conv conv_in_;
  Linear time1_, time2_;
  std::vector<Level> down_;
  Level mid_;  // two residual blocks around one attention
  std::vector<Level> up_;
  Norm norm_out_;
  Conv conv_out_;
  size_t texts_ = 0;  // transformer blocks constructed so far
};

}  // namespace cudream
