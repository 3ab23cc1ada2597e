// The first half of the UNet: embeddings of time and conditions, the way down, the middle. A ControlNet is a copy of it.
#pragma once

#include <optional>
#include <span>
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

// Builds blocks, numbering what they read of the prompt and of the timesteps.
class UNetBlocks {
 public:
  explicit UNetBlocks(const UNetSpec& spec) : spec_(spec) {}
  ResBlock resnet(const Weights& w, int64_t in, int64_t out);
  SpatialTransformer transformer(const Weights& w, int level, int depth);
  int64_t times() const { return times_; }  // channels of all residual blocks so far

 private:
  UNetSpec spec_;
  size_t texts_ = 0;  // transformer blocks so far
  int64_t times_ = 0;
};

// Blocks of one size.
struct UNetLevel {
  std::vector<ResBlock> resnets;
  std::vector<SpatialTransformer> attentions;  // as many, or none (one for the two residual blocks of the middle)
  std::optional<Conv> resample;                // down: stride 2; up: nearest upsampling before it
  Tensor step(Ops& o, size_t j, const Joined& x, View times, const PromptState& prompt) const;
  void read(Ops& o, View context, PromptState& prompt) const;
  void embed(Ops& o, View temb, View times) const;
};

class UNetEncoder {
 public:
  UNetEncoder(const Weights& w, const UNetSpec& spec);
  // The channels of every skip connection, in the order they are made.
  const std::vector<int64_t>& skip_channels() const { return skip_channels_; }
  const UNetBlocks& blocks() const { return blocks_; }  // to go on numbering from

  PromptState read(Ops& o, const Conditions& conditions) const;
  // timesteps f32 [S] -> [S,temb], after the SiLU that every residual block begins with; see UNet::embed for the sizes
  Tensor embed_time(Ops& o, View timesteps, const PromptState& prompt) const;
  // What its own residual blocks add: temb [S,temb] -> their channels of times [S,*]
  void embed(Ops& o, View temb, View times) const;

  struct Features {
    std::vector<Tensor> skips;  // each [N,h,w,c], the finest first
    Tensor middle;
  };
  // x [N,h,w,in_channels]; added, [N,h,w,channels.front()] or empty, is added to what the first convolution makes of it.
  Features operator()(Ops& o, View x, View added, View times, const PromptState& prompt) const;

 private:
  Tensor embed_sizes(Ops& o, View pooled, View sizes) const;
  Tensor embed_guidance(Ops& o, View wave) const;

  UNetSpec spec_;
  UNetBlocks blocks_;
  Conv conv_in_;
  Linear time1_, time2_;
  std::optional<Linear> guidance_;         // LCM: the guidance scale, added to the embedded timestep
  std::optional<Linear> sizes1_, sizes2_;  // SDXL: pooled text and sizes, added to the time embedding
  std::vector<UNetLevel> down_;
  UNetLevel mid_;  // two residual blocks around one attention, or the first alone, or nothing
  std::vector<int64_t> skip_channels_;
};

}  // namespace cudream
