// Encoder and decoder.
#include "nets/tiny_vae.h"

#include "core/error.h"

namespace cudream {

TinyAutoencoder::Block::Block(const Weights& w, int64_t width)
    : first(conv(w / "conv" / 0, width, width, 3)),
      second(conv(w / "conv" / 2, width, width, 3)),
      third(conv(w / "conv" / 4, width, width, 3)) {}

Tensor TinyAutoencoder::Block::operator()(Ops& o, View x) const {
  Tensor h = o.conv2d(x, first, {.e = {.act = Act::relu}});
  h = o.conv2d(h, second, {.e = {.act = Act::relu}});
  h = o.conv2d(h, third, {.e = {.residual = x}});
  return o.act(h, Act::relu);
}

// Layers are numbered through; in the decoder also the ReLU after the first one, and each upsampling.
TinyAutoencoder::Half::Half(const Weights& layers, const VaeSpec& s, bool encoder) {
  const int64_t width = s.channels.front();
  int next = 0;
  in = conv(layers / next++, encoder ? s.image_channels : s.latent_channels, width, 3);
  if (!encoder) next++;
  const size_t count = s.channels.size(), finest = encoder ? 0 : count - 1;
  for (size_t i = 0; i < count; i++) {
    Level& level = levels.emplace_back();
    if (i > 0 && !encoder) next++;
    if (i > 0) level.resample = conv(layers / next++, width, width, 3, false);
    for (int j = 0; j < (i == finest ? 1 : s.layers); j++) level.blocks.emplace_back(layers / next++, width);
  }
  out = conv(layers / next, width, encoder ? s.latent_channels : s.image_channels, 3);
}

TinyAutoencoder::TinyAutoencoder(const Weights& w, const VaeSpec& spec) : spec_(spec) {
  if (spec.encoder) encoder_.emplace(w / "encoder" / "layers", spec, true);
  if (spec.decoder) decoder_.emplace(w / "decoder" / "layers", spec, false);
}

// It reads colors from 0 to 1, and gives latents as the UNet has them.
Tensor TinyAutoencoder::encode(Ops& o, View image) const {
  invariant(encoder_.has_value(), "a tiny autoencoder without an encoder encodes");
  const std::vector<float> ones(static_cast<size_t>(image.shape.size()), 1);
  Tensor h = o.upload(DType::f32, image.shape, std::span<const float>(ones));
  h = o.combine({{0.5f, image}, {0.5f, h}});
  h = o.cast(h, o.compute());
  h = o.conv2d(h, encoder_->in);
  for (size_t i = 0; i < encoder_->levels.size(); i++) {
    const Level& level = encoder_->levels[i];
    if (level.resample) h = o.conv2d(h, *level.resample, {.stride = 2});
    for (const Block& block : level.blocks) h = block(o, h);
    o.tap(h, "encoder.levels.{}", i);
  }
  h = o.conv2d(h, encoder_->out);
  h = o.cast(h, DType::f32);
  return o.combine({{1 / spec_.scaling_factor, h}});
}

// It reads latents as the UNet has them, kept softly within 3, and gives colors from 0 to 1.
Tensor TinyAutoencoder::decode(Ops& o, View latent) const {
  invariant(decoder_.has_value(), "a tiny autoencoder without a decoder decodes");
  Tensor h = o.combine({{spec_.scaling_factor / 3, latent}});
  h = o.act(h, Act::tanh);
  h = o.combine({{3.f, h}});
  h = o.cast(h, o.compute());
  h = o.conv2d(h, decoder_->in, {.e = {.act = Act::relu}});
  for (size_t i = 0; i < decoder_->levels.size(); i++) {
    const Level& level = decoder_->levels[i];
    if (level.resample) h = o.conv2d(h, *level.resample, {.up_height = 2 * h.shape()[1], .up_width = 2 * h.shape()[2]});
    for (const Block& block : level.blocks) h = block(o, h);
    o.tap(h, "decoder.levels.{}", i);
  }
  const std::vector<float> middle(static_cast<size_t>(spec_.image_channels), -0.5f);
  const Tensor grey = o.upload(DType::f32, {1, spec_.image_channels}, std::span<const float>(middle)),
               shift = o.cast(grey, o.compute());
  h = o.conv2d(h, decoder_->out, {.e = {.add = shift}});
  h = o.cast(h, DType::f32);
  return o.combine({{2.f, h}});
}

}  // namespace cudream
