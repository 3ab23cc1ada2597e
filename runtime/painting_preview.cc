// What the picture is going to be, while it is made: the clean estimate of a step, decoded small.
#include <algorithm>
#include <cmath>

#include "runtime/painting.h"
#include "runtime/picture/convert.h"

namespace cudream {
namespace {

constexpr int64_t kMostSide = 32;  // of the latent that is decoded: 256 pixels, a small share of a step

// The mean of each `share` x `share` pixels of x [1,h,w,C]; those at the right and bottom edges may be of fewer.
std::vector<float> shrunk(std::span<const float> x, const Shape& from, int64_t share, const Shape& to) {
  std::vector<float> small;
  for (int64_t y = 0; y < to[1]; y++)
    for (int64_t column = 0; column < to[2]; column++)
      for (int64_t c = 0; c < to[3]; c++) {
        double sum = 0;
        int64_t count = 0;
        for (int64_t i = y * share; i < std::min((y + 1) * share, from[1]); i++)
          for (int64_t j = column * share; j < std::min((column + 1) * share, from[2]); j++, count++)
            sum += x[static_cast<size_t>((i * from[2] + j) * from[3] + c)];
        small.push_back(static_cast<float>(sum / static_cast<double>(count)));
      }
  return small;
}

}  // namespace

// Of the first picture of the pass, and not of the last step: the picture itself comes next. A decoder is convolutions and one
// attention, so a latent of means decodes to a smaller picture of the same thing.
void Painting::preview(const StepInfo& step) {
  const size_t done = step.index + 1;
  if (hooks_.preview_every == 0 || done % static_cast<size_t>(hooks_.preview_every) != 0 || done == step.count) return;
  const Shape whole = latent_.with(0, 1);
  const int64_t share = (std::max(whole[1], whole[2]) + kMostSide - 1) / kMostSide, factor = nets_.spec.vae->factor();
  const Shape small = whole.with(1, (whole[1] + share - 1) / share).with(2, (whole[2] + share - 1) / share);
  std::vector<float> values = shrunk(ops_.download(step.clean.slice(0, 0, 1)), whole, share, small);
  for (float& v : values) v /= nets_.spec.vae->scaling_factor;

  const bool own = nets_.previews == nullptr;
  if (real() && own) nets_.weights.bring("vae");
  const Tensor latent = ops_.upload(DType::f32, small, std::span<const float>(values));
  const View input = latent;
  const Tensor picture = ops_.make(DType::f32, {1, small[1] * factor, small[2] * factor, 3});
  ops_.stage(fmt::format("preview {}", small.str()), {&input, 1}, picture,
             [&] { return (own ? nets_.autoencoder : *nets_.previews).decode(ops_, latent); });
  values = ops_.download(picture);
  if (!real()) return;
  nets_.weights.bring("unet");
  if (std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) {
    hooks_.on_preview(to_image(values, static_cast<int>(small[2] * factor), static_cast<int>(small[1] * factor), Layout::hwc,
                               Range::minus_one_one));
  } else if (!std::exchange(no_preview_, true)) {
    const std::string_view decoder = own ? "autoencoder" : "tiny autoencoder";
    hooks_.on_notice(ops_.compute() == DType::f32
                         ? fmt::format("previews: the {} gives NaN or infinity, in f32 too, and such ones are not shown; its "
                                       "weights are damaged",
                                       decoder)
                         : fmt::format("previews: the {}'s values overflow in {}, and such ones are not shown; --precision bf16 "
                                       "or f32, or --vae with TAESD, shows them",
                                       decoder, name_of(ops_.compute())));
  }
}

}  // namespace cudream
