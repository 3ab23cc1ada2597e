// mma.sync: the portable and the AVX-512 form against a product in double, and against each other bit for bit.
#include "tests/vgpu/core/tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <random>

#include "core/half.h"

namespace cudream::vgpu {
namespace {

struct Product {
  uint32_t a[4][32], b[2][32];
  float c[4][32], d[4][32];
  MmaFragments fragments() {
    MmaFragments f{};
    for (int i = 0; i < 4; i++) {
      f.a[i] = a[i];
      f.c[i] = c[i];
      f.d[i] = d[i];
    }
    f.b[0] = b[0];
    f.b[1] = b[1];
    return f;
  }
};

// The fragment layouts of PTX ISA 9.0 section 9.7.14.5.8: lane = 4 g + t.
template <typename Half>
void check(MmaFunction function, uint32_t steps, Product& p, Brain brain) {
  const auto half = [](uint32_t word, int which) {
    Half h;
    h.bits = static_cast<uint16_t>(word >> 16 * which);
    return double{static_cast<float>(h)};
  };
  const auto a = [&](int row, int k) { return half(p.a[row / 8 + k / 8 * 2][row % 8 * 4 + k % 8 / 2], k % 2); };
  const auto b = [&](int k, int column) { return half(p.b[k / 8][column * 4 + k % 8 / 2], k % 2); };
  function(p.fragments(), steps, brain);
  for (int row = 0; row < 16; row++) {
    for (int column = 0; column < 8; column++) {
      const int i = row / 8 * 2 + column % 2, lane = row % 8 * 4 + column / 2;
      double want = p.c[i][lane], size = std::fabs(want);
      for (int k = 0; k < static_cast<int>(8 * steps); k++) {
        want += a(row, k) * b(k, column);
        size += std::fabs(a(row, k) * b(k, column));
      }
      ASSERT_NEAR(p.d[i][lane], want, size * 1e-6) << row << ", " << column;
    }
  }
}

template <typename Half>
void fill(Product& p, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  const auto word = [&] { return uint32_t{Half(normal(engine)).bits} << 16 | Half(normal(engine) * 100).bits; };
  for (auto& reg : p.a) {
    for (uint32_t& v : reg) v = word();
  }
  for (auto& reg : p.b) {
    for (uint32_t& v : reg) v = word();
  }
  for (auto& reg : p.c) {
    for (float& v : reg) v = normal(engine) * 10;
  }
}

bool same_bits(const float (&a)[4][32], const float (&b)[4][32]) {
  for (int i = 0; i < 4; i++) {
    for (int lane = 0; lane < 32; lane++) {
      if (std::bit_cast<uint32_t>(a[i][lane]) != std::bit_cast<uint32_t>(b[i][lane])) return false;
    }
  }
  return true;
}

template <typename Half>
void compare_forms(Brain brain) {
  for (unsigned seed = 0; seed < 50; seed++) {
    for (uint32_t steps = 1; steps <= 2; steps++) {
      Product p;
      fill<Half>(p, seed);
      check<Half>(&mma_portable, steps, p, brain);
      if (!has_avx512()) continue;
      const Product portable = p;
      check<Half>(&mma_avx512, steps, p, brain);
      ASSERT_TRUE(same_bits(portable.d, p.d));
    }
  }
}

TEST(Tensor, FormsAgree) {
  compare_forms<f16>(Brain::no);
  compare_forms<bf16>(Brain::yes);
}

// Results may go where the sums came from.
TEST(Tensor, InPlace) {
  Product p, q;
  fill<f16>(p, 1);
  q = p;
  mma_portable(p.fragments(), 2, Brain::no);
  MmaFragments f = q.fragments();
  for (int i = 0; i < 4; i++) f.d[i] = q.c[i];
  mma_function()(f, 2, Brain::no);
  EXPECT_TRUE(same_bits(p.d, q.c));
}

}  // namespace
}  // namespace cudream::vgpu
