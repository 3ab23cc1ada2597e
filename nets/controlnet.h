// A ControlNet ("Adding Conditional Control to Text-to-Image Diffusion Models", Zhang et al. 2023): a copy of the UNet's encoder
// that also sees a picture, and says what is to be added to the UNet's skip connections and middle.
#pragma once

#include <vector>

#include "nets/unet_encoder.h"

namespace cudream {

class ControlNet {
 public:
  ControlNet(const Weights& w, const ControlNetSpec& spec);
  const ControlNetSpec& spec() const { return spec_; }

  // What it sees of a picture, once: f32 [N,H,W,3] in [0,1] -> [N,H/8,W/8,channels.front()]
  Tensor see(Ops& o, View picture) const;
  PromptState read(Ops& o, const Conditions& conditions) const { return encoder_.read(o, conditions); }
  Tensor embed(Ops& o, View timesteps, const PromptState& prompt) const;  // as UNet::embed
  // x [N,h,w,in_channels] in the compute type, seen [N,h,w,channels.front()], times from embed() -> the residuals that
  // UNet::predict takes, times strength, added to those of another ControlNet or to nothing.
  std::vector<Tensor> predict(Ops& o, View x, View seen, View times, const PromptState& prompt, float strength,
                              std::vector<Tensor> residuals) const;

 private:
  ControlNetSpec spec_;
  UNetEncoder encoder_;
  Conv hint_in_;
  std::vector<Conv> hint_;  // two a halving: at one size, then to half of it
  Conv hint_out_;
  std::vector<Linear> skips_;  // 1x1 convolutions, zero before training
  Linear middle_;
};

}  // namespace cudream
