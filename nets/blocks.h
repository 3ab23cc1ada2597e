// The blocks that UNet and autoencoder share: residual block, attention, spatial transformer.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "kernels/ops.h"
#include "kernels/weight.h"

namespace cudream {

// Two convolutions with GroupNorm and SiLU before each ("Deep Residual Learning", He et al. 2016, in the form of DDPM's
// appendix B, Ho et al. 2020). The timestep embedding is added per channel between them.
class ResBlock {
 public:
  // temb: width of the timestep embedding; 0: the block has none (autoencoder). first_time: where the channels of this block
  // begin in what all blocks of a network add.
  ResBlock(const Weights& w, int64_t in, int64_t out, int64_t temb, int groups, float eps, int64_t first_time = 0);
  // What is added per channel: temb [S,temb], after SiLU  ->  times [S,first_time...first_time+out]
  void embed(Ops& o, View temb, View times) const;
  // x [N,H,W,in], times [N or 1,...] from embed(), or empty  ->  [N,H,W,out]
  Tensor operator()(Ops& o, const Joined& x, View times) const;

 private:
  Norm norm1_, norm2_;
  Conv conv1_, conv2_;
  std::optional<Linear> time_, shortcut_;  // the shortcut is a 1x1 convolution: a product over pixels
  int groups_;
  int64_t first_time_;
};

// One layer of a spatial transformer: self-attention, cross-attention to the text, GEGLU feed-forward, each with a
// LayerNorm before and a residual around it (Rombach et al. 2022, appendix E.2.1).
class TransformerBlock {
 public:
  TransformerBlock(const Weights& w, int64_t width, int64_t context, int heads);
  // The keys and values of the text, once per prompt: context [N,T,context] -> [N,T,2*width]
  Tensor read(Ops& o, View context) const;
  // x [N,L,width], text [N,T,2*width] from read(), key_lengths i32 [N] or empty
  Tensor operator()(Ops& o, Tensor x, View text, View key_lengths) const;

 private:
  int64_t width_;
  AttentionArgs attention_;
  Norm norm1_, norm2_, norm3_;
  Linear qkv_, self_out_, q_, text_kv_, cross_out_, ff_in_, ff_out_;
};

// What a network makes of its conditions, once: the keys and values of every transformer block, and embeddings.
struct PromptState {
  std::vector<Tensor> text;         // each [N,T,2*width], in the order the blocks were constructed
  Tensor key_lengths;               // i32 [N]: how many of the T tokens a row has
  Tensor sizes;                     // [N,temb]: what SDXL adds to the time embedding
  Tensor guidance;                  // [1 or N,temb]: what LCM's guidance embedding adds within the time embedding
  std::vector<View> views() const;  // of what a step reads
};

// GroupNorm, a projection in, transformer blocks over the pixels as tokens, a projection out, a residual.
class SpatialTransformer {
 public:
  // first_text: where in PromptState::text the blocks of this one begin
  SpatialTransformer(const Weights& w, int64_t channels, int64_t context, int heads, int depth, int groups, size_t first_text);
  void read(Ops& o, View context, PromptState& prompt) const;  // appends its entries
  // x [N,H,W,channels]
  Tensor operator()(Ops& o, View x, const PromptState& prompt) const;

 private:
  Norm norm_;
  Linear in_, out_;  // 1x1 convolutions or linear layers: the same product
  std::vector<TransformerBlock> blocks_;
  int groups_;
  size_t first_text_;
};

}  // namespace cudream
