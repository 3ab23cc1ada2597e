// The DPM-Solver family: exponential integrators in lambda = log(alpha / sigma), multistep and singlestep, and DEIS.
//   "DPM-Solver", Lu et al. 2022 (in noise), and "DPM-Solver++", Lu et al. 2022 (in the clean estimate, and its SDE)
//   "Fast Sampling of Diffusion Models with Exponential Integrator", Zhang and Chen 2023 (DEIS)
// One step is x' = w.x * x + sum of w.m[k] * m[k] + w.fresh * noise, where m are the estimates (or noises) of the last
// calls, newest first; what differs is the weights.
#include <algorithm>
#include <array>
#include <cmath>
#include <deque>
#include <utility>

#include "runtime/sampler_run.h"

namespace cudream {
namespace {

struct Weights {
  double x = 0;
  std::array<double, 3> m{};
  double fresh = 0;
};

// What a step from one level to another makes of x, of the estimate at its start, of the estimate's first difference (in
// the midpoint form and in the exact, Heun, form) and of its second. DPM-Solver++, sections 4 and 5, with eta as the share
// of the SDE's noise; DPM-Solver, section 3.3.
struct Integrals {
  double x = 0, estimate = 0, midpoint = 0, first = 0, second = 0, fresh = 0;
};
Integrals integrals(const ScheduleConfig& c, const Level& from, const Level& to) {
  const double h = to.lambda() - from.lambda();
  Integrals out;
  if (c.data_prediction) {
    const double span = (1 + c.eta) * h, phi = -std::expm1(-span);
    out.x = to.sigma / from.sigma;
    out.estimate = to.alpha * phi;
    out.first = to.alpha * (1 - phi / span);
    out.second = to.alpha * (0.5 - (span - phi) / (span * span));
    if (c.eta > 0) {
      out.x *= std::exp(-c.eta * h);
      out.fresh = to.sigma * std::sqrt(-std::expm1(-2 * c.eta * h));
    }
  } else {
    const double phi = std::expm1(h);
    out.x = to.alpha / from.alpha;
    out.estimate = to.sigma - to.alpha * from.sigma / from.alpha;  // -sigma * phi, finite also where sigma is 0
    out.first = -to.sigma * (phi / h - 1);
    out.second = -to.sigma * ((phi - h) / (h * h) - 0.5);
  }
  out.midpoint = out.estimate / 2;
  return out;
}

// The multistep forms (algorithm 2 of DPM-Solver++): the step starts at levels[0], where the newest estimate was made.
Weights multistep_weights(const ScheduleConfig& c, const Level& to, std::span<const Level> levels, size_t order) {
  const Integrals f = integrals(c, levels[0], to);
  Weights w{f.x, {f.estimate, 0, 0}, f.fresh};
  if (order == 1) return w;
  const double h = to.lambda() - levels[0].lambda();
  const double r0 = (levels[0].lambda() - levels[1].lambda()) / h;
  if (order == 2) {
    const double difference = (c.heun_type ? f.first : f.midpoint) / r0;
    w.m[0] += difference;
    w.m[1] -= difference;
    return w;
  }
  const double r1 = (levels[1].lambda() - levels[2].lambda()) / h;
  const double newer = f.first * (1 + r0 / (r0 + r1)) + f.second / (r0 + r1);  // of (m0 - m1) / r0
  const double older = f.first * r0 / (r0 + r1) + f.second / (r0 + r1);        // taken off, of (m1 - m2) / r1
  w.m = {f.estimate + newer / r0, -newer / r0 - older / r1, older / r1};
  return w;
}

// DEIS in log rho, rho = sigma / alpha: the noise is a polynomial in log rho through the last points, integrated exactly.
Weights deis_weights(const Level& to, std::span<const Level> levels, size_t order) {
  const auto rho = [](const Level& level) { return level.sigma / level.alpha; };
  const auto log_rho = [&](size_t k) { return std::log(rho(levels[k])); };
  // The integral up to `end` of the polynomial in log rho that is 1 at levels[j] and 0 at the other levels.
  const auto integral = [&](size_t j, double end) {
    const double log = std::log(end);
    if (order == 2) return end * (log - 1 - log_rho(1 - j)) / (log_rho(j) - log_rho(1 - j));
    const double c = log_rho((j + 1) % 3), d = log_rho((j + 2) % 3);
    return end * (log * log - 2 * log + 2 - (c + d) * (log - 1) + c * d) / ((log_rho(j) - c) * (log_rho(j) - d));
  };
  Weights w{to.alpha / levels[0].alpha, {}, 0};
  for (size_t j = 0; j < order; j++) {
    w.m[j] = order == 1 ? to.sigma - to.alpha * rho(levels[0]) : to.alpha * (integral(j, rho(to)) - integral(j, rho(levels[0])));
  }
  return w;
}

// The singlestep forms (algorithm 1 of DPM-Solver++): the step starts at the oldest of `levels`, the others lie within it.
Weights singlestep_weights(const ScheduleConfig& c, const Level& to, std::span<const Level> levels, size_t order) {
  const Level& from = levels[order - 1];
  const Integrals f = integrals(c, from, to);
  Weights w{f.x, {}, f.fresh};
  w.m[order - 1] = f.estimate;
  if (order == 1) return w;
  const double h = to.lambda() - from.lambda();
  const double r0 = (levels[0].lambda() - from.lambda()) / h;
  if (order == 2 || !c.heun_type) {
    const double difference = (order == 3 || c.heun_type ? f.first : f.midpoint) / r0;
    w.m[0] += difference;
    w.m[order - 1] -= difference;
    return w;
  }
  const double r1 = (levels[1].lambda() - from.lambda()) / h;
  const double inner = (f.first * r0 - 2 * f.second) / (r0 - r1) / r1;  // of m1 - m2
  const double outer = (2 * f.second - f.first * r1) / (r0 - r1) / r0;  // of m0 - m2
  w.m = {outer, inner, f.estimate - inner - outer};
  return w;
}

// How many of the last calls a multistep step uses. At the end few steps are steadier with fewer.
size_t multistep_order(const ScheduleConfig& c, size_t i, size_t steps, bool ends_clean, size_t calls) {
  const bool short_run = c.lower_order_final && steps < 15;
  const size_t order = std::min(static_cast<size_t>(c.order), calls);
  if (i + 1 == steps && (short_run || ends_clean || c.euler_at_final)) return 1;
  return i + 2 == steps && short_run ? std::min<size_t>(order, 2) : order;
}

// The orders of singlestep steps: groups 1, 2, ... up to the solver's order, which share their start.
std::vector<size_t> singlestep_orders(const ScheduleConfig& c, size_t steps, bool ends_clean) {
  const auto most = static_cast<size_t>(c.order);
  std::vector<size_t> orders;
  for (size_t i = 0; i < steps; i++) orders.push_back(i % most + 1);
  if (ends_clean || (c.lower_order_final && steps % most == 0)) orders.back() = 1;
  return orders;
}

// The estimates of the last calls and the levels they were made at, newest first.
struct History {
  std::deque<Tensor> estimates;
  std::deque<Level> levels;

