// What gives NaN or infinity, as half floats do beyond 65504, is done again in f32 by itself: one stage of one picture, so that
// its bytes do not depend on the batch. It is looked for on the host, in values that come there anyway, and in the clean
// estimate of every step, the smallest thing that a UNet's overflow reaches.
#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "runtime/float_copy.h"
#include "runtime/painting.h"

namespace cudream {
namespace {

bool finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return std::isfinite(v); });
}

Error broken(const std::string& stage) {
  return fail(Code::bad_file,
              "{}: the model gives NaN or infinity, in f32 too: its weights, or what is added to them, are damaged", stage);
}

bool finite(const TextStates& states, size_t text) {
  const auto width = static_cast<size_t>(states.pooled_width);
  return finite(states.branch(text)) && finite(std::span(states.pooled).subspan(text * width, width));
}

}  // namespace

// Tells that a stage is done again, once for a picture, and has the networks for it.
FloatCopy& Painting::in_float(const std::string& stage, std::span<const size_t> pictures) {
  const DType type = ops_.compute();
  if (type == DType::f32) throw broken(stage);
  if (nets_.in_float == nullptr)
    throw fail(Code::unsupported, "{}: random weights give NaN or infinity in {}", stage, name_of(type));
  for (const size_t i : pictures) {
    if (!redone_.emplace(i, stage).second) continue;
    hooks_.on_notice(fmt::format("{}: values{} overflow in {}; done again in f32", stage,
                                 batch() > 1 ? fmt::format(" of picture {}", i + 1) : "", name_of(type)));
    if (hooks_.on_redone) hooks_.on_redone(i, stage);
  }
  return *nets_.in_float;
}

void Painting::mend(std::span<float> values, const std::string& stage, std::span<const size_t> pictures,
                    const std::function<std::vector<float>(FloatCopy&)>& again) {
  if (finite(values)) return;
  std::ranges::copy(again(in_float(stage, pictures)), values.begin());
  if (!finite(values)) throw broken(stage);
}

// The texts that broke, all at once. What is cached of them stays broken, so that every picture that reads them later says so
// too.
void Painting::mend_text(TextStates& states, const PromptChunks& prompt) {
  const std::vector<int> usual = layers_left_out();
  PromptChunks again;
  std::vector<int> left_out;
  std::vector<size_t> texts, pictures;
  for (size_t text = 0; text < prompt.branches.size(); text++) {
    if (finite(states, text)) continue;
    again.branches.push_back(prompt.branches[text]);
    left_out.push_back(usual[text]);
    texts.push_back(text);
    pictures.push_back(text / texts_each());
  }
  if (texts.empty()) return;
  const TextStates mended = in_float("text", pictures).text(again, left_out, nets_.new_words);
  const auto row = static_cast<std::ptrdiff_t>(states.tokens * states.width);
  for (size_t i = 0; i < texts.size(); i++) {
    if (!finite(mended, i)) throw broken("text");
    const auto at = static_cast<std::ptrdiff_t>(texts[i]);
    std::ranges::copy(mended.branch(i), states.values.begin() + at * row);
    std::copy_n(mended.pooled.begin() + static_cast<std::ptrdiff_t>(i) * states.pooled_width, states.pooled_width,
                states.pooled.begin() + at * states.pooled_width);
  }
}

void Painting::mend_step(const Tensor& clean, View latent, View extra, const FloatStep& step) {
  const std::vector<float> all = ops_.download(clean);
  const Shape one = latent_.with(0, 1);
  for (size_t i = 0; i < batch(); i++) {
    // Everything is in the order of the pictures, and each has an equal share.
    const auto own = [&](const auto& of_all) {
      const size_t share = of_all.size() / batch();
      const auto from = of_all.begin() + static_cast<std::ptrdiff_t>(i * share);
      return std::vector(from, from + static_cast<std::ptrdiff_t>(share));
    };
    std::vector<float> mine = own(all);
    if (finite(mine)) continue;
    const auto row = static_cast<int64_t>(i);
    const auto of_picture = [&](View v) { return v ? ops_.download(v.slice(0, row, row + 1)) : std::vector<float>(); };
    const std::vector<float> x = of_picture(latent), more = of_picture(extra), sizes = own(step.sizes);
    const TextStates states{.tokens = step.states.tokens,
                            .width = step.states.width,
                            .pooled_width = step.states.pooled_width,
                            .values = own(step.states.values),
                            .pooled = own(step.states.pooled),
                            .key_lengths = own(step.states.key_lengths)};
    const FloatStep alone{
        .states = states, .sizes = sizes, .controls = step.controls, .call = step.call, .calls = step.calls, .level = step.level};
    mend(mine, "unet", {&i, 1},
         [&](FloatCopy& copy) { return copy.predict(alone, one, x, more, guidance_[i], config_.noise.prediction); });
    ops_.write(clean.slice(0, row, row + 1), mine);
  }
}

}  // namespace cudream
