// Noise schedules; see schedule.h. Two ways lead to one: along the training steps themselves (DDIM and its kin), or along
// sigmas, which a curve may place and which may lie between training steps.
#include "runtime/schedule.h"

#include <algorithm>

#include "core/error.h"
#include "runtime/beta_quantile.h"
#include "runtime/noise_table.h"

namespace cudream {
namespace {

constexpr double kKarrasRho = 7;  // Karras et al. 2022, section D.1
constexpr double kBetaShape = 0.6;

bool is_dpm(Sampler s) {
  return s == Sampler::dpm_multistep || s == Sampler::dpm_singlestep || s == Sampler::unipc || s == Sampler::deis;
}
bool is_distilled(Sampler s) {
  return s == Sampler::lcm || s == Sampler::tcd;
}
bool calls_twice(Sampler s) {
  return s == Sampler::heun || s == Sampler::dpm2 || s == Sampler::dpmpp_2s || s == Sampler::dpmpp_sde;
}
bool follows_training_steps(const ScheduleConfig& c) {
  return variance_preserving(c.sampler) && !is_dpm(c.sampler) && c.spacing != Spacing::normal && c.curve == Curve::timesteps;
}

// The timesteps of the spacing, noisiest first. DPM-Solver spaces one more and leaves out the cleanest.
std::vector<double> spaced_timesteps(const ScheduleConfig& c) {
  const int train = c.noise.train_steps, points = c.steps + (is_dpm(c.sampler) ? 1 : 0);
  const int stride = train / points;  // whole, as the reference has it
  const bool whole = variance_preserving(c.sampler);
  const double last = train - 1, ratio = static_cast<double>(train) / c.steps;
  std::vector<double> out;
  out.reserve(static_cast<size_t>(c.steps));
  for (int i = 0; i < c.steps; i++) {
    const int from_end = points - 1 - i;
    double t = 0;
    switch (c.spacing) {
      case Spacing::normal: t = c.steps == 1 ? last : last * (c.steps - 1 - i) / (c.steps - 1); break;
      case Spacing::leading: t = from_end * stride + c.noise.steps_offset; break;
      case Spacing::trailing: t = std::nearbyint(train - i * ratio) - 1; break;
      case Spacing::linspace: t = points == 1 ? 0 : from_end * (last / (points - 1)); break;
    }
    out.push_back(whole && c.spacing != Spacing::normal ? std::nearbyint(t) : t);
  }
  if (out.front() > last) {
    throw fail(Code::usage,
               "{} steps do not fit: with leading spacing and an offset of {} the first timestep would be {}, and the "
               "model knows 0 to {}; use fewer steps, or trailing spacing",
               c.steps, c.noise.steps_offset, out.front(), last);
  }
  return out;
}

// The steps that LCM and TCD were distilled on, thinned out ("Latent Consistency Models", Luo et al. 2023, section 4.3).
std::vector<double> distilled_timesteps(const ScheduleConfig& c) {
  const int original = c.original_steps, stride = c.noise.train_steps / original;
  const double skip = static_cast<double>(original) / c.steps;
  std::vector<double> out;
  out.reserve(static_cast<size_t>(c.steps));
  for (int i = 0; i < c.steps; i++) out.push_back((original - std::floor(i * skip)) * stride - 1);
  return out;
}

Level level_at(double alpha_bar, double t) {
  return {std::sqrt(alpha_bar), std::sqrt(1 - alpha_bar), t};
}

std::vector<Step> steps_along_training(const ScheduleConfig& c) {
  const std::vector<float> alpha_bars = alphas_cumprod(c.noise);
  const auto level = [&](double t) { return level_at(alpha_bars[static_cast<size_t>(t)], t); };
  const bool distilled = is_distilled(c.sampler);
  const std::vector<double> t = distilled && c.spacing == Spacing::leading ? distilled_timesteps(c) : spaced_timesteps(c);
  // Where the last step ends: without noise, or at the least training noise.
  const bool by_stride = c.sampler == Sampler::ddim || c.sampler == Sampler::pndm;
  const Level end = c.sampler == Sampler::tcd || (by_stride && !c.noise.set_alpha_to_one) ? level(0) : Level{};
  const int stride = c.noise.train_steps / c.steps, half = stride / 2;
  std::vector<Step> steps;
  for (size_t i = 0; i < t.size(); i++) {
    const bool last = i + 1 == t.size();
    Step step{level(t[i]), {}, {}};
    if (by_stride) {
      step.to = t[i] >= stride ? level(t[i] - stride) : end;
      step.mid = level(std::max(0.0, t[i] - half));
    } else {
      step.to = last ? end : level(t[i + 1]);
      step.mid = level(std::floor((1 - c.eta) * step.to.t));
    }
    steps.push_back(step);
  }
  return steps;
}

// `count` sigmas from the noisiest to the cleanest.
std::vector<double> placed_sigmas(Curve curve, double max, double min, int count) {
  const auto between = [&](double share) {
    switch (curve) {
      case Curve::karras: {
        const double a = std::pow(max, 1 / kKarrasRho), b = std::pow(min, 1 / kKarrasRho);
        return std::pow(a + share * (b - a), kKarrasRho);
      }
      case Curve::beta: return min + beta_quantile(1 - share, kBetaShape, kBetaShape) * (max - min);
      default: return std::exp(std::log(max) + share * (std::log(min) - std::log(max)));
    }
  };
  std::vector<double> out;
  out.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; i++) out.push_back(between(count == 1 ? 0 : static_cast<double>(i) / (count - 1)));
  return out;
}

// What a network is told at a sigma that a curve placed. The reference gives some samplers whole timesteps.
double told_timestep(const ScheduleConfig& c, double t) {
  const bool rounds = c.curve == Curve::karras || c.curve == Curve::lu;
  if (c.spacing == Spacing::normal) return t;
  if (is_dpm(c.sampler)) return rounds ? std::nearbyint(t) : std::floor(t);
  return c.sampler == Sampler::dpm2 && rounds ? std::nearbyint(t) : t;
}

Level level_of_sigma(Sampler sampler, double sigma, double t) {
  if (!variance_preserving(sampler)) return {1, sigma, t};
  const double alpha = 1 / std::hypot(1, sigma);
  return {alpha, sigma * alpha, t};
}

std::vector<Step> steps_along_sigmas(const ScheduleConfig& c) {
  const NoiseTable table(c.noise);
  std::vector<double> t = spaced_timesteps(c), sigmas;
  for (const double at : t) sigmas.push_back(c.spacing == Spacing::normal ? table.sigma_log_linear(at) : table.sigma_linear(at));
  if (c.curve != Curve::timesteps) {
    const bool whole_range =
        c.spacing == Spacing::normal || is_dpm(c.sampler) || c.curve == Curve::lu || c.curve == Curve::log_linear;
    const double max = c.sigma_max.value_or(whole_range ? table.sigma_max() : sigmas.front());
    const double min = c.sigma_min.value_or(whole_range ? table.sigma_min() : sigmas.back());
    if (!(min > 0 && min <= max)) throw fail(Code::unsupported, "sigma_min {} and sigma_max {}: not a range above 0", min, max);
    sigmas = placed_sigmas(c.curve, max, min, c.steps + (c.curve == Curve::log_linear ? 1 : 0));
    for (size_t i = 0; i < t.size() && c.curve != Curve::log_linear; i++) t[i] = told_timestep(c, table.t_of(sigmas[i]));
  }
  if (c.curve != Curve::log_linear) sigmas.push_back(c.end_at_sigma_min ? table.sigma_min() : 0);
  t.push_back(0);
  if (c.continuous_t) {
    for (size_t i = 0; i + 1 < t.size(); i++) t[i] = std::log(sigmas[i]) / 4;
  }
  std::vector<Step> steps;
  for (size_t i = 0; i + 1 < sigmas.size(); i++) {
    // The middle is the geometric mean; an ancestral step goes down below its end first, except DPM++ SDE's.
    const double aim = c.sampler == Sampler::dpmpp_sde ? sigmas[i + 1] : ancestral_step(sigmas[i], sigmas[i + 1], c.eta).down;
    const double mid = std::sqrt(sigmas[i] * aim);
    steps.push_back({level_of_sigma(c.sampler, sigmas[i], t[i]), level_of_sigma(c.sampler, mid, table.t_of(mid)),
                     level_of_sigma(c.sampler, sigmas[i + 1], t[i + 1])});
  }
  return steps;
}

void check(const ScheduleConfig& c) {
  const int room = is_distilled(c.sampler) && c.spacing == Spacing::leading ? c.original_steps
                                                                            : c.noise.train_steps - (is_dpm(c.sampler) ? 1 : 0);
  if (c.steps < 1 || c.steps > room) {
    throw fail(Code::usage, "{} steps: this sampler and schedule take 1 to {}", c.steps, room);
  }
  if (!(c.eta >= 0 && c.eta <= 1)) throw fail(Code::usage, "--eta {}: from 0 (no fresh noise) to 1", c.eta);
  if (c.noise.steps_offset < 0) throw fail(Code::unsupported, "steps_offset {}: at least 0", c.noise.steps_offset);
  if (c.original_steps < 1 || c.original_steps > c.noise.train_steps) {
    throw fail(Code::unsupported, "original_inference_steps {}: the model was trained on {}", c.original_steps,
               c.noise.train_steps);
  }
  if ((c.sampler == Sampler::tcd || c.sampler == Sampler::pndm) && !follows_training_steps(c)) {
    throw fail(Code::usage, "this sampler needs evenly spaced training steps: use the schedule leading, trailing or linspace");
  }
  const int most = c.sampler == Sampler::lms ? 4 : 3;
  if (c.order < 1 || c.order > most) throw fail(Code::unsupported, "solver order {}: this solver has 1 to {}", c.order, most);
}

// The timesteps of all calls: a second call looks at the middle of the step, or at its end.
std::vector<double> call_timesteps(const ScheduleConfig& c, const Schedule& schedule) {
  std::vector<double> out;
  for (size_t i = 0; i < schedule.steps.size(); i++) {
    const Step& step = schedule.steps[i];
    const int calls = calls_of_step(c, schedule, i);
    out.push_back(step.from.t);
    if (calls == 4) out.insert(out.end(), {step.mid.t, step.mid.t});
    const bool at_end = c.sampler == Sampler::heun || c.sampler == Sampler::pndm;
    if (calls > 1) out.push_back(at_end ? step.to.t : step.mid.t);
  }
  return out;
}

}  // namespace

