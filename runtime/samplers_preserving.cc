// Samplers that walk the training steps, in variance-preserving scaling: DDIM, DDPM, PNDM, LCM, TCD.
#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <iterator>
#include <utility>

#include "runtime/sampler_run.h"

namespace cudream {

// "Denoising Diffusion Implicit Models", Song et al. 2021, equations 12 and 16. The noise is that of the estimate as the
// network gave it, before clipping.
Tensor sample_ddim(SamplerRun& run, Tensor x) {
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    Tensor clean = run.predict(x, from);
    const Tensor noise = run.noise_in(x, clean, from);
    clean = run.within_limits(std::move(clean));
    const double ratio = from.alpha / to.alpha;
    const double fresh = run.config().eta * to.sigma / from.sigma * std::sqrt(std::max(0.0, 1 - ratio * ratio));
    const double kept = std::sqrt(std::max(0.0, to.sigma * to.sigma - fresh * fresh));
    x = run.mix({{to.alpha, clean}, {kept, noise}}, fresh);
    run.tell(from, to, x, clean);
  }
  return x;
}

// "Denoising Diffusion Probabilistic Models", Ho et al. 2020, equations 6 and 7, with the variance of section 3.2 (beta, or
// the posterior's).
Tensor sample_ddpm(SamplerRun& run, Tensor x) {
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    const double ratio = from.alpha / to.alpha, beta = 1 - ratio * ratio;
    const double left = to.sigma * to.sigma / (from.sigma * from.sigma);
    const double variance = run.config().large_variance ? beta : beta * left;
    x = run.mix({{to.alpha * beta / (from.sigma * from.sigma), clean}, {ratio * left, x}}, from.t > 0 ? std::sqrt(variance) : 0);
    run.tell(from, to, x, clean);
  }
  return x;
}

// "Latent Consistency Models", Luo et al. 2023: the estimate meets its boundary condition (section 4.1, sigma_data 0.5),
// then is noised again (algorithm 1).
Tensor sample_lcm(SamplerRun& run, Tensor x) {
  constexpr double kSigmaData = 0.5;
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    const double t = from.t * run.config().timestep_scaling, norm = t * t + kSigmaData * kSigmaData;
    const double skip = kSigmaData * kSigmaData / norm, out = t / std::sqrt(norm);
    x = run.mix({{to.alpha * out, clean}, {to.alpha * skip, x}}, to.sigma);
    run.tell(from, to, x, clean);
  }
  return x;
}

// "Trajectory Consistency Distillation", Zheng et al. 2024, algorithm 4 (gamma is eta): down to a level below the next one,
// and up again with fresh noise.
Tensor sample_tcd(SamplerRun& run, Tensor x) {
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    const Tensor clean = run.clean(x, from);
    const Tensor noise = run.noise_in(x, clean, from);
    const double up = to.alpha / mid.alpha;
    x = run.mix({{up * mid.alpha, clean}, {up * mid.sigma, noise}}, std::sqrt(std::max(0.0, 1 - up * up)));
    run.tell(from, to, x, clean);
  }
  return x;
}

namespace {

// What PNDM averages is the network's own output, noise or v; both are had back from the clean estimate.
class OutputAverage {
 public:
  OutputAverage(const SamplerRun& run, const Level& from)
      : run_(run), from_(from), v_(run.config().noise.prediction == Prediction::v) {}

  Tensor output(View x, View clean, const Level& level) const {
    if (!v_) return run_.noise_in(x, clean, level);
    return run_.mix({{level.alpha / level.sigma, x}, {-1 / level.sigma, clean}});
  }
  // From x at `from` to the level `to` along an averaged output (PNDM, equation 11).
  Tensor move(View x, std::span<const SamplerRun::Share> average, const Level& to) const {
    const double along = to.sigma - to.alpha * from_.sigma / from_.alpha;  // of the noise
    std::vector<SamplerRun::Share> shares;
    double of_x = to.alpha / from_.alpha;
    if (v_) of_x += along * from_.sigma;  // noise = alpha * v + sigma * x
    shares.push_back({of_x, x});
    for (const auto& share : average) shares.push_back({along * share.scale * (v_ ? from_.alpha : 1), share.x});
    return run_.mix(shares);
  }

 private:
  const SamplerRun& run_;
  const Level& from_;
  bool v_;
};

// One Runge-Kutta step of four calls (PNDM, equation 12). Returns x at the next level; `first` gets the first output.
Tensor runge_kutta_step(SamplerRun& run, const Step& step, View x, Tensor& first) {
  const OutputAverage average(run, step.from);
  struct Call {
    const Level& at;
    const Level& next;
    double weight;
  };
  const Call calls[] = {
      {step.from, step.mid, 1.0 / 6}, {step.mid, step.mid, 1.0 / 3}, {step.mid, step.to, 1.0 / 3}, {step.to, step.to, 1.0 / 6}};
  std::deque<Tensor> outputs;
  std::vector<SamplerRun::Share> sum;
  Tensor moved;
  for (const auto& [at, next, weight] : calls) {
    const View here = moved ? moved.view() : x;
    const Tensor clean = run.clean(here, at);
    outputs.push_back(average.output(here, clean, at));
    sum.push_back({weight, outputs.back()});
    const SamplerRun::Share alone{1, outputs.back()};
    moved =
        average.move(x, sum.size() == std::size(calls) ? std::span<const SamplerRun::Share>(sum) : std::span(&alone, 1), next);
    run.tell(at, next, moved, clean);
  }
  first = std::move(outputs.front());
  return moved;
}

// Adams-Bashforth weights of the newest output and those before it, by how many there are.
std::vector<double> adams_bashforth(size_t outputs) {
  switch (outputs) {
    case 1: return {1};
    case 2: return {3.0 / 2, -1.0 / 2};
    case 3: return {23.0 / 12, -16.0 / 12, 5.0 / 12};
    default: return {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24};
  }
}

}  // namespace

// "Pseudo Numerical Methods for Diffusion Models on Manifolds", Liu et al. 2022, algorithm 2: linear multistep, started by
// Runge-Kutta or, as Stable Diffusion does, by one improved Euler step.
Tensor sample_pndm(SamplerRun& run, Tensor x) {
  const size_t count = run.steps().size() - run.begin();
  std::deque<Tensor> outputs;  // newest first
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const Step& step = run.steps()[i];
    const bool starting = count > 1 && i < run.begin() + (run.config().skip_prk ? 1 : 3);
    if (starting && !run.config().skip_prk) {
      outputs.emplace_front();
      x = runge_kutta_step(run, step, x, outputs.front());
      continue;
    }
    const OutputAverage average(run, step.from);
    Tensor clean = run.clean(x, step.from);
    outputs.push_front(average.output(x, clean, step.from));
    if (outputs.size() > 4) outputs.pop_back();
    const std::vector<double> weights = adams_bashforth(outputs.size());
    std::vector<SamplerRun::Share> shares;
    for (size_t k = 0; k < weights.size(); k++) shares.push_back({weights[k], outputs[k]});
    Tensor next = average.move(x, shares, step.to);
    run.tell(step.from, step.to, next, clean);
    if (starting) {
      clean = run.clean(next, step.to);
      const Tensor second = average.output(next, clean, step.to);
      next = average.move(x, std::array{SamplerRun::Share{0.5, outputs.front()}, SamplerRun::Share{0.5, second}}, step.to);
      run.tell(step.to, step.to, next, clean);
    }
    x = std::move(next);
  }
  return x;
}

}  // namespace cudream
