// From latents to pixels: several pictures at once where the memory of the steps has room for that.
#include <algorithm>

#include "runtime/float_copy.h"
#include "runtime/painting.h"
#include "runtime/pass_size.h"

namespace cudream {
namespace {

// What a stage takes in which `latent` [n,h,w,C] becomes `pictures` [n,H,W,3].
int64_t decoding_bytes(const Ops& like, const Autoencoder& autoencoder, const Shape& latent, const Shape& pictures) {
  Ops ops(like.device());
  ops.set_wrap(like.wrap());
  const Ops::Plan plan = ops.rehearse([&] {
    const Tensor scaled = ops.make(DType::f32, latent), made = ops.make(DType::f32, pictures);
    const View input = scaled;
    ops.stage("decode", {&input, 1}, made, [&] { return autoencoder.decode(ops, scaled); });
  });
  return plan.stage_bytes;
}

}  // namespace

// Of one picture the decoder may take more memory than all steps, and of all pictures of a pass it would take the most by far. So
// it decodes as many at once as fit where the other stages take place anyway, and at least one.
int64_t Painting::fitting_decodes() const {
  const int64_t room = ops_.rehearsed_stage_bytes();
  const auto fits = [&](size_t n) {
    const auto count = static_cast<int64_t>(n);
    return decoding_bytes(ops_, nets_.autoencoder, latent_.with(0, count), {count, job_.height, job_.width, 3}) <= room;
  };
  return static_cast<int64_t>(largest_fitting(batch(), fits));
}

void Painting::decode(View latent) {
  tell("decode");
  if (real()) nets_.weights.bring("vae");
  if (!real()) decodes_ = fitting_decodes();
  const Tensor pictures = ops_.make(DType::f32, {decodes_, job_.height, job_.width, 3});
  pixels_.clear();
  for (int64_t from = 0; from < latent_[0]; from += decodes_) {
    const int64_t to = std::min(from + decodes_, latent_[0]);
    const Tensor scaled = ops_.combine({{1 / nets_.spec.vae->scaling_factor, latent.slice(0, from, to)}});
    const View input = scaled, made = pictures.slice(0, 0, to - from);
    ops_.stage(fmt::format("decode {}", made.shape.str()), {&input, 1}, made,
               [&] { return nets_.autoencoder.decode(ops_, scaled); });
    std::vector<float> values = ops_.download(made);
    if (real()) keep_decoded(std::move(values), scaled, static_cast<size_t>(from));
  }
  if (real()) trace_decoded();
}

// Adds `values` of some pictures, decoded from `scaled`, to the pixels. `first`: the number of the first of them.
void Painting::keep_decoded(std::vector<float> values, View scaled, size_t first) {
  const auto count = static_cast<size_t>(scaled.shape[0]), size = values.size() / count;
  for (size_t i = 0; i < count; i++) {
    const View own = scaled.slice(0, static_cast<int64_t>(i), static_cast<int64_t>(i) + 1);
    const size_t whose = first + i;
    mend(std::span(values).subspan(i * size, size), "decode", {&whose, 1},
         [&](FloatCopy& copy) { return copy.decode(ops_.download(own), own.shape); });
  }
  if (pixels_.empty())
    pixels_ = std::move(values);
  else
    pixels_.insert(pixels_.end(), values.begin(), values.end());
}

}  // namespace cudream
