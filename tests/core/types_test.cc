// Shapes, views and what they refuse.
#include "core/types.h"

#include <gtest/gtest.h>

#include "core/error.h"

namespace cudream {
namespace {

TEST(Shape, CountsAndPrints) {
  const Shape s{2, 3, 4};
  EXPECT_EQ(s.size(), 24);
  EXPECT_EQ(s.rows(), 6);
  EXPECT_EQ(s.back(), 4);
  EXPECT_EQ(s.str(), "[2,3,4]");
  EXPECT_EQ(s.with(1, 7), (Shape{2, 7, 4}));
  EXPECT_EQ(Shape().size(), 1);
}

TEST(View, SliceKeepsStrides) {
  float data[24];
  const View v(data, DType::f32, {2, 3, 4});
  const View s = v.slice(2, 1, 3);
  EXPECT_EQ(s.data, data + 1);
  EXPECT_EQ(s.shape, (Shape{2, 3, 2}));
  EXPECT_FALSE(s.dense());
  EXPECT_TRUE(v.slice(0, 1, 2).dense());
  EXPECT_TRUE(v.slice(1, 0, 1).slice(0, 0, 1).dense());  // axes of one element have no say
}

TEST(View, RefusesWhatDoesNotFit) {
  float data[24];
  const View v(data, DType::f32, {2, 3, 4});
  EXPECT_EQ(v.reshape({6, 4}).shape, (Shape{6, 4}));
  EXPECT_THROW(v.reshape({5, 4}), Error);
  EXPECT_THROW(v.slice(2, 0, 2).reshape({12}), Error);
  EXPECT_THROW(v.slice(2, 3, 5), Error);
}

}  // namespace
}  // namespace cudream
