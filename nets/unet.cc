// The UNet: its encoder, then the way up, with skip connections between levels of one size.
#include "nets/unet.h"

#include "core/error.h"

namespace cudream {

UNet::UNet(const Weights& w, const UNetSpec& spec)
    : spec_(spec),
      encoder_(w, spec),
      norm_out_(norm(w / "conv_norm_out", spec.channels.front(), spec.eps)),
      conv_out_(conv(w / "conv_out", spec.channels.front(), spec.out_channels, 3)) {
  const int levels = static_cast<int>(spec.channels.size());
  std::vector<int64_t> skips = encoder_.skip_channels();
  UNetBlocks blocks = encoder_.blocks();
  int64_t width = spec.channels.back();
  for (int i = 0; i < levels; i++) {
    UNetLevel& level = up_.emplace_back();
    const int mirror = levels - 1 - i;  // the down level of the same size
    const int64_t channels = spec.channels[static_cast<size_t>(mirror)];
    const Weights place = w / "up_blocks" / i;
    for (int j = 0; const int depth : spec.up_depth[static_cast<size_t>(mirror)]) {
      level.resnets.push_back(blocks.resnet(place / "resnets" / j, width + skips.back(), channels));
      skips.pop_back();
      width = channels;
      if (depth > 0) level.attentions.push_back(blocks.transformer(place / "attentions" / j, mirror, depth));
      j++;
    }
    if (i + 1 < levels) level.resample = conv(place / "upsamplers" / 0 / "conv", width, width, 3);
  }
  times_ = blocks.times();
}

PromptState UNet::read(Ops& o, const Conditions& c) const {
  PromptState prompt = encoder_.read(o, c);
  for (const UNetLevel& level : up_) level.read(o, c.context, prompt);
  return prompt;
}

Tensor UNet::embed(Ops& o, View timesteps, const PromptState& prompt) const {
  const Tensor temb = encoder_.embed_time(o, timesteps, prompt);
  Tensor times = o.make(o.compute(), {timesteps.shape[0], times_});
  encoder_.embed(o, temb, times);
  for (const UNetLevel& level : up_) level.embed(o, temb, times);
  return times;
}

namespace {

// Sums are in f32.
void add(Ops& o, Tensor& x, View residual) {
  Tensor sum = o.cast(x, DType::f32);
  sum = o.combine({{1.f, sum}, {1.f, residual}});
  o.copy(x, sum);
}

}  // namespace

Tensor UNet::predict(Ops& o, View x, View times, const PromptState& prompt, std::vector<Tensor> residuals) const {
  auto [skips, h] = encoder_(o, x, {}, times, prompt);
  if (!residuals.empty()) {
    invariant(residuals.size() == skips.size() + 1, "{} residuals for {} skip connections", residuals.size(), skips.size());
    for (size_t i = 0; i < skips.size(); i++) add(o, skips[i], residuals[i]);
    add(o, h, residuals.back());
    residuals.clear();
  }

  for (size_t i = 0; i < up_.size(); i++) {
    const UNetLevel& level = up_[i];
    for (size_t j = 0; j < level.resnets.size(); j++) {
      const Joined both = o.join(std::move(h), std::move(skips.back()));
      skips.pop_back();
      h = level.step(o, j, both, times, prompt);
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
