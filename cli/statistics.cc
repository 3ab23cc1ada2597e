// Ranks, counts of orders, and corrections.
#include "cli/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace cudream {
namespace {

constexpr size_t kMostExact = 20;

// Ranks from 1, ties sharing the mean of theirs, and the sum of t^3 - t over groups of t ties.
struct Ranks {
  std::vector<double> of;
  double ties = 0;
};

Ranks ranks_of(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return values[i]; });
  Ranks ranks{.of = std::vector<double>(values.size())};
  for (size_t from = 0, to = 0; from < order.size(); from = to) {
    while (to < order.size() && values[order[to]] == values[order[from]]) to++;
    const auto count = static_cast<double>(to - from);
    for (size_t i = from; i < to; i++) ranks.of[order[i]] = (static_cast<double>(from + to) + 1) / 2;
    ranks.ties += count * count * count - count;
  }
  return ranks;
}

// How many orders of m and n values have each U, from 0 to m * n: the recurrence of the paper's section 2.
std::vector<double> orders(size_t m, size_t n) {
  // table[j][u]: of i and j values, for i growing to m. The largest value is one of the i, above all j others, or one of the j.
  std::vector<std::vector<double>> table(n + 1, std::vector<double>(m * n + 1));
  for (auto& row : table) row[0] = 1;
  for (size_t i = 1; i <= m; i++) {
    for (size_t j = 1; j <= n; j++)
      for (size_t u = m * n + 1; u-- > 0;) table[j][u] = (u >= j ? table[j][u - j] : 0) + table[j - 1][u];
  }
  return table[n];
}

double exact(double u, size_t m, size_t n) {
  const std::vector<double> counts = orders(m, n);
  const double all = std::accumulate(counts.begin(), counts.end(), 0.0);
  double tail = 0;
  for (size_t i = 0; i <= static_cast<size_t>(u); i++) tail += counts[i];
  return std::min(1.0, 2 * tail / all);
}

}  // namespace

double median(std::vector<double> v) {
  std::ranges::sort(v);
  return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

double percentile(std::vector<double> v, double share) {
  std::ranges::sort(v);
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(v.size())));
  return v[std::clamp<size_t>(rank, 1, v.size()) - 1];
}

double mann_whitney(std::span<const double> a, std::span<const double> b) {
  invariant(!a.empty() && !b.empty(), "a test of samples of {} and {}", a.size(), b.size());
  std::vector<double> all(a.begin(), a.end());
  all.insert(all.end(), b.begin(), b.end());
  const Ranks ranks = ranks_of(all);
  const auto m = static_cast<double>(a.size()), n = static_cast<double>(b.size()), count = m + n;
  const double sum = std::accumulate(ranks.of.begin(), ranks.of.begin() + static_cast<std::ptrdiff_t>(a.size()), 0.0);
  const double u_a = sum - m * (m + 1) / 2, u = std::min(u_a, m * n - u_a);
  if (ranks.ties == 0 && a.size() <= kMostExact && b.size() <= kMostExact) return exact(u, a.size(), b.size());
  const double variance = m * n / 12 * (count + 1 - ranks.ties / (count * (count - 1)));
  if (variance <= 0) return 1;
  const double z = std::max(0.0, m * n / 2 - u - 0.5) / std::sqrt(variance);
  return std::erfc(z / std::sqrt(2.0));
}

std::vector<double> holm(std::span<const double> probabilities) {
  std::vector<size_t> order(probabilities.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::sort(order, {}, [&](size_t i) { return probabilities[i]; });
  std::vector<double> adjusted(probabilities.size());
  double most = 0;
  for (size_t i = 0; i < order.size(); i++) {
    most = std::max(most, std::min(1.0, static_cast<double>(order.size() - i) * probabilities[order[i]]));
    adjusted[order[i]] = most;
  }
  return adjusted;
}

}  // namespace cudream
