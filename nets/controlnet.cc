// The picture's way in, and the residuals' way out.
#include "nets/controlnet.h"

namespace cudream {

ControlNet::ControlNet(const Weights& w, const ControlNetSpec& spec)
    : spec_(spec),
      encoder_(w, spec.encoder),
      hint_in_(conv(w / "controlnet_cond_embedding" / "conv_in", 3, spec.hint_channels.front(), 3)),
      hint_out_(conv(w / "controlnet_cond_embedding" / "conv_out", spec.hint_channels.back(), spec.encoder.channels.front(), 3)),
      middle_(linear(w / "controlnet_mid_block", spec.encoder.channels.back(), spec.encoder.channels.back())) {
  const Weights blocks = w / "controlnet_cond_embedding" / "blocks";
  for (size_t i = 0; i + 1 < spec.hint_channels.size(); i++) {
    const int64_t in = spec.hint_channels[i], out = spec.hint_channels[i + 1];
    hint_.push_back(conv(blocks / static_cast<int>(2 * i), in, in, 3));
    hint_.push_back(conv(blocks / static_cast<int>(2 * i + 1), in, out, 3));
  }
  for (int i = 0; const int64_t channels : encoder_.skip_channels())
    skips_.push_back(linear(w / "controlnet_down_blocks" / i++, channels, channels));
}

Tensor ControlNet::see(Ops& o, View picture) const {
  const Epilogue silu{.act = Act::silu};
  Tensor h = o.cast(picture, o.compute());
  h = o.conv2d(h, hint_in_, {.e = silu});
  for (size_t i = 0; i < hint_.size(); i++) h = o.conv2d(h, hint_[i], {.stride = i % 2 == 0 ? 1 : 2, .e = silu});
  return o.conv2d(h, hint_out_);
}

Tensor ControlNet::embed(Ops& o, View timesteps, const PromptState& prompt) const {
  const Tensor temb = encoder_.embed_time(o, timesteps, prompt);
  Tensor times = o.make(o.compute(), {timesteps.shape[0], encoder_.blocks().times()});
  encoder_.embed(o, temb, times);
  return times;
}

std::vector<Tensor> ControlNet::predict(Ops& o, View x, View seen, View times, const PromptState& prompt, float strength,
                                        std::vector<Tensor> residuals) const {
  auto [features, middle] = encoder_(o, x, seen, times, prompt);
  features.push_back(std::move(middle));
  const bool first = residuals.empty();
  residuals.resize(features.size());
  for (size_t i = 0; i < features.size(); i++) {
    features[i] = o.linear(features[i], i < skips_.size() ? skips_[i] : middle_);
    const Tensor mine = o.cast(features[i], DType::f32);
    features[i].reset();
    residuals[i] = first ? o.combine({{strength, mine}}) : o.combine({{1.f, residuals[i]}, {strength, mine}});
  }
  return residuals;
}

}  // namespace cudream
