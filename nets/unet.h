// The denoising UNet of Stable Diffusion 1.x, 2.x and XL (Rombach et al. 2022; "SDXL", Podell et al. 2023; U-Net:
// Ronneberger et al. 2015), also with blocks left out ("BK-SDM", Kim et al. 2023).
#pragma once

#include <vector>

#include "core/spec.h"
#include "nets/unet_encoder.h"

namespace cudream {

class UNet {
 public:
  UNet(const Weights& w, const UNetSpec& spec);
  const UNetSpec& spec() const { return spec_; }

  PromptState read(Ops& o, const Conditions& conditions) const;
  // What the residual blocks add at each of S timesteps, once for all steps of a run: timesteps f32 [S] -> [S,*]. A network
  // that reads sizes is told those of row i mod N with timestep i, so that each timestep comes N times.
  Tensor embed(Ops& o, View timesteps, const PromptState& prompt) const;
  // x [N,h,w,in_channels] in the compute type, times [N,*] or [1,*] from embed()  ->  [N,h,w,out_channels]
  // residuals, f32 and of the same shapes, are added to the skip connections, the finest first, and to the middle; or none.
  Tensor predict(Ops& o, View x, View times, const PromptState& prompt, std::vector<Tensor> residuals = {}) const;

 private:
  UNetSpec spec_;
  UNetEncoder encoder_;
  std::vector<UNetLevel> up_;
  Norm norm_out_;
  Conv conv_out_;
  int64_t times_ = 0;  // channels of all residual blocks
};

}  // namespace cudream
