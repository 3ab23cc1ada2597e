// What a pass starts from: pictures as latents, masks at the size of latents, and the first noise.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/float_copy.h"
#include "runtime/painting.h"

namespace cudream {
namespace {

constexpr float kHalf = 0.5f;  // a pixel whose mask is above is hidden from a network made for inpainting

}  // namespace

// A latent pixel is made anew as far as any pixel under it is.
std::vector<float> Painting::shrunk_mask() const {
  const int64_t factor = nets_.spec.vae->factor(), width = latent_[2] * factor, reach = checks_.sparse_mask ? 1 : factor;
  std::vector<float> mask;
  for (int64_t y = 0; y < latent_[1]; y++)
    for (int64_t x = 0; x < latent_[2]; x++) {
      float most = 0;
      for (int64_t dy = 0; dy < reach; dy++)
        for (int64_t dx = 0; dx < reach; dx++)
          most = std::max(most, pass_.mask[static_cast<size_t>((y * factor + dy) * width + x * factor + dx)]);
      mask.push_back(most);
    }
  return mask;
}

std::vector<float> Painting::moments(std::span<const float> pictures) {
  tell("encode");
  if (real()) nets_.weights.bring("vae");
  const Shape picture{1, job_.height, job_.width, 3};
  const Tensor encoded = ops_.make(DType::f32, latent_.with(0, 1).with(3, nets_.spec.vae->encoded_channels()));
  std::vector<float> all;
  const auto size = static_cast<size_t>(picture.size());
  for (size_t from = 0; from < pictures.size(); from += size) {
    const Tensor image = ops_.upload(DType::f32, picture, pictures.subspan(from, size));
    const View input = image;
    ops_.stage(fmt::format("encode {}", picture.str()), {&input, 1}, encoded,
               [&] { return nets_.autoencoder.encode(ops_, image); });
    std::vector<float> one = ops_.download(encoded);
    if (real()) {
      std::vector<size_t> whose{from / size};
      if (pictures.size() == size) {  // it serves the whole batch
        whose.resize(batch());
        std::iota(whose.begin(), whose.end(), size_t{0});
      }
      mend(one, "encode", whose, [&](FloatCopy& copy) { return copy.encode(pictures.subspan(from, size), picture); });
    }
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

// Mean + deviation * noise, then the latents' own scale. One picture serves the whole batch, each with noise of its own. A tiny
// autoencoder says nothing of a deviation, and nothing is drawn.
Tensor Painting::sampled_latent(std::span<const float> pictures) {
  const VaeSpec& vae = *nets_.spec.vae;
  const std::vector<float> m = moments(pictures), noise = vae.tiny ? std::vector<float>() : draw();
  std::vector<float> latent(static_cast<size_t>(latent_.size()));
  const auto c = static_cast<size_t>(latent_[3]), each = static_cast<size_t>(vae.encoded_channels());
  const size_t pixels = m.size() / each;
  for (size_t i = 0; i < latent.size(); i++) {
    const size_t at = i / c % pixels * each + i % c;
    const float off = vae.tiny ? 0 : std::exp(0.5f * std::clamp(m[at + c], -30.f, 20.f)) * noise[i];
    latent[i] = (m[at] + off) * vae.scaling_factor;
  }
  return ops_.upload(DType::f32, latent_, std::span<const float>(latent));
}

Tensor Painting::mean_latent() {
  const std::vector<float> m = moments(pass_.pictures);
  std::vector<float> latent(static_cast<size_t>(latent_.size()));
  const auto c = static_cast<size_t>(latent_[3]), each = static_cast<size_t>(nets_.spec.vae->encoded_channels());
  for (size_t i = 0; i < latent.size(); i++) latent[i] = m[i / c % (m.size() / each) * each + i % c];
  return ops_.upload(DType::f32, latent_, std::span<const float>(latent));
}

// "High-Resolution Image Synthesis with Latent Diffusion Models", Rombach et al. 2022, section 4.5: the mask, 0 or 1, and the
// latent of the picture in which what is hidden is grey.
Tensor Painting::masked_extra() {
  std::vector<float> seen = pass_.pictures;
  for (size_t i = 0; i < seen.size(); i++)
    if (pass_.mask[i / 3 % pass_.mask.size()] >= kHalf) seen[i] = 0;
  const Tensor latent = sampled_latent(seen);
  std::vector<float> hard(static_cast<size_t>(latent_.size() / latent_[3]));
  for (size_t i = 0; i < hard.size(); i++) hard[i] = latent_mask_[i % latent_mask_.size()] >= kHalf ? 1 : 0;
  const Tensor mask = ops_.upload(DType::f32, latent_.with(3, 1), std::span<const float>(hard));
  return ops_.concat(mask, latent);
}

// A rehearsal may come before the latents.
std::vector<float> Painting::handed_over() const {
  return real() ? pass_.latents : std::vector<float>(static_cast<size_t>(latent_.size()));
}

// Draws in the reference's order: a sample of the picture, the first noise, a sample of the masked picture.
Tensor Painting::start(Given& given) {
  if (takes_over()) return ops_.upload(DType::f32, latent_, std::span<const float>(handed_over()));
  const bool masked = !pass_.mask.empty(), sees_mask = nets_.spec.task == Task::inpaint;
  Tensor picture;
  if (redraws_picture() || (masked && !sees_mask))
    picture = pass_.latents.empty() ? sampled_latent(pass_.pictures)
                                    : ops_.upload(DType::f32, latent_, std::span<const float>(pass_.latents));
  const std::vector<float> noise = first_noise();
  given.noise = ops_.upload(DType::f32, latent_, std::span<const float>(noise));
  if (masked) {
    std::vector<float> values(noise.size());
    for (size_t i = 0; i < values.size(); i++)
      values[i] = latent_mask_[i / static_cast<size_t>(latent_[3]) % latent_mask_.size()];
    given.mask = ops_.upload(DType::f32, latent_, std::span<const float>(values));
  }
  if (masked && sees_mask) given.extra = masked_extra();
  if (job_.edit) given.extra = mean_latent();
  if (masked && !sees_mask) {
    // The reference samples the masked picture here, though this network does not look at it.
    if (!nets_.spec.vae->tiny) draw();
    given.known = ops_.combine({{1.f, picture}});
  }
  if (!redraws_picture()) return ops_.combine({{static_cast<float>(schedule_.initial_scale), given.noise}});
  if (masked && job_.mask_fill == "noise") {
    const std::vector<float> fresh = draw();
    const Tensor unlike = ops_.upload(DType::f32, latent_, std::span<const float>(fresh));
    picture = ops_.lerp(picture, unlike, given.mask);
  }
  const Level& level = schedule_.first();
  return ops_.combine({{static_cast<float>(level.alpha), picture}, {static_cast<float>(level.sigma), given.noise}});
}

// After every call: the kept part is the known picture, noised to the level that x is at with the noise of the start, and clean
// in the end. The sampler's own memory is left alone.
void Painting::keep_known(const Given& given, const StepInfo& step) {
  const bool last = step.index + 1 == step.count;
  const Tensor kept = last ? ops_.combine({{1.f, given.known}})
                           : ops_.combine({{static_cast<float>(step.next.alpha), given.known},
                                           {static_cast<float>(step.next.sigma), given.noise}});
  const Tensor joined = ops_.lerp(kept, step.x, given.mask);
  ops_.copy(step.x, joined);
}

}  // namespace cudream
