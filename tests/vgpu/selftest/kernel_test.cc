// Kernels as nvcc compiles them, run through the driver and compared with C++.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <random>

#include "core/half.h"
#include "tests/vgpu/selftest/virtual_card.h"

namespace cudream::vgpu {
namespace {

class Kernels : public testing::Test {
 protected:
  void SetUp() override { card.load("kernels.ptx"); }
  VirtualCard card;
};

std::vector<float> random_floats(size_t n, float low, float high, unsigned seed) {
  std::mt19937 engine(seed);
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<float> out(n);
  for (float& v : out) v = uniform(engine);
  return out;
}

TEST_F(Kernels, Add) {
  const int n = 100'001;
  const auto x = random_floats(n, -1, 1, 1), y = random_floats(n, -1, 1, 2);
  CardArray<float> a(x), b(y), c(n);
  check(card.launch("add", (n + 255) / 256, 256, 0, a.get(), b.get(), c.get(), n), "add");
  const auto z = c.values();
  for (int i = 0; i < n; i++) ASSERT_EQ(z[i], x[i] + y[i]) << i;
}

struct MathCase {
  const char* name;
  int which;
  double (*expected)(double);
  double
      ulps;  // documented maximum (CUDA C++ Programming Guide, mathematical functions appendix), one added for the approximations
  float low, high;
};
void PrintTo(const MathCase& m, std::ostream* out) {
  *out << m.name;
}
class MathFunctions : public Kernels, public testing::WithParamInterface<MathCase> {};

TEST_P(MathFunctions, AreWithinTheirDocumentedError) {
  const MathCase m = GetParam();
  struct {
    CUdeviceptr x, y;
    int n, which;
  } args{};
  auto x = random_floats(4000, m.low, m.high, 3);
  for (const float edge : {0.0f, -0.0f, 1.0f, -1.0f, 0.5f, 1e-30f, 1e-40f, 2.0f, 100.0f}) {
    if (edge >= m.low && edge <= m.high) x.push_back(edge);
  }
  CardArray<float> in(x), out(x.size());
  args = {in.get(), out.get(), static_cast<int>(x.size()), m.which};
  check(card.launch("math", static_cast<unsigned>(x.size() + 127) / 128, 128, 0, args), "math");
  const auto y = out.values();
  for (size_t i = 0; i < x.size(); i++) {
    const double want = m.expected(x[i]);
    const float near = static_cast<float>(want);
    if (std::isinf(near) || std::isnan(near)) {
      ASSERT_TRUE(std::isnan(near) ? std::isnan(y[i]) : y[i] == near)
          << m.name << "(" << x[i] << ") = " << y[i] << ", expected " << near;
      continue;
    }
    const double ulp = std::max<double>(std::nextafter(std::fabs(near), INFINITY) - std::fabs(near), 0x1p-149);
    ASSERT_LE(std::fabs(y[i] - want), m.ulps * ulp) << m.name << "(" << x[i] << ") = " << y[i] << ", expected " << want;
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, MathFunctions,
    testing::Values(MathCase{"expf", 0, std::exp, 2, -110, 100}, MathCase{"erff", 1, std::erf, 3, -5, 5},
                    MathCase{"logf", 2, std::log, 2, 0, 1e10f}, MathCase{"sinf", 3, std::sin, 3, -100, 100},
                    MathCase{"sinf far", 3, std::sin, 3, -3e8f, 3e8f}, MathCase{"cosf", 4, std::cos, 3, -1e6f, 1e6f},
                    MathCase{"rsqrtf", 5, [](double v) { return 1 / std::sqrt(v); }, 3, 0, 1e20f},
                    MathCase{"sqrtf", 6, std::sqrt, 0.5, 0, 1e20f},
                    MathCase{"reciprocal", 7, [](double v) { return 1 / v; }, 0.5, -1e3f, 1e3f},
                    MathCase{"tanhf", 8, std::tanh, 3, -12, 12}, MathCase{"exp2f", 9, std::exp2, 3, -150, 128},
                    MathCase{"log1pf", 10, std::log1p, 2, -0.9f, 100}, MathCase{"expm1f", 11, std::expm1, 2, -20, 80},
                    MathCase{"silu", 12, [](double v) { return v / (1 + std::exp(-v)); }, 40, -40, 40},
                    MathCase{"rintf", 13, std::nearbyint, 0, -1e5f, 1e5f}, MathCase{"floorf", 14, std::floor, 0, -1e5f, 1e5f},
                    MathCase{"fmodf", 15, [](double v) { return std::fmod(v, 3.0); }, 0, -1e6f, 1e6f},
                    MathCase{"powf", 16, [](double v) { return std::pow(std::fabs(v), static_cast<double>(1.7f)); }, 9, -1e5f,
                             1e5f},
                    MathCase{"cbrtf", 17, std::cbrt, 2, -1e8f, 1e8f}),
    [](const testing::TestParamInfo<MathCase>& tested) {
      std::string name = tested.param.name;
      for (char& c : name) c = c == ' ' ? '_' : c;
      return name;
    });

TEST_F(Kernels, Halves) {
  const int n = 2000;
  const auto x = random_floats(n, -3, 3, 4), y = random_floats(n, -1e-4f, 70000, 5);
  CardArray<float> a(x), b(y), out(8 * n);
  check(card.launch("halves", (n + 127) / 128, 128, 0, a.get(), b.get(), out.get(), n), "halves");
  const auto o = out.values();
  const auto h = [](float v) { return static_cast<float>(f16(v)); };
  const auto brain = [](float v) { return static_cast<float>(bf16(v)); };
  for (int i = 0; i < n; i++) {
    const float p = h(x[i]), q = h(y[i]), r = brain(x[i]), s = brain(y[i]);
    const std::array<float, 8> want = {h(p + q),     h(p * q), h(p * q + p),   brain(r + s),
                                       brain(r * s), p - q,    std::max(p, q), std::min(r, s)};
    for (int k = 0; k < 8; k++) {
      if (std::isnan(want[k])) {
        ASSERT_TRUE(std::isnan(o[8 * i + k])) << k;
      } else {
        ASSERT_EQ(o[8 * i + k], want[k]) << "value " << k << " of " << x[i] << ", " << y[i];
      }
    }
  }
}

TEST_F(Kernels, SumsByShufflesAndAtomics) {
  const int n = 5000, blocks = 20;
  std::vector<float> x(n);
  for (int i = 0; i < n; i++) x[i] = static_cast<float>(i % 7);
  CardArray<float> in(x), sums(blocks);
  CardArray<unsigned> total(std::vector<unsigned>(1, 0));
  check(card.launch("sums", blocks, 256, 8 * sizeof(float), in.get(), sums.get(), total.get(), n), "sums");
  const auto partial = sums.values();
  unsigned all = 0;
  for (int b = 0; b < blocks; b++) {
    unsigned want = 0;
    for (int i = b * 256; i < std::min(n, b * 256 + 256); i++) want += static_cast<unsigned>(i % 7);
    ASSERT_EQ(partial[b], static_cast<float>(want));
    all += want;
  }
  EXPECT_EQ(total.values()[0], all);
}

TEST_F(Kernels, DivergentLoops) {
  const int n = 1000;
  std::vector<int> x(n);
  for (int i = 0; i < n; i++) x[i] = i + 1;
  CardArray<int> in(x), out(n);
  check(card.launch("collatz", (n + 127) / 128, 128, 0, in.get(), out.get(), n), "collatz");
  const auto steps = out.values();
  for (int i = 0; i < n; i++) {
    int count = 0;
    for (int v = i + 1; v != 1; count++) v = v % 2 == 0 ? v / 2 : 3 * v + 1;
    ASSERT_EQ(steps[i], count) << i + 1;
  }
}

TEST_F(Kernels, SpinLocksBetweenLanesAndWarpsEnd) {
  CardArray<int> flag(std::vector<int>{0}), lock(std::vector<int>{0}), count(std::vector<int>{0});
  check(card.launch("handshake", 1, 64, 0, flag.get(), lock.get(), count.get()), "handshake");
  EXPECT_EQ(count.values()[0], 64);
}

TEST_F(Kernels, WarpVotes) {
  std::vector<int> x(64);
  for (int i = 0; i < 64; i++) x[i] = i % 32 * 7 % 11;
  CardArray<int> in(x);
  CardArray<unsigned> out(64 * 8);
  check(card.launch("warp_votes", 1, 64, 0, in.get(), out.get()), "warp_votes");
  const auto o = out.values();
  for (int t = 0; t < 64; t++) {
    const int first = t / 32 * 32;
    unsigned ballot = 0, same = 0, sum = 0, odd = 0;
    for (int l = 0; l < 32; l++) {
      ballot |= static_cast<unsigned>(x[first + l] > 5) << l;
      same |= static_cast<unsigned>(x[first + l] == x[t]) << l;
      sum += static_cast<unsigned>(x[first + l]);
    }
    for (const int v : x) odd += static_cast<unsigned>(v & 1);
    const int lane = t % 32, up = lane >= 3 ? x[t - 3] : x[t], eighth = x[first + lane / 8 * 8 + 5];
    const std::array<unsigned, 8> want = {ballot, 1, 1, same, sum, odd, 0, static_cast<unsigned>(up * 1000 + eighth)};
    for (int k = 0; k < 8; k++) ASSERT_EQ(o[8 * t + k], want[k]) << "thread " << t << " value " << k;
  }
}

TEST_F(Kernels, ConstantsGlobalsAndLocals) {
  CardArray<float> out(64);
  check(card.launch("variables", 1, 64, 0, out.get()), "variables");
  const auto y = out.values();
  const std::array<float, 4> table = {1.5f, -2.0f, 3.25f, 4.0f};
  for (int t = 0; t < 64; t++) {
    float want = table[t & 3] + static_cast<float>(t & 15);
    for (int i = 0; i < 16; i++) want += ((i * t) & 15) == (t & 15) ? 1.0f : 0.0f;
    ASSERT_EQ(y[t], want) << t;
  }
}

template <typename Half>
void check_product(const VirtualCard& card, const char* kernel) {
  const int k = 96;
  const auto x = random_floats(64 * k, -1, 1, 6), y = random_floats(64 * k, -1, 1, 7);
  std::vector<uint16_t> a(x.size()), b(y.size());
  for (size_t i = 0; i < a.size(); i++) {
    a[i] = Half(x[i]).bits;
    b[i] = Half(y[i]).bits;
  }
  CardArray<uint16_t> da(a), db(b);
  CardArray<float> dc(64 * 64);
  check(card.launch(kernel, 1, 128, 0, da.get(), db.get(), dc.get(), k), kernel);
  const auto c = dc.values();
  for (int row = 0; row < 64; row++) {
    for (int column = 0; column < 64; column++) {
      double want = 0;
      for (int i = 0; i < k; i++)
        want += double{static_cast<float>(Half(x[row * k + i]))} * static_cast<float>(Half(y[column * k + i]));
      ASSERT_NEAR(c[row * 64 + column], want, 1e-5) << row << ", " << column;
    }
  }
}

TEST_F(Kernels, TensorCoreProducts) {
  check_product<f16>(card, "product_f16");
  check_product<bf16>(card, "product_bf16");
}

}  // namespace
}  // namespace cudream::vgpu
