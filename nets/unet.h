// The denoising UNet of Stable Diffusion 1.x, 2.x and XL (Rombach et al. 2022; "SDXL", Podell et al. 2023; U-Net:
// Ronneberger et al. 2015), also with blocks left out ("BK-SDM", Kim et al. 2023).
#pragma once

#include <optional>
#include <vector>

#include "core/spec.h"
#include "nets/blocks.h"

namespace cudream {

// What a network is told beside the noisy latent, the same at every step; N rows.
struct Conditions {
  View context;                          // [N,T,context] in the compute type
  std::span<const int32_t> key_lengths;  // [N]: how many of the T tokens each row has
  View pooled{};                         // f32 [N,P]: SDXL's pooled text
  View sizes{};     // f32 [N*count]: SDXL's numbers of sizes (section 2.2 of its paper), a row after the other
  View guidance{};  // f32 [1 or N,guidance_embedding]: LCM's guidance scale, as guidance_wave() has it
};

// The guidance scale as LCM networks are told it ("Latent Consistency Models", Luo et al. 2023, section 4.3): sinusoids of
// 1000 * (scale - 1), sine first. In float32 step by step, since so large a number shows how its frequencies were rounded.
std::vector<float> guidance_wave(float scale, int64_t width);

class UNet {
 public:
  UNet(const Weights& w, const UNetSpec& spec);
  const UNetSpec& spec() const { return spec_; }

  PromptState read(Ops& o, const Conditions& conditions) const;
  // What the residual blocks add at each of S timesteps, once for all steps of a run: timesteps f32 [S] -> [S,*]. A network
  // that reads sizes is told those of row i mod N with timestep i, so that each timestep comes N times.
  Tensor embed(Ops& o, View timesteps, const PromptState& prompt) const;
  // x [N,h,w,in_channels] in the compute type, times [N,*] or [1,*] from embed()  ->  [N,h,w,out_channels]
  Tensor predict(Ops& o, View x, View times, const PromptState& prompt) const;

 private:
  struct Level {
    std::vector<ResBlock> resnets;
    std::vector<SpatialTransformer> attentions;  // as many, or none (one for the two residual blocks of the middle)
    std::optional<Conv> resample;                // down: stride 2; up: nearest upsampling before it
    Tensor step(Ops& o, size_t j, View x, View times, const PromptState& prompt) const;
  };
  ResBlock resnet(const Weights& w, int64_t in, int64_t out);
  Tensor embed_sizes(Ops& o, View pooled, View sizes) const;
  Tensor embed_guidance(Ops& o, View wave) const;
  SpatialTransformer transformer(const Weights& w, int level, int depth);

  UNetSpec spec_;
  Conv conv_in_;
  Linear time1_, time2_;
  std::optional<Linear> guidance_;         // LCM: the guidance scale, added to the embedded timestep
  std::optional<Linear> sizes1_, sizes2_;  // SDXL: pooled text and sizes, added to the time embedding
  std::vector<Level> down_;
  Level mid_;  // two residual blocks around one attention, or the first alone, or nothing
  std::vector<Level> up_;
  Norm norm_out_;
  Conv conv_out_;
  size_t texts_ = 0;   // transformer blocks constructed so far
  int64_t times_ = 0;  // channels of all residual blocks constructed so far
};

}  // namespace cudream
