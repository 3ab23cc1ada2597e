// Statistics of measured times.
#pragma once

#include <span>
#include <vector>

namespace cudream {

double median(std::vector<double> values);
// The least value that `share` of all values do not exceed (nearest rank).
double percentile(std::vector<double> values, double share);

// How probable it is that two samples differ at least as much in their ranks if nothing lies behind it: the two-sided test of "On
// a Test of Whether one of Two Random Variables is Stochastically Larger than the Other" (Mann and Whitney 1947). Exact up to 20
// values each without ties; else by the normal approximation, with the correction for ties and for continuity.
double mann_whitney(std::span<const double> a, std::span<const double> b);

// Probabilities of several tests, made larger so that all of them together keep the chance of one false alarm ("A Simple
// Sequentially Rejective Multiple Test Procedure", Holm 1979).
std::vector<double> holm(std::span<const double> probabilities);

}  // namespace cudream
