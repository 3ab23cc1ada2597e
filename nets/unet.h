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
  // What the residual blocks add at each of S timesteps, once for all steps of a run: timesteps f32 [S] -> [S,*]
  Tensor embed(Ops& o, View timesteps) const;
  // x [N,h,w,in_channels] in the compute type, times [N,*] or [1,*] from embed()  ->  [N,h,w,out_channels]
  Tensor predict(Ops& o, View x, View times, const PromptState& prompt) const;

 private:
  struct Level {
    std::vector<ResBlock> resnets;
    std::vector<SpatialTransformer> attentions;  // as many, or none
    std::optional<Conv> resample;                // down: stride 2; up: nearest upsampling before it
    Tensor step(Ops& o, size_t j, View x, View times, const PromptState& prompt) const;
  };
  ResBlock resnet(const Weights& w, int64_t in, int64_t out);
  SpatialTransformer transformer(const Weights& w, int level, int depth);

  UNetSpec spec_;
  Conv conv_in_;
  Linear time1_, time2_;
  std::vector<Level> down_;
  Level mid_;  // two residual blocks around one attention
  std::vector<Level> up_;
  Norm norm_out_;
  Conv conv_out_;
  size_t texts_ = 0;   // transformer blocks constructed so far
  int64_t times_ = 0;  // channels of all residual blocks constructed so far
};

}  // namespace cudream