bool variance_preserving(Sampler sampler) {
  return sampler < Sampler::euler;
}

bool reads_eta(Sampler sampler) {
  return sampler == Sampler::ddim || sampler == Sampler::tcd;
}

AncestralStep ancestral_step(double from, double to, double eta) {
  const double up = std::min(to, eta * std::sqrt(to * to * (from * from - to * to) / (from * from)));
  return {std::sqrt(to * to - up * up), up};
}

int calls_of_step(const ScheduleConfig& config, const Schedule& schedule, size_t i) {
  if (calls_twice(config.sampler)) return schedule.steps[i].to.sigma > 0 ? 2 : 1;
  if (config.sampler != Sampler::pndm || schedule.begin + 1 == schedule.steps.size()) return 1;
  if (!config.skip_prk) return i < schedule.begin + 3 ? 4 : 1;
  return i == schedule.begin ? 2 : 1;
}

Schedule make_schedule(const ScheduleConfig& config) {
  check(config);
  Schedule schedule;
  schedule.steps = follows_training_steps(config) ? steps_along_training(config) : steps_along_sigmas(config);
  if (schedule.steps.front().from.alpha == 0 && config.noise.prediction == Prediction::epsilon) {
    throw fail(Code::unsupported,
               "zero terminal SNR with a network that predicts noise: from pure noise it can tell nothing about "
               "the picture; the model's prediction type must be v_prediction or sample");
  }
  if (schedule.steps.front().from.alpha == 0 && config.sampler == Sampler::pndm) {
    throw fail(Code::usage,
               "this sampler cannot start from pure noise, where this model's schedule (zero terminal SNR) begins: use "
               "ddim or euler");
  }
  schedule.timesteps = call_timesteps(config, schedule);
  for (const Step& step : schedule.steps) schedule.sigmas.push_back(step.from.sigma / step.from.alpha);
  schedule.sigmas.push_back(schedule.steps.back().to.sigma / schedule.steps.back().to.alpha);
  if (!variance_preserving(config.sampler)) {
    const double max = schedule.sigmas.front();
    schedule.initial_scale = config.spacing == Spacing::leading ? std::hypot(max, 1) : max;
  }
  return schedule;
}

