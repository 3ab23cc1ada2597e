// Medians, tests and corrections against values from tables.
#include "cli/statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cudream {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;

TEST(Statistics, MedianAndPercentiles) {
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0.5), 3);
  EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0.95), 5);
  EXPECT_EQ(percentile({7}, 0.95), 7);
}

// Of the 20 orders of three and three values, two are as far apart; of the 126 of four and five with U <= 5, by Mann and
// Whitney's table for n = 5, m = 4, a share of 0.143.
TEST(Statistics, MannWhitneyIsExactForSmallSamples) {
  EXPECT_DOUBLE_EQ(mann_whitney(std::vector{1., 2., 3.}, std::vector{4., 5., 6.}), 0.1);
  EXPECT_DOUBLE_EQ(mann_whitney(std::vector{4., 5., 6.}, std::vector{1., 2., 3.}), 0.1);
  EXPECT_DOUBLE_EQ(mann_whitney(std::vector{1., 4.}, std::vector{2., 3.}), 1);
  EXPECT_NEAR(mann_whitney(std::vector{1., 2., 5., 7.}, std::vector{3., 4., 6., 8., 9.}), 2 * 0.143, 5e-4);
}

// With ties: ranks 1, 2.5, 2.5 and 4 against 5, 6, 7.5, 7.5, so U = 0, mean 8, variance 16/12 * (9 - 12/56) = 11.714;
// z = 7.5 / 3.4226 = 2.1913, two-sided 0.02843.
TEST(Statistics, MannWhitneyWithTies) {
  EXPECT_NEAR(mann_whitney(std::vector{1., 2., 2., 3.}, std::vector{4., 5., 6., 6.}), 0.02843, 1e-5);
  EXPECT_EQ(mann_whitney(std::vector{1., 1.}, std::vector{1., 1., 1.}), 1);
}

TEST(Statistics, HolmKeepsOrderAndBounds) {
  EXPECT_THAT(holm(std::vector{0.01, 0.04, 0.03, 0.005}),
              ElementsAre(DoubleNear(0.03, 1e-12), DoubleNear(0.06, 1e-12), DoubleNear(0.06, 1e-12), DoubleNear(0.02, 1e-12)));
  EXPECT_THAT(holm(std::vector{0.9, 0.8}), ElementsAre(1, 1));
}

}  // namespace
}  // namespace cudream
