// Residual block and spatial transformer.
#include "nets/blocks.h"

#include <cmath>

#include "core/error.h"

namespace cudream {

ResBlock::ResBlock(const Weights& w, int64_t in, int64_t out, int64_t temb, int groups, float eps, int64_t first_time)
    : norm1_(norm(w / "norm1", in, eps)),
      norm2_(norm(w / "norm2", out, eps)),
      conv1_(conv(w / "conv1", in, out, 3)),
      conv2_(conv(w / "conv2", out, out, 3)),
      groups_(groups),
      first_time_(first_time) {
  if (temb > 0) time_ = linear(w / "time_emb_proj", temb, out);
  if (in != out) shortcut_ = linear(w / "conv_shortcut", in, out);
}

void ResBlock::embed(Ops& o, View temb, View times) const {
  const Tensor mine = o.linear(temb, *time_);
  o.copy(times.slice(1, first_time_, first_time_ + mine.shape()[1]), mine);
}

Tensor ResBlock::operator()(Ops& o, const Joined& x, View times) const {
  const NormArgs silu{.groups = groups_, .act = Act::silu};
  const View time = time_ ? times.slice(1, first_time_, first_time_ + time_->w->shape[0]) : View();
  Tensor h = o.group_norm(x, norm1_, silu);
  h = o.conv2d(h, conv1_, {.e = {.add = time}});
  h = o.group_norm(h, norm2_, silu);
  if (!shortcut_ && !x.x2) return o.conv2d(h, conv2_, {.e = {.residual = x.x}});
  const Tensor skip = shortcut_ ? o.linear(x, *shortcut_) : o.concat(x.x, x.x2);
  return o.conv2d(h, conv2_, {.e = {.residual = skip}});
}

TransformerBlock::TransformerBlock(const Weights& w, int64_t width, int64_t context, int heads)
    : width_(width),
      attention_{.heads = heads, .scale = 1 / std::sqrt(static_cast<float>(width) / static_cast<float>(heads))},
      norm1_(norm(w / "norm1", width, 1e-5f)),
      norm2_(norm(w / "norm2", width, 1e-5f)),
      norm3_(norm(w / "norm3", width, 1e-5f)),
      qkv_(joined_linear(w / "attn1", {"to_q", "to_k", "to_v"}, width, width, false)),
      self_out_(linear(w / "attn1" / "to_out" / 0, width, width)),
      q_(linear(w / "attn2" / "to_q", width, width, false)),
      text_kv_(joined_linear(w / "attn2", {"to_k", "to_v"}, context, width, false)),
      cross_out_(linear(w / "attn2" / "to_out" / 0, width, width)),
      ff_in_(linear(w / "ff" / "net" / 0 / "proj", width, 8 * width, true, Use::geglu)),
      ff_out_(linear(w / "ff" / "net" / 2, 4 * width, width)) {}

Tensor TransformerBlock::read(Ops& o, View context) const {
  return o.linear(context, text_kv_);
}

Tensor TransformerBlock::operator()(Ops& o, Tensor x, View text, View key_lengths) const {
  Tensor h = o.layer_norm(x, norm1_);
  h = o.linear(h, qkv_);  // [N,L,3*width]
  h = o.attention(h.slice(2, 0, width_), h.slice(2, width_, 2 * width_), h.slice(2, 2 * width_, 3 * width_), attention_);
  x = o.linear(h, self_out_, {.residual = x});

  h = o.layer_norm(x, norm2_);
  h = o.linear(h, q_);
  AttentionArgs cross = attention_;
  cross.key_lengths = key_lengths;
  h = o.attention(h, text.slice(2, 0, width_), text.slice(2, width_, 2 * width_), cross);
  x = o.linear(h, cross_out_, {.residual = x});

  h = o.layer_norm(x, norm3_);
  h = o.geglu(h, ff_in_);  // [N,L,4*width]
  return o.linear(h, ff_out_, {.residual = x});
}

SpatialTransformer::SpatialTransformer(const Weights& w, int64_t channels, int64_t context, int heads, int depth, int groups,
                                       size_t first_text)
    : norm_(norm(w / "norm", channels, 1e-6f)),
      in_(linear(w / "proj_in", channels, channels)),
      out_(linear(w / "proj_out", channels, channels)),
      groups_(groups),
      first_text_(first_text) {
  for (int i = 0; i < depth; i++) blocks_.emplace_back(w / "transformer_blocks" / i, channels, context, heads);
}

std::vector<View> PromptState::views() const {
  std::vector<View> all{key_lengths};
  for (const Tensor& t : text) all.push_back(t);
  return all;
}

void SpatialTransformer::read(Ops& o, View context, PromptState& prompt) const {
  invariant(prompt.text.size() == first_text_, "transformers read the prompt out of order");
  for (const TransformerBlock& b : blocks_) prompt.text.push_back(b.read(o, context));
}

Tensor SpatialTransformer::operator()(Ops& o, View x, const PromptState& prompt) const {
  const Shape tokens{x.shape[0], x.shape[1] * x.shape[2], x.shape[3]};
  Tensor h = o.group_norm(x, norm_, {.groups = groups_}).reshape(tokens);
  h = o.linear(h, in_);
  for (size_t i = 0; i < blocks_.size(); i++) h = blocks_[i](o, std::move(h), prompt.text[first_text_ + i], prompt.key_lengths);
  return o.linear(h, out_, {.residual = x.reshape(tokens)}).reshape(x.shape);
}

}  // namespace cudream
