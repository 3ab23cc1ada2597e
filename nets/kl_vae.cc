// Encoder and decoder.
#include "nets/kl_vae.h"

#include <cmath>

namespace cudream {
namespace {

constexpr float kEps = 1e-6f;  // of every norm

}  // namespace

KlAutoencoder::Attention::Attention(const Weights& w, int64_t channels, int group_count)
    : norm(cudream::norm(w / "group_norm", channels, kEps)),
      qkv(joined_linear(w, {"to_q", "to_k", "to_v"}, channels, channels, true)),
      out(linear(w / "to_out" / 0, channels, channels)),
      groups(group_count) {}

Tensor KlAutoencoder::Attention::operator()(Ops& o, View x) const {
  const int64_t c = x.shape[3];
  const Shape tokens{x.shape[0], x.shape[1] * x.shape[2], c};
  Tensor h = o.group_norm(x, norm, {.groups = groups}).reshape(tokens);
  h = o.linear(h, qkv);
  const AttentionArgs args{.heads = 1, .scale = 1 / std::sqrt(static_cast<float>(c))};
  h = o.attention(h.slice(2, 0, c), h.slice(2, c, 2 * c), h.slice(2, 2 * c, 3 * c), args);
  return o.linear(h, out, {.residual = x.reshape(tokens)}).reshape(x.shape);
}

KlAutoencoder::Middle::Middle(const Weights& w, int64_t channels, int groups)
    : first(w / "resnets" / 0, channels, channels, 0, groups, kEps),
      second(w / "resnets" / 1, channels, channels, 0, groups, kEps),
      attention(w / "attentions" / 0, channels, groups) {}

Tensor KlAutoencoder::Middle::operator()(Ops& o, View x) const {
  Tensor h = first(o, x, {});
  h = attention(o, h);
  return second(o, h, {});
}

KlAutoencoder::Half::Half(const Weights& w, const VaeSpec& s, bool encoder)
    : in(conv(w / "conv_in", encoder ? s.image_channels : s.latent_channels, encoder ? s.channels.front() : s.channels.back(),
              3)),
      out(conv(w / "conv_out", encoder ? s.channels.back() : s.channels.front(),
               encoder ? 2 * s.latent_channels : s.image_channels, 3)),
      norm_out(norm(w / "conv_norm_out", encoder ? s.channels.back() : s.channels.front(), kEps)),
      middle(w / "mid_block", s.channels.back(), s.groups) {
  const size_t count = s.channels.size();
  int64_t width = encoder ? s.channels.front() : s.channels.back();
  for (size_t i = 0; i < count; i++) {
    Level& level = levels.emplace_back();
    const Weights place = w / (encoder ? "down_blocks" : "up_blocks") / static_cast<int>(i);
    const int64_t channels = s.channels[encoder ? i : count - 1 - i];
    for (int j = 0; j < s.layers + (encoder ? 0 : 1); j++) {
      level.resnets.emplace_back(place / "resnets" / j, width, channels, 0, s.groups, kEps);
      width = channels;
    }
    if (i + 1 < count) level.resample = conv(place / (encoder ? "downsamplers" : "upsamplers") / 0 / "conv", width, width, 3);
  }
}

KlAutoencoder::KlAutoencoder(const Weights& w, const VaeSpec& spec)
    : spec_(spec),
      encoder_(w / "encoder", spec, true),
      decoder_(w / "decoder", spec, false),
      quant_(linear(w / "quant_conv", 2 * spec.latent_channels, 2 * spec.latent_channels)),
      post_quant_(linear(w / "post_quant_conv", spec.latent_channels, spec.latent_channels)) {}

Tensor KlAutoencoder::encode(Ops& o, View image) const {
  Tensor h = o.cast(image, o.compute());
  h = o.conv2d(h, encoder_.in);
  for (const Level& level : encoder_.levels) {
    for (const ResBlock& r : level.resnets) h = r(o, h, {});
    // Zeros on the right and below only, so that halving keeps the pixels' places.
    if (level.resample) h = o.conv2d(h, *level.resample, {.stride = 2, .pad_left_top = 0, .pad_right_bottom = 1});
  }
  h = encoder_.middle(o, h);
  o.tap(h, "encoder.mid_block");
  h = o.group_norm(h, encoder_.norm_out, {.groups = spec_.groups, .act = Act::silu});
  h = o.conv2d(h, encoder_.out);
  o.tap(h, "encoder.conv_out");
  h = o.linear(h, quant_);
  return o.cast(h, DType::f32);
}

Tensor KlAutoencoder::decode(Ops& o, View latent) const {
  Tensor h = o.cast(latent, o.compute());
  h = o.linear(h, post_quant_);
  h = o.conv2d(h, decoder_.in);
  o.tap(h, "decoder.conv_in");
  h = decoder_.middle(o, h);
  o.tap(h, "decoder.mid_block");
  for (size_t i = 0; i < decoder_.levels.size(); i++) {
    const Level& level = decoder_.levels[i];
    for (const ResBlock& r : level.resnets) h = r(o, h, {});
    if (level.resample) h = o.conv2d(h, *level.resample, {.up_height = 2 * h.shape()[1], .up_width = 2 * h.shape()[2]});
    o.tap(h, "decoder.up_blocks.{}", i);
  }
  h = o.group_norm(h, decoder_.norm_out, {.groups = spec_.groups, .act = Act::silu});
  h = o.conv2d(h, decoder_.out);
  return o.cast(h, DType::f32);
}

}  // namespace cudream
