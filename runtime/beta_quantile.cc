// Quantiles of the beta distribution by bisection; see beta_quantile.h.
#include "runtime/beta_quantile.h"

#include <cmath>

namespace cudream {
namespace {

// The continued fraction of DLMF 8.17.22, from its far end: fifty terms are plenty for x below (a + 1) / (a + b + 2).
double fraction(double x, double a, double b) {
  double tail = 1;
  for (int n = 50; n >= 1; n--) {
    const int half = n / 2;
    const double m = half;
    const double d = n % 2 == 1 ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    tail = 1 + d / tail;
  }
  return 1 / tail;
}

// The regularised incomplete beta function.
double incomplete_beta(double x, double a, double b) {
  if (x > (a + 1) / (a + b + 2)) return 1 - incomplete_beta(1 - x, b, a);
  return std::pow(x, a) * std::pow(1 - x, b) / (a * std::beta(a, b)) * fraction(x, a, b);
}

}  // namespace

double beta_quantile(double p, double a, double b) {
  double low = 0, high = 1;
  for (double x = 0.5; low < x && x < high; x = (low + high) / 2) (incomplete_beta(x, a, b) < p ? low : high) = x;
  return p <= 0 ? 0 : high;
}

}  // namespace cudream
