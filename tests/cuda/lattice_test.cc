// Joining axes: the walk visits the same places, in the same order, as the views it was made of.
#include "kernels/cuda/lattice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "core/error.h"

namespace cudream {
namespace {

// Element offsets in row-major order, as a view has them and as a kernel finds them.
std::vector<int64_t> places(const View& v) {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < v.shape.size(); i++) {
    int64_t rest = i, at = 0;
    for (int axis = v.shape.rank; axis-- > 0; rest /= v.shape[axis])
      at += rest % v.shape[axis] * v.stride[static_cast<size_t>(axis)];
    all.push_back(at);
  }
  return all;
}
std::vector<int64_t> places(const Lattice& lattice, const Operand& operand) {
  std::vector<int64_t> all;
  for (int i = 0; i < lattice.size; i++) {
    int64_t at = 0;
    int rest = i;
    for (int axis = lattice.rank; axis-- > 0; rest /= lattice.n[axis]) at += rest % lattice.n[axis] * operand.stride[axis];
    all.push_back(at);
  }
  return all;
}

float memory[4096];

TEST(JoinAxes, MakesOneAxisOfDenseViews) {
  const View x(memory, DType::f32, {2, 3, 4, 5});
  Operand a{}, b{};
  const Lattice lattice = join_axes({x, x}, {&a, &b});
  EXPECT_EQ(lattice.rank, 1);
  EXPECT_EQ(lattice.size, 120);
  EXPECT_EQ(places(lattice, a), places(x));
}

TEST(JoinAxes, KeepsWhatASliceTearsApart) {
  const View all(memory, DType::f32, {2, 3, 4, 10}), x = all.slice(3, 2, 7), y(memory, DType::f32, {2, 3, 4, 5});
  Operand a{}, b{};
  const Lattice lattice = join_axes({y, x}, {&a, &b});
  EXPECT_EQ(lattice.rank, 2);
  EXPECT_EQ(places(lattice, a), places(y));
  EXPECT_EQ(places(lattice, b), places(x));
}

TEST(JoinAxes, WalksPermutedStrides) {
  View x(memory, DType::f32, {4, 9, 6});
  x.stride = {54, 1, 9};
  const View y(memory, DType::f32, {4, 9, 6}), z = View(memory, DType::f32, {8, 9, 6}).slice(0, 2, 6);
  Operand a{}, b{}, c{};
  const Lattice lattice = join_axes({x, y, z}, {&a, &b, &c});
  EXPECT_EQ(places(lattice, a), places(x));
  EXPECT_EQ(places(lattice, b), places(y));
  EXPECT_EQ(c.data, z.data);
}

TEST(JoinAxes, PassesOverAxesOfOneElement) {
  const View x = View(memory, DType::f32, {1, 7, 1, 8}).slice(3, 0, 3), one(memory, DType::bf16, {1, 1});
  Operand a{};
  EXPECT_EQ(join_axes({x}, {&a}).rank, 2);
  EXPECT_EQ(join_axes({one}, {&a}).size, 1);
  EXPECT_EQ(a.type, DType::bf16);
}

TEST(JoinAxes, RefusesWhatAnIntCannotCount) {
  const View x(nullptr, DType::f16, {1 << 16, 1 << 16});
  Operand a{};
  try {
    join_axes({x}, {&a});
    FAIL() << "joined";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::unsupported);
    EXPECT_THAT(e.what(), testing::HasSubstr("4294967296 elements"));
  }
}

TEST(JoinAxes, RefusesDifferentShapes) {
  Operand a{}, b{};
  EXPECT_THROW(join_axes({View(memory, DType::f32, {2, 3}), View(memory, DType::f32, {3, 2})}, {&a, &b}), Error);
}

}  // namespace
}  // namespace cudream
