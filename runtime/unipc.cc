// UniPC, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion Models", Zhao et al. 2023.
// The predictor (section 3.2, algorithm 6) steps on; once the network has been called there, the corrector (section 3.1,
// algorithm 5) improves that very step with the new estimate, at no extra call.
#include <algorithm>
#include <cmath>
#include <deque>
#include <utility>

#include "runtime/sampler_run.h"

namespace cudream {
namespace {

// Solves a (rows of n) * x = b by Gauss elimination with pivoting; n is 3 at most.
std::vector<double> solve(std::vector<std::vector<double>> a, std::vector<double> b) {
  const size_t n = b.size();
  for (size_t col = 0; col < n; col++) {
    size_t pivot = col;
    for (size_t row = col + 1; row < n; row++) {
      if (std::abs(a[row][col]) > std::abs(a[pivot][col])) pivot = row;
    }
    std::swap(a[col], a[pivot]);
    std::swap(b[col], b[pivot]);
    for (size_t row = 0; row < n; row++) {
      if (row == col) continue;
      const double factor = a[row][col] / a[col][col];
      for (size_t k = col; k < n; k++) a[row][k] -= factor * a[col][k];
      b[row] -= factor * b[col];
    }
  }
  for (size_t i = 0; i < n; i++) b[i] /= a[i][i];
  return b;
}

// The weights of the differences (theorem 3.1): sum over k of rho_k r_k^(i-1) = i! phi_(i+1) h / B(h), i = 1, 2, ...
// `h` is signed: negative when the clean estimate is integrated.
std::vector<double> difference_weights(const std::vector<double>& r, double h, double b_of_h) {
  std::vector<std::vector<double>> rows;
  std::vector<double> right;
  double phi = std::expm1(h) / h - 1, factorial = 1;
  for (size_t i = 0; i < r.size(); i++) {
    std::vector<double> row = r;
    for (double& value : row) value = std::pow(value, static_cast<double>(i));
    rows.push_back(row);
    right.push_back(phi * factorial / b_of_h);
    factorial *= static_cast<double>(i) + 2;
    phi = phi / h - 1 / factorial;
  }
  return solve(std::move(rows), std::move(right));
}

// The estimates of the last calls, newest first; what a step from the newest one's level needs.
struct Points {
  std::deque<Tensor> estimates;
  std::deque<Level> levels;
};

// x at points.levels[0] -> x at `to`, using `order` points, and the estimate `at_end` made there for the corrector.
Tensor unified_step(const SamplerRun& run, View x, const Points& points, const Level& to, size_t order, View at_end) {
  const ScheduleConfig& c = run.config();
  const Level& from = points.levels[0];
  const double step = to.lambda() - from.lambda(), h = c.data_prediction ? -step : step;
  const double scale = c.data_prediction ? to.alpha : to.sigma;
  double newest = c.data_prediction ? -scale * std::expm1(h) : to.sigma - to.alpha * from.sigma / from.alpha;
  std::vector<SamplerRun::Share> shares{{c.data_prediction ? to.sigma / from.sigma : to.alpha / from.alpha, x}};

  std::vector<double> r;
  for (size_t k = 1; k < order; k++) r.push_back((points.levels[k].lambda() - from.lambda()) / step);
  if (at_end) r.push_back(1);
  if (!r.empty()) {
    const double b_of_h = c.bh1 ? h : std::expm1(h);
    // With one difference the condition is met at second order by one half, whatever B is.
    const std::vector<double> rho = r.size() == 1 ? std::vector<double>{0.5} : difference_weights(r, h, b_of_h);
    for (size_t k = 0; k < r.size(); k++) {
      const double weight = -scale * b_of_h * rho[k] / r[k];
      const bool end = at_end && k + 1 == r.size();
      shares.push_back({weight, end ? at_end : points.estimates[k + 1].view()});
      newest -= weight;
    }
  }
  shares.push_back({newest, points.estimates[0]});
  return run.mix(shares);
}

}  // namespace

Tensor sample_unipc(SamplerRun& run, Tensor x) {
  const ScheduleConfig& c = run.config();
  const size_t steps = run.steps().size();
  Points points;
  Tensor before;  // x where the last step began
  size_t last_order = 0;
  for (size_t i = run.begin(); i < steps; i++) {
    const auto& [from, mid, to] = run.steps()[i];
    Tensor clean = run.clean(x, from);
    const View shown = clean;  // stays where it is when the list of points takes the tensor
    Tensor estimate = c.data_prediction ? std::move(clean) : run.noise_in(x, clean, from);
    const bool skip = std::find(c.no_corrector.begin(), c.no_corrector.end(), static_cast<int>(i) - 1) != c.no_corrector.end();
    if (before && !skip) x = unified_step(run, before, points, from, last_order, estimate);

    points.estimates.push_front(std::move(estimate));
    points.levels.push_front(from);
    size_t order = std::min(static_cast<size_t>(c.order), points.levels.size());
    if (c.lower_order_final) order = std::min(order, steps - i);
    last_order = order;
    Tensor next = unified_step(run, x, points, to, order, {});
    if (points.estimates.size() > static_cast<size_t>(c.order)) {
      points.estimates.pop_back();
      points.levels.pop_back();
    }
    before = std::move(x);
    x = std::move(next);
    run.tell(from, to, x, shown);
  }
  return x;
}

}  // namespace cudream
