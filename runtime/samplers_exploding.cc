// Samplers that walk sigmas, x = x0 + sigma * noise: Euler, Heun, LMS, DPM2, DPM++ 2S and DPM++ SDE, plain and ancestral.
// "Elucidating the Design Space of Diffusion-Based Generative Models", Karras et al. 2022, is their common ground.
#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include "runtime/sampler_run.h"

namespace cudream {
namespace {

// A straight step from x at `from` towards `clean`, as far as `sigma` of noise; then `up` of fresh noise on top.
Tensor towards(const SamplerRun& run, View x, View clean, const Level& from, double sigma, double up = 0) {
  const double keep = sigma / from.sigma;
  return run.mix({{keep, x}, {1 - keep, clean}}, up);
}

// The integral from a to b of the Lagrange basis polynomial that is 1 at nodes[j] and 0 at the others. Gauss-Legendre
// quadrature with two points is exact up to the third degree.
double lagrange_integral(std::span<const double> nodes, size_t j, double a, double b) {
  const auto basis = [&](double at) {
    double product = 1;
    for (size_t k = 0; k < nodes.size(); k++) {
      if (k != j) product *= (at - nodes[k]) / (nodes[j] - nodes[k]);
    }
    return product;
  };
  const double middle = (a + b) / 2, half = (b - a) / 2, offset = half / std::sqrt(3.0);
  return half * (basis(middle - offset) + basis(middle + offset));
}

}  // namespace

// Karras et al. 2022, algorithm 1 without the second-order correction; with eta, the ancestral step of Ho et al. 2020.
Tensor sample_euler(SamplerRun& run, Tensor x) {
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    const auto [down, up] = ancestral_step(from.sigma, to.sigma, run.config().eta);
    x = towards(run, x, clean, from, down, up);
    run.tell(from, to, x, clean);
  }
  return x;
}

// Karras et al. 2022, algorithm 1: the slope is averaged with that at the step's end.
Tensor sample_heun(SamplerRun& run, Tensor x) {
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    Tensor guess = towards(run, x, clean, from, to.sigma);
    run.tell(from, to, guess, clean);
    if (to.sigma > 0) {
      const Tensor after = run.clean(guess, to);
      const double half = (to.sigma - from.sigma) / 2;  // of each slope (x - clean) / sigma
      guess =
          run.mix({{1 + half / from.sigma, x}, {-half / from.sigma, clean}, {half / to.sigma, guess}, {-half / to.sigma, after}});
      run.tell(to, to, guess, after);
    }
    x = std::move(guess);
  }
  return x;
}

// Linear multistep (Adams-Bashforth over uneven sigmas), of order four at most.
Tensor sample_lms(SamplerRun& run, Tensor x) {
  std::deque<Tensor> slopes;  // newest first, each (x - clean) / sigma
  std::deque<double> sigmas;
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    slopes.push_front(run.noise_in(x, clean, from));
    sigmas.push_front(from.sigma);
    if (slopes.size() > static_cast<size_t>(run.config().order)) {
      slopes.pop_back();
      sigmas.pop_back();
    }
    const std::vector<double> nodes(sigmas.begin(), sigmas.end());
    std::vector<SamplerRun::Share> shares{{1, x}};
    for (size_t j = 0; j < nodes.size(); j++) shares.push_back({lagrange_integral(nodes, j, from.sigma, to.sigma), slopes[j]});
    x = run.mix(shares);
    run.tell(from, to, x, clean);
  }
  return x;
}

// "DPM-Solver", Lu et al. 2022, algorithm 1, in sigmas: the slope is taken in the middle of log sigma.
Tensor sample_dpm2(SamplerRun& run, Tensor x) {
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    const bool twice = to.sigma > 0;
    Tensor middle = towards(run, x, clean, from, twice ? mid.sigma : 0);
    run.tell(from, twice ? mid : to, middle, clean);
    if (twice) {
      const Tensor slope_clean = run.clean(middle, mid);
      const auto [down, up] = ancestral_step(from.sigma, to.sigma, run.config().eta);
      const double along = (down - from.sigma) / mid.sigma;
      middle = run.mix({{1, x}, {along, middle}, {-along, slope_clean}}, up);
      run.tell(mid, to, middle, slope_clean);
    }
    x = std::move(middle);
  }
  return x;
}

// "DPM-Solver++", Lu et al. 2022, algorithm 1 (2S): the estimate from the middle serves the whole step. In the stochastic
// form (DPM++ SDE) the way to the middle is an ancestral step of its own.
Tensor sample_dpmpp_2s(SamplerRun& run, Tensor x) {
  const double eta = run.config().eta;
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    const bool twice = to.sigma > 0;
    AncestralStep half{twice ? mid.sigma : 0, 0};
    if (twice && run.config().sampler == Sampler::dpmpp_sde) half = ancestral_step(from.sigma, mid.sigma, eta);
    Tensor moved = towards(run, x, clean, from, half.down, half.up);
    run.tell(from, twice ? mid : to, moved, clean);
    if (twice) {
      const Tensor better = run.clean(moved, mid);
      const auto [down, up] = ancestral_step(from.sigma, to.sigma, eta);
      moved = towards(run, x, better, from, down, up);
      run.tell(mid, to, moved, better);
    }
    x = std::move(moved);
  }
  return x;
}

}  // namespace cudream
