// The predictor: from a noisy latent to an estimate of the clean one, with classifier-free guidance.
#pragma once

#include <functional>
#include <vector>

#include "nets/unet.h"
#include "runtime/conditioning.h"
#include "runtime/samplers.h"

namespace cudream {

// Guidance over the two branches of a batch: negative + scale * (positive - negative) ("Classifier-Free Diffusion
// Guidance", Ho and Salimans 2022, equation 6, with w = scale - 1). With one branch the positive alone.
struct Guidance {
  double scale = 1;
  double rescale = 0;     // "Common Diffusion Noise Schedules and Sample Steps Are Flawed", Lin et al. 2023, section 3.4
  bool embedded = false;  // the network is told the scale and does all by itself (LCM)
  size_t branches() const { return scale > 1 && !embedded ? 2 : 1; }
};

class Predictor {
 public:
  // Reads the prompt and embeds the timesteps, once. `states` has one row a branch, negative first; the pictures of `latent`
  // [batch,h,w,C] share them. `sizes`: the numbers that SDXL reads beside the pooled text, [branches, count]. `timesteps`, in
  // rising order, are those of all levels to come.
  Predictor(Ops&, const UNet&, const TextStates& states, std::span<const float> sizes, const Shape& latent, Guidance, Prediction,
            std::span<const float> timesteps);

  // x f32 [batch,h,w,C] at `level` -> the clean estimate, f32, of the same shape.
  Tensor operator()(View x, const Level& level) const;
  // Called with the network's raw outputs, f32 [branches*batch,h,w,C].
  void set_observer(std::function<void(View outputs)> observer) { observer_ = std::move(observer); }

 private:
  Tensor rescaled(View outputs) const;

  Ops& ops_;
  const UNet& unet_;
  PromptState prompt_;
  int64_t batch_, tokens_;
  std::span<const float> timesteps_;
  Tensor all_times_;  // for each timestep a row, or one for each row of the inputs
  // What the recorded step reads and writes, at one address for all steps. Inputs and times are in the compute type.
  Tensor inputs_, times_, outputs_;
  Guidance guidance_;
  Prediction prediction_;
  std::function<void(View)> observer_;
};

}  // namespace cudream
