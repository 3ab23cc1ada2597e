// One call of the UNet for all branches, then the guided sum and the clean estimate in one combination.
#include "runtime/predictor.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace cudream {
namespace {

// Standard deviation over everything but the batch axis, with n-1, as the reference has it.
double deviation(std::span<const float> values) {
  double mean = 0, sum = 0;
  for (const float v : values) mean += v;
  mean /= static_cast<double>(values.size());
  for (const float v : values) sum += (v - mean) * (v - mean);
  return std::sqrt(sum / static_cast<double>(values.size() - 1));
}

// Every picture of the batch reads the same prompts: rows are negative for all, then positive for all.
template <typename T>
std::vector<T> repeat_rows(std::span<const T> rows, size_t branches, int64_t batch) {
  const size_t width = rows.size() / branches;
  std::vector<T> values;
  for (size_t b = 0; b < branches; b++)
    for (int64_t i = 0; i < batch; i++) {
      const std::span<const T> row = rows.subspan(b * width, width);
      values.insert(values.end(), row.begin(), row.end());
    }
  return values;
}

}  // namespace

Predictor::Predictor(Ops& o, const UNet& unet, const TextStates& states, std::span<const float> sizes, const Shape& latent,
                     Guidance guidance, Prediction prediction, std::span<const float> timesteps)
    : ops_(o),
      unet_(unet),
      batch_(latent[0]),
      tokens_(states.tokens),
      timesteps_(timesteps),
      guidance_(guidance),
      prediction_(prediction) {
  const size_t branches = guidance.branches();
  const int64_t rows = static_cast<int64_t>(branches) * batch_;
  const auto upload = [&](const Shape& shape, std::span<const float> values) {
    const std::vector<float> repeated = repeat_rows(values, branches, batch_);
    return o.upload(DType::f32, shape, std::span<const float>(repeated));
  };
  inputs_ = o.make(o.compute(), latent.with(0, rows));
  outputs_ = o.make(DType::f32, inputs_.shape().with(3, unet.spec().out_channels));
  const Tensor exact = upload({rows, states.tokens, states.width}, states.values);
  const Tensor context = o.cast(exact, o.compute());
  const std::vector<int32_t> lengths = repeat_rows(std::span(states.key_lengths), branches, batch_);
  Conditions conditions{.context = context, .key_lengths = lengths};
  Tensor pooled, numbers, scale;
  if (const int64_t width = unet.spec().guidance_embedding; width > 0) {
    const std::vector<float> wave = guidance_wave(static_cast<float>(guidance.scale), width);
    scale = o.upload(DType::f32, {1, width}, std::span<const float>(wave));
    conditions.guidance = scale;
  }
  if (unet.spec().pooled_embedding > 0) {
    pooled = upload({rows, states.pooled_width}, states.pooled);
    numbers = upload({static_cast<int64_t>(sizes.size()) * batch_}, sizes);
    conditions.pooled = pooled;
    conditions.sizes = numbers;
  }
  prompt_ = unet.read(o, conditions);

  // Where rows are told different sizes, each has its own embedding of a timestep.
  const int64_t each = prompt_.sizes ? rows : 1;
  std::vector<float> repeated;
  for (const float t : timesteps) repeated.insert(repeated.end(), static_cast<size_t>(each), t);
  const Tensor t = o.upload(DType::f32, {static_cast<int64_t>(repeated.size())}, std::span<const float>(repeated));
  all_times_ = unet.embed(o, t, prompt_);
  times_ = o.make(o.compute(), all_times_.shape().with(0, each));
}

Tensor Predictor::operator()(View x, const Level& level) const {
  const auto at = std::ranges::lower_bound(timesteps_, static_cast<float>(level.t));
  invariant(at != timesteps_.end() && *at == static_cast<float>(level.t), "timestep {} was not foreseen", level.t);
  const auto which = at - timesteps_.begin();
  const int64_t each = times_.shape()[0];
  ops_.copy(times_, all_times_.slice(0, which * each, (which + 1) * each));
  const auto branches = static_cast<int64_t>(guidance_.branches());
  {
    const Tensor scaled = ops_.combine({{static_cast<float>(level.input_scale()), x}});
    for (int64_t b = 0; b < branches; b++) ops_.copy(inputs_.slice(0, b * batch_, (b + 1) * batch_), scaled);
  }
  std::vector<View> reads = prompt_.views();
  reads.insert(reads.end(), {inputs_, times_});
  ops_.stage(fmt::format("unet {} {} tokens", inputs_.shape().str(), tokens_), reads, outputs_,
             [&] { return unet_.predict(ops_, inputs_, times_, prompt_); });
  const View outputs = outputs_;
  if (observer_ && !ops_.rehearsing()) observer_(outputs);

  const auto [cx, co] = predicted_clean(level, prediction_);
  const auto f = [](double v) { return static_cast<float>(v); };
  if (branches == 1) return ops_.combine({{f(cx), x}, {f(co), outputs}});
  if (guidance_.rescale > 0) {
    const Tensor guided = rescaled(outputs);
    return ops_.combine({{f(cx), x}, {f(co), guided}});
  }
  const View negative = outputs.slice(0, 0, batch_), positive = outputs.slice(0, batch_, 2 * batch_);
  return ops_.combine({{f(cx), x}, {f(co * (1 - guidance_.scale)), negative}, {f(co * guidance_.scale), positive}});
}

// The guided output, brought near the deviation of the positive branch. Its factor depends on the values of each picture,
// so it is found on the host.
Tensor Predictor::rescaled(View outputs) const {
  const std::vector<float> values = ops_.download(outputs);
  const size_t size = values.size() / 2, one = size / static_cast<size_t>(batch_);
  std::vector<float> guided(size);
  for (size_t i = 0; i < size; i++)
    guided[i] = static_cast<float>(values[i] + guidance_.scale * (static_cast<double>(values[size + i]) - values[i]));
  for (size_t picture = 0; picture < size; picture += one) {
    const std::span mine = std::span(guided).subspan(picture, one);
    const double spread = deviation(mine);
    const double target = deviation(std::span(values).subspan(size + picture, one));
    if (spread == 0) continue;
    const double factor = guidance_.rescale * target / spread + (1 - guidance_.rescale);
    for (float& v : mine) v = static_cast<float>(v * factor);
  }
  return ops_.upload(DType::f32, outputs.shape.with(0, batch_), std::span<const float>(guided));
}

}  // namespace cudream
