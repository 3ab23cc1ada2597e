// The noise levels a network was trained on, and the way between sigmas and timesteps.
#pragma once

#include <vector>

#include "core/spec.h"

namespace cudream {

// alpha_bar of every training step (the running product of 1 - beta), in the single precision the networks were trained
// with. Throws Error(unsupported) for a beta schedule of another name than linear, scaled_linear or squaredcos_cap_v2.
std::vector<float> alphas_cumprod(const NoiseSpec& noise);

// sigma = sqrt((1 - alpha_bar) / alpha_bar), rising with the timestep. With zero terminal SNR the last alpha_bar is 2^-24
// here, so that the last sigma is 4096 and not infinite.
class NoiseTable {
 public:
  explicit NoiseTable(const NoiseSpec& noise);
  int steps() const { return static_cast<int>(sigmas_.size()); }
  double sigma_min() const { return sigmas_.front(); }
  double sigma_max() const { return sigmas_.back(); }
  double sigma_linear(double t) const;      // interpolated in sigma
  double sigma_log_linear(double t) const;  // interpolated in log sigma
  double t_of(double sigma) const;          // the inverse of sigma_log_linear, within the table

 private:
  std::vector<double> sigmas_, log_sigmas_;
};

}  // namespace cudream
