// Float instructions and conversions against C++, with the rules of PTX ISA 9.0 sections 9.7.3, 9.7.4 and 9.7.9 written out
// again. Sums and products demand the same bits, rounding modes and .ftz included.
#include <fmt/format.h>

#include <cfenv>

#include "core/half.h"
#include "tests/vgpu/selftest/op_bench.h"

namespace cudream::vgpu {
namespace {

using u16 = uint16_t;
using u32 = uint32_t;
using s32 = int32_t;
using u64 = uint64_t;
using s64 = int64_t;

// f under a rounding mode. The compiler must not look through.
template <typename Function>
auto rounded(int mode, Function f) {
  return [mode, f](auto... args) {
    std::fesetround(mode);
    volatile auto result = f(static_cast<volatile decltype(args)>(args)...);
    std::fesetround(FE_TONEAREST);
    return result;
  };
}
// A subnormal becomes a zero of its sign.
float flush(float a) {
  return std::fpclassify(a) == FP_SUBNORMAL ? std::copysign(0.0f, a) : a;
}

template <typename T>
std::string name() {
  return fmt::format("f{}", sizeof(T) * 8);
}

template <typename T>
class Floats : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Floats, Types);

TYPED_TEST(Floats, ArithmeticIsExactlyRounded) {
  using T = TypeParam;
  const auto op = [](const char* text) { return fmt::format("{}.{} %d, %a, %b;", text, name<T>()); };
  const auto sum = [](auto a, auto b) -> T { return a + b; };
  const auto product = [](auto a, auto b) -> T { return a * b; };
  check2<T, T, T>(op("add"), sum);
  check2<T, T, T>(op("add.rn"), sum);
  check2<T, T, T>(op("add.rz"), rounded(FE_TOWARDZERO, sum));
  check2<T, T, T>(op("add.rm"), rounded(FE_DOWNWARD, sum));
  check2<T, T, T>(op("add.rp"), rounded(FE_UPWARD, sum));
  check2<T, T, T>(op("sub"), [](T a, T b) { return a - b; });
  check2<T, T, T>(op("mul"), product);
  check2<T, T, T>(op("mul.rz"), rounded(FE_TOWARDZERO, product));
  check2<T, T, T>(op("div.rn"), [](T a, T b) { return a / b; });
  check3<T, T, T, T>(fmt::format("fma.rn.{} %d, %a, %b, %c;", name<T>()), [](T a, T b, T c) { return std::fma(a, b, c); });
  check3<T, T, T, T>(fmt::format("fma.rm.{} %d, %a, %b, %c;", name<T>()),
                     rounded(FE_DOWNWARD, [](auto a, auto b, auto c) -> T { return std::fma(T{a}, T{b}, T{c}); }));
  check1<T, T>(fmt::format("sqrt.rn.{} %d, %a;", name<T>()), [](T a) { return std::sqrt(a); });
  check1<T, T>(fmt::format("rcp.rn.{} %d, %a;", name<T>()), [](T a) { return T{1} / a; });
}

TYPED_TEST(Floats, SignsAndOrder) {
  using T = TypeParam;
  const auto op2 = [](const char* text) { return fmt::format("{}.{} %d, %a, %b;", text, name<T>()); };
  check1<T, T>(fmt::format("neg.{} %d, %a;", name<T>()), [](T a) { return -a; });
  check1<T, T>(fmt::format("abs.{} %d, %a;", name<T>()), [](T a) { return std::fabs(a); });
  check2<T, T, T>(op2("copysign"), [](T a, T b) { return std::copysign(b, a); });
  check2<T, T, T>(op2("min"), [](T a, T b) {
    return a != a ? b : b != b ? a : a == b ? (std::signbit(a) ? a : b) : std::min(a, b);
  });
  check2<T, T, T>(op2("max"), [](T a, T b) {
    return a != a ? b : b != b ? a : a == b ? (std::signbit(a) ? b : a) : std::max(a, b);
  });
  const auto comparison = [](const char* op) {
    return fmt::format("setp.{}.{} %p, %a, %b; selp.u32 %d, 1, 0, %p;", op, name<T>());
  };
  const auto unordered = [](T a, T b) { return a != a || b != b; };
  check2<u32, T, T>(comparison("eq"), [](T a, T b) { return a == b; });
  check2<u32, T, T>(comparison("ne"), [&](T a, T b) { return !unordered(a, b) && a != b; });
  check2<u32, T, T>(comparison("lt"), [](T a, T b) { return a < b; });
  check2<u32, T, T>(comparison("le"), [](T a, T b) { return a <= b; });
  check2<u32, T, T>(comparison("gt"), [](T a, T b) { return a > b; });
  check2<u32, T, T>(comparison("ge"), [](T a, T b) { return a >= b; });
  check2<u32, T, T>(comparison("equ"), [&](T a, T b) { return unordered(a, b) || a == b; });
  check2<u32, T, T>(comparison("neu"), [&](T a, T b) { return unordered(a, b) || a != b; });
  check2<u32, T, T>(comparison("ltu"), [&](T a, T b) { return unordered(a, b) || a < b; });
  check2<u32, T, T>(comparison("leu"), [&](T a, T b) { return unordered(a, b) || a <= b; });
  check2<u32, T, T>(comparison("gtu"), [&](T a, T b) { return unordered(a, b) || a > b; });
  check2<u32, T, T>(comparison("geu"), [&](T a, T b) { return unordered(a, b) || a >= b; });
  check2<u32, T, T>(comparison("num"), [&](T a, T b) { return !unordered(a, b); });
  check2<u32, T, T>(comparison("nan"), unordered);
  check1<u32, T>(fmt::format("testp.subnormal.{} %p, %a; selp.u32 %d, 1, 0, %p;", name<T>()),
                 [](T a) { return std::fpclassify(a) == FP_SUBNORMAL; });
  check1<u32, T>(fmt::format("testp.finite.{} %p, %a; selp.u32 %d, 1, 0, %p;", name<T>()), [](T a) { return std::isfinite(a); });
}

TYPED_TEST(Floats, ToIntegers) {
  using T = TypeParam;
  const auto clamp = [](double v, double low, double high) { return v < low ? low : v > high ? high : v; };
  const auto s32_of = [clamp](T v) -> s32 {
    if (v != v) return sizeof(T) == 8 ? INT32_MIN : 0;
    return static_cast<s32>(clamp(double(v), INT32_MIN, INT32_MAX));
  };
  const std::string from = name<T>();
  check1<s32, T>("cvt.rni.s32." + from + " %d, %a;", [&](T a) { return s32_of(std::nearbyint(a)); });
  check1<s32, T>("cvt.rzi.s32." + from + " %d, %a;", [&](T a) { return s32_of(std::trunc(a)); });
  check1<s32, T>("cvt.rmi.s32." + from + " %d, %a;", [&](T a) { return s32_of(std::floor(a)); });
  check1<s32, T>("cvt.rpi.s32." + from + " %d, %a;", [&](T a) { return s32_of(std::ceil(a)); });
  check1<u32, T>("cvt.rzi.u32." + from + " %d, %a;", [&](T a) -> u32 {
    if (a != a) return sizeof(T) == 8 ? 0x80000000u : 0;
    return static_cast<u32>(clamp(double(a), 0, UINT32_MAX));
  });
  check1<s64, T>("cvt.rzi.s64." + from + " %d, %a;", [](T a) -> s64 {
    if (a != a) return INT64_MIN;
    return a >= T(0x1p63) ? INT64_MAX : a <= T(-0x1p63) ? INT64_MIN : static_cast<s64>(a);
  });
  check1<T, T>("cvt.rni." + from + "." + from + " %d, %a;", [](T a) { return std::nearbyint(a); });
  check1<T, T>("cvt.rzi." + from + "." + from + " %d, %a;", [](T a) { return std::trunc(a); });
  check1<T, T>("cvt.rmi." + from + "." + from + " %d, %a;", [](T a) { return std::floor(a); });
  check1<T, T>("cvt.rpi." + from + "." + from + " %d, %a;", [](T a) { return std::ceil(a); });
}

TEST(Float, FlushesSubnormalsOnlyWhenAsked) {
  check2<float, float, float>("add.ftz.f32 %d, %a, %b;", [](float a, float b) { return flush(flush(a) + flush(b)); });
  check2<float, float, float>("mul.ftz.f32 %d, %a, %b;", [](float a, float b) { return flush(flush(a) * flush(b)); });
  check2<u32, float, float>("setp.eq.ftz.f32 %p, %a, %b; selp.u32 %d, 1, 0, %p;",
                            [](float a, float b) { return flush(a) == flush(b); });
  check1<float, float>("add.f32 %d, %a, 0f00000000;", [](float a) { return a + 0.0f; });
}

TEST(Float, Saturation) {
  const auto sat = [](float a) { return a > 0 ? std::min(a, 1.0f) : 0.0f; };
  check2<float, float, float>("add.sat.f32 %d, %a, %b;", [&](float a, float b) { return sat(a + b); });
  check3<float, float, float, float>("fma.rn.sat.f32 %d, %a, %b, %c;",
                                     [&](float a, float b, float c) { return sat(std::fma(a, b, c)); });
  check1<float, float>("cvt.sat.f32.f32 %d, %a;", sat);
}

// Bounds from PTX ISA 9.0, the tables of each instruction.
TEST(Float, ApproximationsAreWithinTheirBounds) {
  check1<float, float>(
      "rcp.approx.f32 %d, %a;", [](float a) { return 1.0f / a; }, 1);
  check1<float, float>(
      "rsqrt.approx.f32 %d, %a;", [](float a) { return static_cast<float>(1 / std::sqrt(double(a))); }, 2);
  check1<float, float>(
      "sqrt.approx.f32 %d, %a;", [](float a) { return std::sqrt(a); }, 1);
  check1<float, float>(
      "ex2.approx.f32 %d, %a;", [](float a) { return static_cast<float>(std::exp2(double(a))); }, 2);
  check1<float, float>(
      "lg2.approx.f32 %d, %a;", [](float a) { return static_cast<float>(std::log2(double(a))); }, 2);
  check1<float, float>(
      "tanh.approx.f32 %d, %a;", [](float a) { return static_cast<float>(std::tanh(double(a))); }, 2);
  check2<float, float, float>(
      "div.approx.f32 %d, %a, %b;", [](float a, float b) { return a / b; }, 2);
  check2<float, float, float>(
      "div.full.f32 %d, %a, %b;", [](float a, float b) { return a / b; }, 2);
}

TEST(Float, Conversions) {
  check1<double, float>("cvt.f64.f32 %d, %a;", [](float a) { return double(a); });
  check1<float, double>("cvt.rn.f32.f64 %d, %a;", [](double a) { return static_cast<float>(a); });
  check1<float, double>("cvt.rz.f32.f64 %d, %a;", rounded(FE_TOWARDZERO, [](auto a) { return static_cast<float>(a); }));
  check1<float, s32>("cvt.rz.f32.s32 %d, %a;", rounded(FE_TOWARDZERO, [](auto a) { return static_cast<float>(a); }));
  check1<float, s32>("cvt.rp.f32.s32 %d, %a;", rounded(FE_UPWARD, [](auto a) { return static_cast<float>(a); }));
  check1<u16, float>("cvt.rn.f16.f32 %d, %a;", [](float a) { return f16(a).bits; });
  check1<u16, float>("cvt.rn.bf16.f32 %d, %a;", [](float a) { return bf16(a).bits; });
  check2<u32, float, float>("cvt.rn.f16x2.f32 %d, %a, %b;",
                            [](float a, float b) { return u32{f16(a).bits} << 16 | f16(b).bits; });
  check2<u32, float, float>("cvt.rn.bf16x2.f32 %d, %a, %b;",
                            [](float a, float b) { return u32{bf16(a).bits} << 16 | bf16(b).bits; });
}

// All 65536 halves through the conversions and the arithmetic that must be exact.
template <typename Half>
void check_halves(const std::string& type) {
  Words a(65536), none(65536);
  std::vector<float> want(65536);
  std::vector<u16> sums(65536), products(65536);
  Words b(65536);
  for (u32 i = 0; i < 65536; i++) {
    Half h, other;
    h.bits = static_cast<u16>(i);
    other.bits = static_cast<u16>(i * 40503u >> 3);
    a[i] = i;
    b[i] = other.bits;
    const float x = static_cast<float>(h), y = static_cast<float>(other);
    want[i] = x;
    sums[i] = Half(x + y).bits;
    products[i] = Half(x * y).bits;
  }
  compare("cvt.f32." + type + " %d, %a;", run_statements("cvt.f32." + type + " %d, %a;", {32, 16, 16, 32}, a, none, none), want,
          a, none, none, 0);
  const auto is_nan = [](u16 bits) {
    Half h;
    h.bits = bits;
    return static_cast<float>(h) != static_cast<float>(h);
  };
  const auto same = [&](const std::string& op, const std::vector<u16>& expected) {
    const Words got = run_statements(op, {16, 16, 16, 32}, a, b, none);
    for (u32 i = 0; i < 65536; i++) {
      const auto bits = static_cast<u16>(got[i]);
      ASSERT_TRUE(bits == expected[i] || (is_nan(bits) && is_nan(expected[i]))) << op << " of " << a[i] << ", " << b[i];
    }
  };
  same("add." + type + " %d, %a, %b;", sums);
  same("mul." + type + " %d, %a, %b;", products);
}

TEST(Float, EveryHalf) {
  check_halves<f16>("f16");
  check_halves<bf16>("bf16");
}

}  // namespace
}  // namespace cudream::vgpu
