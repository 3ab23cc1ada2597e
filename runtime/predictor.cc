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

}  // namespace

Guidance text_guidance(double scale, double rescale, bool embedded, std::span<const double> weights) {
  if (embedded && weights.size() > 1)
    throw fail(Code::unsupported, "prompts joined by AND need classifier-free guidance, and this model has its guidance within");
  if (weights.size() > kMostPrompts)
    throw fail(Code::usage, "{} prompts are joined by AND; at most {} can be", weights.size(), kMostPrompts);
  if (embedded || (scale <= 1 && weights.size() == 1)) return {.branches = {{}}, .told = scale};
  scale = std::max(scale, 1.0);
  Guidance guidance{.branches = {{1, 0}}, .prompt = 1, .negative = 0, .rescale = rescale};
  for (const double weight : weights) {
    guidance.branches.front().weight -= scale * weight;
    guidance.branches.push_back({scale * weight, guidance.branches.size()});
  }
  return guidance;
}

Guidance edit_guidance(double scale, double image_scale) {
  if (scale <= 1) return {.branches = {{}}};
  return {.branches = {{scale, 0}, {image_scale - scale, 1}, {1 - image_scale, 1, false}}, .negative = 1};
}

// Of values a text, those of the first branch for all pictures, then those of the second.
template <typename T>
std::vector<T> Predictor::branch_rows(std::span<const T> of_texts, size_t texts) const {
  const size_t width = of_texts.size() / texts, each = texts / guidance_.size();
  std::vector<T> values;
  for (const Branch& branch : branches())
    for (size_t i = 0; i < guidance_.size(); i++) {
      const std::span<const T> row = of_texts.subspan((i * each + branch.text) * width, width);
      values.insert(values.end(), row.begin(), row.end());
    }
  return values;
}

Predictor::Predictor(Ops& o, const UNet& unet, std::span<const ControlInput> controls, std::span<const TextStates> prompts,
                     std::span<const float> sizes, const Shape& latent, View extra, std::vector<Guidance> guidance,
                     Prediction prediction, std::span<const float> timesteps)
    : ops_(o), unet_(unet), batch_(latent[0]), timesteps_(timesteps), guidance_(std::move(guidance)), prediction_(prediction) {
  const int64_t rows = static_cast<int64_t>(branches().size()) * batch_;
  inputs_ = o.make(o.compute(), latent.with(0, rows).with(3, unet.spec().in_channels));
  outputs_ = o.make(DType::f32, inputs_.shape().with(3, unet.spec().out_channels));
  for (const ControlInput& c : controls) {
    controls_.push_back({.control = c.control, .seen = o.make(o.compute(), c.seen.shape.with(0, rows)), .times = {}});
    for (int64_t row = 0; row < rows; row++) o.copy(controls_.back().seen.slice(0, row, row + 1), c.seen);
  }
  for (const TextStates& states : prompts) prompts_.push_back(read(states, sizes));
  use_prompt(0);
  const auto times_of = [&](const Read& r) { return o.make(o.compute(), r.all_times.shape().with(0, r.state.sizes ? rows : 1)); };
  times_ = times_of(prompt_->unet);
  for (size_t i = 0; i < controls_.size(); i++) controls_[i].times = times_of(prompt_->controls[i]);
  if (extra) show_extra(extra);
}

void Predictor::use_controls(size_t step, size_t steps) {
  for (Guide& guide : controls_) guide.acts = guide.control.window.holds(step, steps);
}

