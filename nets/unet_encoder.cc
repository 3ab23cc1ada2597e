// Embeddings, the way down, the middle.
#include "nets/unet_encoder.h"

#include <cmath>
#include <utility>

namespace cudream {
namespace {

int64_t temb_width(const UNetSpec& s) {
  return 4 * s.channels.front();
}

}  // namespace

std::vector<float> guidance_wave(float scale, int64_t width) {
  const float w = (scale - 1) * 1000;
  const int64_t half = width / 2;
  const float step = -std::log(10000.f) / static_cast<float>(half - 1);
  std::vector<float> wave(static_cast<size_t>(width));
  for (int64_t i = 0; i < half; i++) {
    const float phase = w * std::exp(static_cast<float>(i) * step);
    wave[static_cast<size_t>(i)] = std::sin(phase);
    wave[static_cast<size_t>(half + i)] = std::cos(phase);
  }
  return wave;
}

ResBlock UNetBlocks::resnet(const Weights& w, int64_t in, int64_t out) {
  const int64_t first = std::exchange(times_, times_ + out);
  return ResBlock(w, in, out, temb_width(spec_), spec_.groups, spec_.eps, first);
}

SpatialTransformer UNetBlocks::transformer(const Weights& w, int level, int depth) {
  const auto i = static_cast<size_t>(level);
  const size_t first = std::exchange(texts_, texts_ + static_cast<size_t>(depth));
  return SpatialTransformer(w, spec_.channels[i], spec_.context, spec_.heads[i], depth, spec_.groups, first);
}

Tensor UNetLevel::step(Ops& o, size_t j, const Joined& x, View times, const PromptState& prompt) const {
  Tensor h = resnets[j](o, x, times);
  return attentions.empty() ? std::move(h) : attentions[j](o, h, prompt);
}

void UNetLevel::read(Ops& o, View context, PromptState& prompt) const {
  for (const SpatialTransformer& t : attentions) t.read(o, context, prompt);
}

void UNetLevel::embed(Ops& o, View temb, View times) const {
  for (const ResBlock& r : resnets) r.embed(o, temb, times);
}

UNetEncoder::UNetEncoder(const Weights& w, const UNetSpec& spec)
    : spec_(spec),
      blocks_(spec),
      conv_in_(conv(w / "conv_in", spec.in_channels, spec.channels.front(), 3)),
      time1_(linear(w / "time_embedding" / "linear_1", spec.channels.front(), temb_width(spec))),
      time2_(linear(w / "time_embedding" / "linear_2", temb_width(spec), temb_width(spec))),
      skip_channels_{spec.channels.front()} {
  if (spec.guidance_embedding > 0)
    guidance_ = linear(w / "time_embedding" / "cond_proj", spec.guidance_embedding, spec.channels.front(), false);
  if (spec.pooled_embedding > 0) {
    sizes1_ = linear(w / "add_embedding" / "linear_1", spec.pooled_embedding, temb_width(spec));
    sizes2_ = linear(w / "add_embedding" / "linear_2", temb_width(spec), temb_width(spec));
  }
  const int levels = static_cast<int>(spec.channels.size());
  int64_t width = spec.channels.front();
  for (int i = 0; i < levels; i++) {
    UNetLevel& level = down_.emplace_back();
    const Weights place = w / "down_blocks" / i;
    const int64_t channels = spec.channels[static_cast<size_t>(i)];
    for (int j = 0; const int depth : spec.down_depth[static_cast<size_t>(i)]) {
      level.resnets.push_back(blocks_.resnet(place / "resnets" / j, width, channels));
      width = channels;
      if (depth > 0) level.attentions.push_back(blocks_.transformer(place / "attentions" / j, i, depth));
      skip_channels_.push_back(width);
      j++;
    }
    if (i + 1 < levels) {
      level.resample = conv(place / "downsamplers" / 0 / "conv", width, width, 3);
      skip_channels_.push_back(width);
    }
  }
  const Weights middle = w / "mid_block";
  for (int j = 0; j < spec.mid_resnets; j++) mid_.resnets.push_back(blocks_.resnet(middle / "resnets" / j, width, width));
  if (spec.mid_depth > 0) mid_.attentions.push_back(blocks_.transformer(middle / "attentions" / 0, levels - 1, spec.mid_depth));
}

PromptState UNetEncoder::read(Ops& o, const Conditions& c) const {
  PromptState prompt;
  prompt.key_lengths = o.upload(DType::i32, {static_cast<int64_t>(c.key_lengths.size())}, c.key_lengths);
  for (const UNetLevel& level : down_) level.read(o, c.context, prompt);
  mid_.read(o, c.context, prompt);
  if (sizes1_) prompt.sizes = embed_sizes(o, c.pooled, c.sizes);
  if (guidance_) prompt.guidance = embed_guidance(o, c.guidance);
  return prompt;
}

// pooled f32 [N,P], sizes f32 [N*count] -> [N,temb]
Tensor UNetEncoder::embed_sizes(Ops& o, View pooled, View sizes) const {
  const int64_t n = pooled.shape[0], width = sizes.shape[0] / n * spec_.time_id_width;
  const Tensor waves =
      o.sinusoid(sizes, spec_.time_id_width, 10000.f, spec_.flip_sin_to_cos, spec_.freq_shift).reshape({n, width});
  const Tensor both = o.concat(pooled, waves);
  Tensor h = o.cast(both, o.compute());
  h = o.linear(h, *sizes1_, {.act = Act::silu});
  h = o.linear(h, *sizes2_);
  o.tap(h, "add_embedding");
  return h;
}

// The embedded scale is projected and added to the embedded timestep. What the first layer of the time embedding makes of the
// sum is a sum too, so this part of it is made here.
Tensor UNetEncoder::embed_guidance(Ops& o, View wave) const {
  Tensor h = o.cast(wave, o.compute());
  h = o.linear(h, *guidance_);
  return o.linear(h, {time1_.w, nullptr});
}

Tensor UNetEncoder::embed_time(Ops& o, View timesteps, const PromptState& prompt) const {
  const int64_t count = timesteps.shape[0];
  const Tensor wave = o.sinusoid(timesteps, spec_.channels.front(), 10000.f, spec_.flip_sin_to_cos, spec_.freq_shift);
  Tensor h = o.cast(wave, o.compute());
  h = o.linear(h, time1_, {.add = prompt.guidance.view(), .act = Act::silu});
  if (prompt.sizes) {
    const int64_t rows = prompt.sizes.shape()[0];
    const Tensor sizes = o.make(o.compute(), {count, prompt.sizes.shape()[1]});
    for (int64_t i = 0; i < count; i += rows) o.copy(sizes.slice(0, i, i + rows), prompt.sizes);
    h = o.linear(h, time2_, {.residual = sizes});
  } else {
    h = o.linear(h, time2_);
    o.tap(h, "time_embedding");
  }
  return o.act(h, Act::silu);
}

void UNetEncoder::embed(Ops& o, View temb, View times) const {
  for (const UNetLevel& level : down_) level.embed(o, temb, times);
  mid_.embed(o, temb, times);
}

// What every step makes is kept, and the last of it goes on.
UNetEncoder::Features UNetEncoder::operator()(Ops& o, View x, View added, View times, const PromptState& prompt) const {
  Features f;
  std::vector<Tensor>& skips = f.skips;
  skips.push_back(o.conv2d(x, conv_in_, {.e = {.residual = added}}));
  o.tap(skips.back(), "conv_in");
  for (size_t i = 0; i < down_.size(); i++) {
    const UNetLevel& level = down_[i];
    for (size_t j = 0; j < level.resnets.size(); j++) skips.push_back(level.step(o, j, skips.back(), times, prompt));
    if (level.resample) skips.push_back(o.conv2d(skips.back(), *level.resample, {.stride = 2}));
    o.tap(skips.back(), "down_blocks.{}", i);
  }
  if (mid_.resnets.empty()) {
    f.middle = o.cast(skips.back(), o.compute());  // a way up reads it twice
  } else {
    f.middle = mid_.step(o, 0, skips.back(), times, prompt);
    if (mid_.resnets.size() > 1) f.middle = mid_.resnets[1](o, f.middle, times);
    o.tap(f.middle, "mid_block");
  }
  return f;
}

}  // namespace cudream
