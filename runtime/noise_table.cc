// Training noise levels; see noise_table.h.
#include "runtime/noise_table.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace cudream {
namespace {

// `count` numbers from start to end, each half computed from its own end.
std::vector<float> linspace(float start, float end, int count) {
  const float step = (end - start) / static_cast<float>(count - 1);
  std::vector<float> out(static_cast<size_t>(count));
  for (int i = 0; i < count; i++) {
    out[static_cast<size_t>(i)] =
        i < count / 2 ? start + step * static_cast<float>(i) : end - step * static_cast<float>(count - 1 - i);
  }
  return out;
}

// Sums in double, keeps singles.
std::vector<float> running_product(const std::vector<float>& betas) {
  std::vector<float> out = betas;
  double product = 1;
  for (float& value : out) value = static_cast<float>(product *= 1 - value);
  return out;
}

std::vector<float> cosine_betas(int steps) {
  // "Improved Denoising Diffusion Probabilistic Models", Nichol and Dhariwal 2021, equation 17; betas are at most 0.999.
  const auto alpha_bar = [](double t) { return std::pow(std::cos((t + 0.008) / 1.008 * std::numbers::pi / 2), 2); };
  std::vector<float> betas;
  for (int i = 0; i < steps; i++) {
    const double beta = 1 - alpha_bar((i + 1.0) / steps) / alpha_bar(static_cast<double>(i) / steps);
    betas.push_back(static_cast<float>(std::min(beta, 0.999)));
  }
  return betas;
}

std::vector<float> training_betas(const NoiseSpec& noise) {
  if (noise.beta_schedule == "squaredcos_cap_v2") return cosine_betas(noise.train_steps);
  if (noise.beta_schedule == "linear") {
    return linspace(static_cast<float>(noise.beta_start), static_cast<float>(noise.beta_end), noise.train_steps);
  }
  if (noise.beta_schedule != "scaled_linear") {
    throw fail(Code::unsupported, "beta_schedule \"{}\": there are linear, scaled_linear and squaredcos_cap_v2",
               noise.beta_schedule);
  }
  const auto root = [](double beta) { return static_cast<float>(std::sqrt(beta)); };
  std::vector<float> betas = linspace(root(noise.beta_start), root(noise.beta_end), noise.train_steps);
  for (float& beta : betas) beta *= beta;
  return betas;
}

// Shifts and scales sqrt(alpha_bar) so that the last one is zero and the first stays ("Common Diffusion Noise Schedules and
// Sample Steps Are Flawed", Lin et al. 2023, algorithm 1).
std::vector<float> zero_terminal_snr(const std::vector<float>& betas) {
  std::vector<float> root = running_product(betas);
  for (float& value : root) value = std::sqrt(value);
  const float first = root.front(), last = root.back(), scale = first / (first - last);
  std::vector<float> out;
  float before = 1;
  for (const float value : root) {
    const float shifted = (value - last) * scale, alpha_bar = shifted * shifted;
    out.push_back(1 - alpha_bar / before);
    before = alpha_bar;
  }
  return out;
}

// t between two entries of a table.
double interpolate(const std::vector<double>& table, double t) {
  const double at = std::clamp(t, 0.0, static_cast<double>(table.size() - 1));
  const size_t low = std::min(static_cast<size_t>(at), table.size() - 2);
  return std::lerp(table[low], table[low + 1], at - static_cast<double>(low));
}

}  // namespace

std::vector<float> alphas_cumprod(const NoiseSpec& noise) {
  if (noise.train_steps < 2) throw fail(Code::unsupported, "num_train_timesteps {}: at least 2 are needed", noise.train_steps);
  std::vector<float> betas = training_betas(noise);
  for (const float beta : betas) {
    if (beta > 0 && beta < 1) continue;
    throw fail(Code::unsupported, "beta_start {} and beta_end {}: a beta of {} is not between 0 and 1", noise.beta_start,
               noise.beta_end, beta);
  }
  if (noise.zero_terminal_snr) betas = zero_terminal_snr(betas);
  return running_product(betas);
}

NoiseTable::NoiseTable(const NoiseSpec& noise) {
  std::vector<float> alpha_bars = alphas_cumprod(noise);
  if (noise.zero_terminal_snr) alpha_bars.back() = 0x1p-24f;
  for (const float alpha_bar : alpha_bars) {
    const float sigma = std::sqrt((1 - alpha_bar) / alpha_bar);
    sigmas_.push_back(static_cast<double>(sigma));
    log_sigmas_.push_back(static_cast<double>(std::log(sigma)));
  }
}

double NoiseTable::sigma_linear(double t) const {
  return interpolate(sigmas_, t);
}
double NoiseTable::sigma_log_linear(double t) const {
  return std::exp(interpolate(log_sigmas_, t));
}

double NoiseTable::t_of(double sigma) const {
  const double log_sigma = std::log(std::max(sigma, 1e-10));
  const auto above = std::upper_bound(log_sigmas_.begin() + 1, log_sigmas_.end() - 1, log_sigma);
  const double low = *(above - 1), share = std::clamp((log_sigma - low) / (*above - low), 0.0, 1.0);
  return static_cast<double>(above - 1 - log_sigmas_.begin()) + share;
}

}  // namespace cudream
