// The UNet: down, middle, up, with skip connections between the levels.
#include "nets/unet.h"

#include <cmath>
#include <utility>

#include "core/error.h"

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

UNet::UNet(const Weights& w, const UNetSpec& spec)
    : spec_(spec),
      conv_in_(conv(w / "conv_in", spec.in_channels, spec.channels.front(), 3)),
      time1_(linear(w / "time_embedding" / "linear_1", spec.channels.front(), temb_width(spec))),
      time2_(linear(w / "time_embedding" / "linear_2", temb_width(spec), temb_width(spec))),
      norm_out_(norm(w / "conv_norm_out", spec.channels.front(), spec.eps)),
      conv_out_(conv(w / "conv_out", spec.channels.front(), spec.out_channels, 3)) {
  if (spec.guidance_embedding > 0)
    guidance_ = linear(w / "time_embedding" / "cond_proj", spec.guidance_embedding, spec.channels.front(), false);
  if (spec.pooled_embedding > 0) {
    sizes1_ = linear(w / "add_embedding" / "linear_1", spec.pooled_embedding, temb_width(spec));
    sizes2_ = linear(w / "add_embedding" / "linear_2", temb_width(spec), temb_width(spec));
  }
  const int levels = static_cast<int>(spec.channels.size());
  const auto at = [](const auto& values, int level) { return values[static_cast<size_t>(level)]; };
  // The channels of every skip connection, in the order they are pushed.
  std::vector<int64_t> skips{spec.channels.front()};
  int64_t width = spec.channels.front();
  for (int i = 0; i < levels; i++) {
    Level& level = down_.emplace_back();
    const Weights place = w / "down_blocks" / i;
    for (int j = 0; const int depth : at(spec.down_depth, i)) {
      level.resnets.push_back(resnet(place / "resnets" / j, width, at(spec.channels, i)));
      width = at(spec.channels, i);
      if (depth > 0) level.attentions.push_back(transformer(place / "attentions" / j, i, depth));
      skips.push_back(width);
      j++;
    }
    if (i + 1 < levels) {
      level.resample = conv(place / "downsamplers" / 0 / "conv", width, width, 3);
      skips.push_back(width);
    }
  }

  for (int j = 0; j < spec.mid_resnets; j++) mid_.resnets.push_back(resnet(w / "mid_block" / "resnets" / j, width, width));
  if (spec.mid_depth > 0) mid_.attentions.push_back(transformer(w / "mid_block" / "attentions" / 0, levels - 1, spec.mid_depth));

  for (int i = 0; i < levels; i++) {
    Level& level = up_.emplace_back();
    const int mirror = levels - 1 - i;  // the down level of the same size
    const Weights place = w / "up_blocks" / i;
    for (int j = 0; const int depth : at(spec.up_depth, mirror)) {
      level.resnets.push_back(resnet(place / "resnets" / j, width + skips.back(), at(spec.channels, mirror)));
      skips.pop_back();
      width = at(spec.channels, mirror);
      if (depth > 0) level.attentions.push_back(transformer(place / "attentions" / j, mirror, depth));
      j++;
    }
    if (i + 1 < levels) level.resample = conv(place / "upsamplers" / 0 / "conv", width, width, 3);
  }
}

ResBlock UNet::resnet(const Weights& w, int64_t in, int64_t out) {
  const int64_t first = std::exchange(times_, times_ + out);
  return ResBlock(w, in, out, temb_width(spec_), spec_.groups, spec_.eps, first);
}

SpatialTransformer UNet::transformer(const Weights& w, int level, int depth) {
  const auto i = static_cast<size_t>(level);
  const size_t first = std::exchange(texts_, texts_ + static_cast<size_t>(depth));
  return SpatialTransformer(w, spec_.channels[i], spec_.context, spec_.heads[i], depth, spec_.groups, first);
}

PromptState UNet::read(Ops& o, const Conditions& c) const {
  PromptState prompt;
  prompt.key_lengths = o.upload(DType::i32, {static_cast<int64_t>(c.key_lengths.size())}, c.key_lengths);
  const auto read_level = [&](const Level& level) {
    for (const SpatialTransformer& t : level.attentions) t.read(o, c.context, prompt);
  };
  for (const Level& level : down_) read_level(level);
  read_level(mid_);
  for (const Level& level : up_) read_level(level);
  if (sizes1_) prompt.sizes = embed_sizes(o, c.pooled, c.sizes);
  if (guidance_) prompt.guidance = embed_guidance(o, c.guidance);
  return prompt;
}

// pooled f32 [N,P], sizes f32 [N*count] -> [N,temb]
Tensor UNet::embed_sizes(Ops& o, View pooled, View sizes) const {
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
Tensor UNet::embed_guidance(Ops& o, View wave) const {
  Tensor h = o.cast(wave, o.compute());
  h = o.linear(h, *guidance_);
  return o.linear(h, {time1_.w, nullptr});
}

Tensor UNet::embed(Ops& o, View timesteps, const PromptState& prompt) const {
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
  h = o.act(h, Act::silu);  // every residual block begins with it
  Tensor times = o.make(o.compute(), {count, times_});
  const auto embed_level = [&](const Level& level) {
    for (const ResBlock& r : level.resnets) r.embed(o, h, times);
  };
  for (const Level& level : down_) embed_level(level);
  embed_level(mid_);
  for (const Level& level : up_) embed_level(level);
  return times;
}

Tensor UNet::Level::step(Ops& o, size_t j, View x, View times, const PromptState& prompt) const {
  Tensor h = resnets[j](o, x, times);
  return attentions.empty() ? std::move(h) : attentions[j](o, h, prompt);
}

Tensor UNet::predict(Ops& o, View x, View times, const PromptState& prompt) const {
  // Down: what every step makes is kept for the way up, and the last of it goes on.
  std::vector<Tensor> skips;
  skips.push_back(o.conv2d(x, conv_in_));
  o.tap(skips.back(), "conv_in");
  for (size_t i = 0; i < down_.size(); i++) {
    const Level& level = down_[i];
    for (size_t j = 0; j < level.resnets.size(); j++) skips.push_back(level.step(o, j, skips.back(), times, prompt));
    if (level.resample) skips.push_back(o.conv2d(skips.back(), *level.resample, {.stride = 2}));
    o.tap(skips.back(), "down_blocks.{}", i);
  }

  Tensor h;
  if (mid_.resnets.empty()) {
    h = o.cast(skips.back(), o.compute());  // the way up reads it twice
  } else {
    h = mid_.step(o, 0, skips.back(), times, prompt);
    if (mid_.resnets.size() > 1) h = mid_.resnets[1](o, h, times);
    o.tap(h, "mid_block");
  }

  for (size_t i = 0; i < up_.size(); i++) {
    const Level& level = up_[i];
    for (size_t j = 0; j < level.resnets.size(); j++) {
      h = o.concat(h, skips.back());
      skips.pop_back();
      h = level.step(o, j, h, times, prompt);
    }
    if (level.resample) {  // up to the size of the next skip, which need not be twice this one
      const Shape& next = skips.back().shape();
      h = o.conv2d(h, *level.resample, {.up_height = next[1], .up_width = next[2]});
    }
    o.tap(h, "up_blocks.{}", i);
  }

  h = o.group_norm(h, norm_out_, {.groups = spec_.groups, .act = Act::silu});
  return o.conv2d(h, conv_out_);
}

}  // namespace cudream