Predictor::Prompt Predictor::read(const TextStates& states, std::span<const float> sizes) const {
  const size_t texts = states.key_lengths.size();
  const int64_t rows = static_cast<int64_t>(branches().size()) * batch_;
  const auto upload = [&](const Shape& shape, std::span<const float> values) {
    const std::vector<float> repeated = branch_rows(values, texts);
    return ops_.upload(DType::f32, shape, std::span<const float>(repeated));
  };
  const Tensor exact = upload({rows, states.tokens, states.width}, states.values);
  const Tensor context = ops_.cast(exact, ops_.compute());
  const std::vector<int32_t> lengths = branch_rows(std::span(states.key_lengths), texts);
  Conditions conditions{.context = context, .key_lengths = lengths};
  Tensor pooled, numbers, scale;
  if (const int64_t width = unet_.spec().guidance_embedding; width > 0) {
    const std::vector<float> wave = guidance_wave(static_cast<float>(guidance_.front().told), width);
    scale = ops_.upload(DType::f32, {1, width}, std::span<const float>(wave));
    conditions.guidance = scale;
  }
  if (unet_.spec().pooled_embedding > 0) {
    pooled = upload({rows, states.pooled_width}, states.pooled);
    numbers = upload({static_cast<int64_t>(sizes.size() / texts) * rows}, sizes);
    conditions.pooled = pooled;
    conditions.sizes = numbers;
  }
  const auto by = [&](const auto& network) {
    Read result{.state = network.read(ops_, conditions), .all_times = {}};
    // Where rows are told different sizes, each has its own embedding of a timestep.
    std::vector<float> repeated;
    for (const float t : timesteps_) repeated.insert(repeated.end(), static_cast<size_t>(result.state.sizes ? rows : 1), t);
    const Tensor t = ops_.upload(DType::f32, {static_cast<int64_t>(repeated.size())}, std::span<const float>(repeated));
    result.all_times = network.embed(ops_, t, result.state);
    return result;
  };
  Prompt prompt{.tokens = states.tokens, .unet = by(unet_), .controls = {}};
  for (const Guide& guide : controls_) prompt.controls.push_back(by(*guide.control.net));
  return prompt;
}

// The same at every step, so it is written once: zeros for a branch that does not see it.
void Predictor::show_extra(View extra) {
  const Tensor nothing = ops_.combine({{0.f, extra}});
  const View places = inputs_.slice(3, inputs_.shape()[3] - extra.shape[3], inputs_.shape()[3]);
  for (size_t b = 0; b < branches().size(); b++) {
    const auto row = static_cast<int64_t>(b) * batch_;
    ops_.copy(places.slice(0, row, row + batch_), branches()[b].sees_extra ? extra : nothing.view());
  }
}

void Predictor::choose_time(const Level& level) const {
  const auto at = std::ranges::lower_bound(timesteps_, static_cast<float>(level.t));
  invariant(at != timesteps_.end() && *at == static_cast<float>(level.t), "timestep {} was not foreseen", level.t);
  const auto which = at - timesteps_.begin();
  const auto take = [&](const Tensor& times, const Read& from) {
    const int64_t each = times.shape()[0];
    ops_.copy(times, from.all_times.slice(0, which * each, (which + 1) * each));
  };
  take(times_, prompt_->unet);
  for (size_t i = 0; i < controls_.size(); i++)
    if (controls_[i].acts) take(controls_[i].times, prompt_->controls[i]);
}

// A recording holds which ControlNets act, and how strongly.
std::string Predictor::stage_key() const {
  std::string key = fmt::format("unet {} {} tokens", inputs_.shape().str(), prompt_->tokens);
  for (size_t i = 0; i < controls_.size(); i++)
    if (controls_[i].acts) key += fmt::format(", control {} x {}", i + 1, controls_[i].control.window.strength);
  return key;
}

Tensor Predictor::predict() const {
  std::vector<Tensor> residuals;
  for (size_t i = 0; i < controls_.size(); i++) {
    const Guide& guide = controls_[i];
    if (!guide.acts) continue;
    // It sees the latent alone, without the extra channels.
    const Tensor latents = ops_.cast(inputs_.slice(3, 0, guide.control.net->spec().encoder.in_channels), ops_.compute());
    residuals = guide.control.net->predict(ops_, latents, guide.seen, guide.times, prompt_->controls[i].state,
                                           static_cast<float>(guide.control.window.strength), std::move(residuals));
  }
  return unet_.predict(ops_, inputs_, times_, prompt_->unet.state, std::move(residuals));
}