Schedule tail(Schedule schedule, double strength) {
  const size_t steps = schedule.steps.size();
  const auto kept = static_cast<size_t>(static_cast<double>(steps) * std::clamp(strength, 0.0, 1.0));
  if (kept == 0) {
    throw fail(Code::usage, "--strength {} of {} steps leaves none to take: use at least {:.2g}, or more steps", strength, steps,
               1.0 / static_cast<double>(steps));
  }
  schedule.begin = steps - kept;
  return schedule;
}

size_t handover_step(const Schedule& schedule, double share, int train_steps) {
  const double cutoff = std::nearbyint((1 - share) * train_steps);
  size_t step = schedule.begin;
  while (step < schedule.steps.size() && schedule.steps[step].from.t >= cutoff) step++;
  if (step == schedule.begin || step == schedule.steps.size())
    throw fail(Code::usage, "--refiner-start {} leaves {} no step: choose another share, or more steps", share,
               step == schedule.begin ? "the model" : "the refiner");
  return step;
}

// x / hypot(alpha, sigma) is what the network saw; v = alpha * noise - sigma * x0 there ("Progressive Distillation for Fast
// Sampling of Diffusion Models", Salimans and Ho 2022, appendix D).
CleanCoefficients predicted_clean(const Level& level, Prediction prediction) {
  const double norm = std::hypot(level.alpha, level.sigma);
  switch (prediction) {
    case Prediction::epsilon: return {1 / level.alpha, -level.sigma / level.alpha};
    case Prediction::v: return {level.alpha / (norm * norm), -level.sigma / norm};
    case Prediction::sample: return {0, 1};
  }
  throw fail(Code::internal, "a prediction type without a meaning");
}

}  // namespace cudream
