// Noise between two seeds.
#include <gtest/gtest.h>

#include <cmath>

#include "runtime/draws.h"
#include "runtime/job.h"

namespace cudream {
namespace {

const Shape kShape{1, 4, 16, 12};

std::vector<float> of_seed(uint64_t seed) {
  return SeededDraws("torch-cpu", std::span(&seed, 1)).draw(kShape);
}

TEST(Variation, GoesFromOneSeedToTheOther) {
  const auto a = of_seed(1), b = of_seed(2);
  EXPECT_EQ(varied(a, b, 1, kShape), b);
  const auto same = varied(a, b, 0, kShape);
  for (size_t i = 0; i < a.size(); i++) EXPECT_FLOAT_EQ(same[i], a[i]);
}

// A turn: half way, a column has as large a share of the one as of the other, and its length is between theirs.
TEST(Variation, TurnsEveryColumn) {
  const auto a = of_seed(1), b = of_seed(2), half = varied(a, b, 0.5, kShape);
  for (size_t channel = 0; channel < a.size(); channel += 16 * 12)
    for (size_t x = 0; x < 12; x++) {
      double aa = 0, bb = 0, ab = 0, hh = 0;
      for (size_t i = channel + x; i < channel + 16 * 12; i += 12) {
        aa += a[i] * a[i];
        bb += b[i] * b[i];
        ab += a[i] * b[i];
        hh += half[i] * half[i];
      }
      const double angle = std::acos(ab / std::sqrt(aa * bb)), share = std::sin(angle / 2) / std::sin(angle);
      EXPECT_NEAR(hh, share * share * (aa + bb + 2 * ab), 1e-4 * hh);
      EXPECT_NEAR(half[channel + x], share * (a[channel + x] + b[channel + x]), 1e-5);
    }
}

TEST(Variation, PicturesOfARunKeepTheSeed) {
  Job job{.seed = 7};
  EXPECT_EQ(nth_picture(job, 2).seed, 9u);
  job.variation_seed = 100;
  job.variation_strength = 0.1;
  EXPECT_EQ(nth_picture(job, 2).seed, 7u);
  EXPECT_EQ(nth_picture(job, 2).variation_seed, 102u);
}

}  // namespace
}  // namespace cudream
