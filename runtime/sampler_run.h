// What every sampler needs while it runs: the estimate of the clean latent, sums of latents, and the word to the listener.
#pragma once

#include <initializer_list>
#include <span>
#include <vector>

#include "runtime/samplers.h"

namespace cudream {

class SamplerRun {
 public:
  SamplerRun(const SamplerContext& context, const ScheduleConfig& config, const Schedule& schedule);

  const ScheduleConfig& config() const { return config_; }
  const std::vector<Step>& steps() const { return schedule_.steps; }
  size_t begin() const { return schedule_.begin; }

  // Calls the network. `clean` keeps the estimate within the limits that the configuration sets (clipping, dynamic
  // thresholding); `predict` leaves it as it is.
  Tensor predict(View x, const Level& level) const { return context_.denoise(x, level); }
  Tensor clean(View x, const Level& level) const { return within_limits(predict(x, level)); }
  Tensor within_limits(Tensor clean) const;

  // A sum of latents plus `fresh` times unit noise, which is drawn only when there is to be some.
  struct Share {
    double scale = 0;
    View x;
  };
  Tensor mix(std::span<const Share> shares, double fresh = 0) const;
  Tensor mix(std::initializer_list<Share> shares, double fresh = 0) const {
    return mix(std::span(shares.begin(), shares.size()), fresh);
  }
  // The noise in x if `clean` is what lies under it: (x - alpha * clean) / sigma.
  Tensor noise_in(View x, View clean, const Level& level) const;

  // One call is over: it was made at `level`, and x is now at `next`.
  void tell(const Level& level, const Level& next, View x, View clean);

 private:
  const SamplerContext& context_;
  const ScheduleConfig& config_;
  const Schedule& schedule_;
  size_t calls_ = 0, count_ = 0;
};

// The samplers, each from a latent at the first level to one at the last.
Tensor sample_ddim(SamplerRun& run, Tensor x);
Tensor sample_ddpm(SamplerRun& run, Tensor x);
Tensor sample_pndm(SamplerRun& run, Tensor x);
Tensor sample_lcm(SamplerRun& run, Tensor x);
Tensor sample_tcd(SamplerRun& run, Tensor x);
Tensor sample_euler(SamplerRun& run, Tensor x);
Tensor sample_heun(SamplerRun& run, Tensor x);
Tensor sample_lms(SamplerRun& run, Tensor x);
Tensor sample_dpm2(SamplerRun& run, Tensor x);
Tensor sample_dpmpp_2s(SamplerRun& run, Tensor x);    // and DPM++ SDE
Tensor sample_multistep(SamplerRun& run, Tensor x);   // DPM-Solver, DPM-Solver++, its SDE, and DEIS
Tensor sample_singlestep(SamplerRun& run, Tensor x);  // DPM-Solver and DPM-Solver++
Tensor sample_unipc(SamplerRun& run, Tensor x);

}  // namespace cudream