Tensor Predictor::operator()(View x, const Level& level) const {
  choose_time(level);
  {
    const Tensor scaled = ops_.combine({{static_cast<float>(level.input_scale()), x}});
    const View latents = inputs_.slice(3, 0, x.shape[3]);
    for (int64_t row = 0; row < inputs_.shape()[0]; row += batch_) ops_.copy(latents.slice(0, row, row + batch_), scaled);
  }
  std::vector<View> reads = prompt_->unet.state.views();
  reads.insert(reads.end(), {inputs_, times_});
  for (size_t i = 0; i < controls_.size(); i++) {
    if (!controls_[i].acts) continue;
    const std::vector<View> more = prompt_->controls[i].state.views();
    reads.insert(reads.end(), more.begin(), more.end());
    reads.insert(reads.end(), {controls_[i].seen, controls_[i].times});
  }
  ops_.stage(stage_key(), reads, outputs_, [&] { return predict(); });
  const View outputs = outputs_;
  if (observer_ && !ops_.rehearsing()) observer_(outputs);

  const auto [of_x, of_outputs] = predicted_clean(level, prediction_);
  return clean(x, outputs, of_x, of_outputs);
}

// of_x * x + of_outputs * (the guided sum of the branches' outputs). Pictures of one guidance are summed at once.
Tensor Predictor::clean(View x, View outputs, double of_x, double of_outputs) const {
  const auto f = [](double v) { return static_cast<float>(v); };
  if (guidance_.front().rescale > 0) {
    const Tensor guided = rescaled(outputs);
    return ops_.combine({{f(of_x), x}, {f(of_outputs), guided}});
  }
  const auto sum = [&](int64_t from, int64_t to) {
    std::vector<Term> terms{{f(of_x), x.slice(0, from, to)}};
    for (size_t b = 0; b < branches().size(); b++) {
      const int64_t row = static_cast<int64_t>(b) * batch_;
      const double weight = guidance_[static_cast<size_t>(from)].branches[b].weight;
      terms.push_back({f(of_outputs * weight), outputs.slice(0, row + from, row + to)});
    }
    return ops_.combine(terms);
  };
  if (std::ranges::all_of(guidance_, [&](const Guidance& g) { return g == guidance_.front(); })) return sum(0, batch_);
  Tensor all = ops_.make(DType::f32, x.shape);
  for (int64_t i = 0; i < batch_; i++) {
    const Tensor one = sum(i, i + 1);
    ops_.copy(all.slice(0, i, i + 1), one);
  }
  return all;
}

// The guided output, brought near the deviation of the prompt's branch. Its factor depends on the values of each picture,
// so it is found on the host.
Tensor Predictor::rescaled(View outputs) const {
  const std::vector<float> values = ops_.download(outputs);
  const size_t size = values.size() / branches().size(), one = size / guidance_.size();
  std::vector<float> guided(size);
  for (size_t picture = 0; picture < guidance_.size(); picture++) {
    const Guidance& guidance = guidance_[picture];
    const std::span mine = std::span(guided).subspan(picture * one, one);
    for (size_t i = 0; i < one; i++) {
      double sum = 0;
      for (size_t b = 0; b < branches().size(); b++) sum += guidance.branches[b].weight * values[b * size + picture * one + i];
      mine[i] = static_cast<float>(sum);
    }
    const double spread = deviation(mine);
    const double target = deviation(std::span(values).subspan(guidance.prompt * size + picture * one, one));
    if (spread == 0) continue;
    const double factor = guidance.rescale * target / spread + (1 - guidance.rescale);
    for (float& v : mine) v = static_cast<float>(v * factor);
  }
  return ops_.upload(DType::f32, outputs.shape.with(0, batch_), std::span<const float>(guided));
}

}  // namespace cudream