  void push(Tensor estimate, const Level& level, int keep) {
    estimates.push_front(std::move(estimate));
    levels.push_front(level);
    if (estimates.size() > static_cast<size_t>(keep)) {
      estimates.pop_back();
      levels.pop_back();
    }
  }
  std::vector<Level> level_list() const { return {levels.begin(), levels.end()}; }
};

Tensor apply(const SamplerRun& run, const Weights& w, View x, const History& history) {
  std::vector<SamplerRun::Share> shares{{w.x, x}};
  for (size_t k = 0; k < history.estimates.size(); k++) shares.push_back({w.m[k], history.estimates[k]});
  return run.mix(shares, w.fresh);
}

}  // namespace

Tensor sample_multistep(SamplerRun& run, Tensor x) {
  const ScheduleConfig& c = run.config();
  const bool deis = c.sampler == Sampler::deis, in_noise = deis || !c.data_prediction;
  History history;
  for (size_t i = run.begin(); i < run.steps().size(); i++) {
    const auto& [from, mid, to] = run.steps()[i];
    Tensor clean = run.clean(x, from);
    const View shown = clean;  // stays where it is when the history takes the tensor
    history.push(in_noise ? run.noise_in(x, clean, from) : std::move(clean), from, c.order);
    const size_t order = multistep_order(c, i, run.steps().size(), to.sigma == 0, history.levels.size());
    const std::vector<Level> levels = history.level_list();
    const Weights w = deis ? deis_weights(to, levels, order) : multistep_weights(c, to, levels, order);
    x = apply(run, w, x, history);
    run.tell(from, to, x, shown);
  }
  return x;
}

Tensor sample_singlestep(SamplerRun& run, Tensor x) {
  const ScheduleConfig& c = run.config();
  const size_t steps = run.steps().size();
  const std::vector<size_t> orders = singlestep_orders(c, steps, run.steps().back().to.sigma == 0);
  History history;
  Tensor start;  // x where the group of steps began
  for (size_t i = run.begin(); i < steps; i++) {
    const auto& [from, mid, to] = run.steps()[i];
    Tensor clean = run.clean(x, from);
    const View shown = clean;  // stays where it is when the history takes the tensor
    history.push(c.data_prediction ? std::move(clean) : run.noise_in(x, clean, from), from, c.order);
    const size_t order = std::min(orders[i], history.levels.size());
    Tensor next =
        apply(run, singlestep_weights(c, to, history.level_list(), order), order == 1 ? x.view() : start.view(), history);
    if (order == 1) start = std::move(x);
    x = std::move(next);
    run.tell(from, to, x, shown);
  }
  return x;
}

}  // namespace cudream
