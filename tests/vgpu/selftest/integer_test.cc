// Integer instructions against C++, with the rules of PTX ISA 9.0 sections 9.7.1, 9.7.2 and 9.7.8 written out again.
#include <fmt/format.h>

#include "tests/vgpu/selftest/op_bench.h"

namespace cudream::vgpu {
namespace {

using u16 = uint16_t;
using s16 = int16_t;
using u32 = uint32_t;
using s32 = int32_t;
using u64 = uint64_t;
using s64 = int64_t;
__extension__ using s128 = __int128;
__extension__ using u128 = unsigned __int128;

template <typename T>
std::string name() {
  return fmt::format("{}{}", std::is_signed_v<T> ? 's' : 'u', sizeof(T) * 8);
}
template <typename T>
std::string same(const std::string& op, int sources) {
  return op + "." + name<T>() + " %d, %a" + (sources > 1 ? ", %b" : "") + (sources > 2 ? ", %c" : "") + ";";
}
template <typename T>
using Big = std::conditional_t<std::is_signed_v<T>, s128, u128>;

template <typename T>
class Integers : public testing::Test {};
using Types = testing::Types<u16, s16, u32, s32, u64, s64>;
TYPED_TEST_SUITE(Integers, Types);

TYPED_TEST(Integers, SumsAndProductsWrap) {
  using T = TypeParam;
  check2<T, T, T>(same<T>("add", 2), [](T a, T b) { return static_cast<T>(Big<T>{a} + b); });
  check2<T, T, T>(same<T>("sub", 2), [](T a, T b) { return static_cast<T>(Big<T>{a} - b); });
  check2<T, T, T>(same<T>("mul.lo", 2), [](T a, T b) { return static_cast<T>(static_cast<u128>(a) * static_cast<u128>(b)); });
  check2<T, T, T>(same<T>("mul.hi", 2), [](T a, T b) { return static_cast<T>(Big<T>{a} * b >> sizeof(T) * 8); });
  check3<T, T, T, T>(same<T>("mad.lo", 3), [](T a, T b, T c) {
    return static_cast<T>(static_cast<u128>(a) * static_cast<u128>(b) + static_cast<u128>(c));
  });
  check3<T, T, T, T>(same<T>("mad.hi", 3), [](T a, T b, T c) {
    return static_cast<T>(static_cast<u128>(Big<T>{a} * b >> sizeof(T) * 8) + static_cast<u128>(c));
  });
  check3<T, T, T, T>(same<T>("sad", 3), [](T a, T b, T c) {
    return static_cast<T>(
        (Big<T>{a} > b ? static_cast<u128>(a) - static_cast<u128>(b) : static_cast<u128>(b) - static_cast<u128>(a)) +
        static_cast<u128>(c));
  });
}

TYPED_TEST(Integers, Quotients) {
  using T = TypeParam;
  // What division by zero gives is not specified; the interpreter gives what hardware does.
  check2<T, T, T>(same<T>("div", 2),
                  [](T a, T b) { return b == 0 ? static_cast<T>(-1) : static_cast<T>(Big<T>{a} / Big<T>{b}); });
  check2<T, T, T>(same<T>("rem", 2), [](T a, T b) { return b == 0 ? a : static_cast<T>(Big<T>{a} % Big<T>{b}); });
}

TYPED_TEST(Integers, Order) {
  using T = TypeParam;
  check2<T, T, T>(same<T>("min", 2), [](T a, T b) { return std::min(a, b); });
  check2<T, T, T>(same<T>("max", 2), [](T a, T b) { return std::max(a, b); });
  const auto comparison = [](const char* op) {
    return fmt::format("setp.{}.{} %p, %a, %b; selp.u32 %d, 1, 0, %p;", op, name<T>());
  };
  check2<u32, T, T>(comparison("eq"), [](T a, T b) { return a == b; });
  check2<u32, T, T>(comparison("ne"), [](T a, T b) { return a != b; });
  check2<u32, T, T>(comparison("lt"), [](T a, T b) { return a < b; });
  check2<u32, T, T>(comparison("le"), [](T a, T b) { return a <= b; });
  check2<u32, T, T>(comparison("gt"), [](T a, T b) { return a > b; });
  check2<u32, T, T>(comparison("ge"), [](T a, T b) { return a >= b; });
}

TYPED_TEST(Integers, Shifts) {
  using T = TypeParam;
  constexpr u32 kWidth = sizeof(T) * 8;
  check2<T, T, u32>(fmt::format("shl.b{} %d, %a, %b;", kWidth),
                    [](T a, u32 n) { return n >= kWidth ? T{0} : static_cast<T>(static_cast<u128>(a) << n); });
  check2<T, T, u32>(fmt::format("shr.{} %d, %a, %b;", name<T>()),
                    [](T a, u32 n) { return static_cast<T>(Big<T>{a} >> std::min(n, 127u)); });
}

TYPED_TEST(Integers, Conversions) {
  using T = TypeParam;
  const auto from = name<T>();
  check1<u16, T>(fmt::format("cvt.u16.{} %d, %a;", from), [](T a) { return static_cast<u16>(a); });
  check1<s32, T>(fmt::format("cvt.s32.{} %d, %a;", from), [](T a) { return static_cast<s32>(a); });
  check1<u32, T>(fmt::format("cvt.u32.{} %d, %a;", from), [](T a) { return static_cast<u32>(a); });
  check1<s64, T>(fmt::format("cvt.s64.{} %d, %a;", from), [](T a) { return static_cast<s64>(a); });
  check1<u64, T>(fmt::format("cvt.u64.{} %d, %a;", from), [](T a) { return static_cast<u64>(a); });
  check1<s32, T>(fmt::format("cvt.s32.s8 %d, %a;"), [](T a) { return static_cast<s32>(static_cast<int8_t>(a)); });
  check1<u32, T>(fmt::format("cvt.u32.u8 %d, %a;"), [](T a) { return static_cast<u32>(static_cast<uint8_t>(a)); });
  check1<s16, T>(fmt::format("cvt.sat.s16.{} %d, %a;", from),
                 [](T a) { return static_cast<s16>(std::clamp<Big<T>>(a, std::is_signed_v<T> ? -32768 : 0, 32767)); });
  check1<u32, T>(fmt::format("cvt.sat.u8.{} %d, %a;", from), [](T a) { return static_cast<u32>(std::clamp<Big<T>>(a, 0, 255)); });
  check1<float, T>(fmt::format("cvt.rn.f32.{} %d, %a;", from), [](T a) { return static_cast<float>(a); });
  check1<double, T>(fmt::format("cvt.rn.f64.{} %d, %a;", from), [](T a) { return static_cast<double>(a); });
}

TEST(Integer, WideProducts) {
  check2<s64, s32, s32>("mul.wide.s32 %d, %a, %b;", [](s32 a, s32 b) { return s64{a} * b; });
  check2<u64, u32, u32>("mul.wide.u32 %d, %a, %b;", [](u32 a, u32 b) { return u64{a} * b; });
  check2<s32, s16, s16>("mul.wide.s16 %d, %a, %b;", [](s16 a, s16 b) { return s32{a} * b; });
  check3<s64, s32, s32, s64>("mad.wide.s32 %d, %a, %b, %c;",
                             [](s32 a, s32 b, s64 c) { return static_cast<s64>(s128{s64{a} * b} + c); });
  check3<u64, u32, u32, u64>("mad.wide.u32 %d, %a, %b, %c;", [](u32 a, u32 b, u64 c) { return u64{a} * b + c; });
}

TEST(Integer, SignedOnly) {
  check1<s32, s32>("neg.s32 %d, %a;", [](s32 a) { return static_cast<s32>(-s64{a}); });
  check1<s64, s64>("neg.s64 %d, %a;", [](s64 a) { return static_cast<s64>(-s128{a}); });
  check1<s32, s32>("abs.s32 %d, %a;", [](s32 a) { return static_cast<s32>(a < 0 ? -s64{a} : a); });
  check2<s32, s32, s32>("add.sat.s32 %d, %a, %b;",
                        [](s32 a, s32 b) { return std::clamp<s64>(s64{a} + b, INT32_MIN, INT32_MAX); });
  check2<s32, s32, s32>("sub.sat.s32 %d, %a, %b;",
                        [](s32 a, s32 b) { return std::clamp<s64>(s64{a} - b, INT32_MIN, INT32_MAX); });
  const auto low24 = [](s32 a) { return s64{a << 8 >> 8}; };
  check2<s32, s32, s32>("mul24.lo.s32 %d, %a, %b;", [&](s32 a, s32 b) { return static_cast<s32>(low24(a) * low24(b)); });
  check2<u32, u32, u32>("mul24.hi.u32 %d, %a, %b;",
                        [](u32 a, u32 b) { return static_cast<u32>(u64{a & 0xffffff} * (b & 0xffffff) >> 16); });
}

// 64-bit sums and products from 32-bit halves with carries, as compilers write them.
TEST(Integer, Carries) {
  const std::string halves = "mov.b64 {%t0, %t1}, %a; mov.b64 {%t2, %t3}, %b; ";
  check2<u64, u64, u64>(halves + "add.cc.u32 %t0, %t0, %t2; addc.u32 %t1, %t1, %t3; mov.b64 %d, {%t0, %t1};",
                        [](u64 a, u64 b) { return a + b; });
  check2<u64, u64, u64>(halves + "sub.cc.u32 %t0, %t0, %t2; subc.u32 %t1, %t1, %t3; mov.b64 %d, {%t0, %t1};",
                        [](u64 a, u64 b) { return a - b; });
  check2<u64, u64, u64>(halves + "mad.lo.cc.u32 %t0, %t0, %t2, %t1; madc.hi.u32 %t1, %t0, %t2, %t3; mov.b64 %d, {%t0, %t1};",
                        [](u64 a, u64 b) {
                          const u32 a0 = static_cast<u32>(a), a1 = static_cast<u32>(a >> 32), b0 = static_cast<u32>(b),
                                    b1 = static_cast<u32>(b >> 32);
                          const u64 low = u64{static_cast<u32>(u64{a0} * b0)} + a1;
                          const u32 high = static_cast<u32>((u64{static_cast<u32>(low)} * b0 >> 32) + b1 + (low >> 32));
                          return u64{high} << 32 | static_cast<u32>(low);
                        });
}

TEST(Integer, Logic) {
  check2<u32, u32, u32>("and.b32 %d, %a, %b;", [](u32 a, u32 b) { return a & b; });
  check2<u64, u64, u64>("or.b64 %d, %a, %b;", [](u64 a, u64 b) { return a | b; });
  check2<u16, u16, u16>("xor.b16 %d, %a, %b;", [](u16 a, u16 b) { return a ^ b; });
  check1<u32, u32>("not.b32 %d, %a;", [](u32 a) { return ~a; });
  check1<u32, u32>("cnot.b32 %d, %a;", [](u32 a) { return a == 0 ? 1u : 0u; });
  check3<u32, u32, u32, u32>("lop3.b32 %d, %a, %b, %c, 0xe8;", [](u32 a, u32 b, u32 c) { return (a & b) | (a & c) | (b & c); });
  check3<u32, u32, u32, u32>("lop3.b32 %d, %a, %b, %c, 0x1b;", [](u32 a, u32 b, u32 c) {
    u32 out = 0;
    for (int i = 0; i < 32; i++) out |= (0x1bu >> ((a >> i & 1) * 4 + (b >> i & 1) * 2 + (c >> i & 1)) & 1) << i;
    return out;
  });
  check2<u32, u32, u32>("setp.lt.u32 %p, %a, %b; setp.eq.u32 %q, %a, 7; and.pred %p, %p, !%q; selp.u32 %d, 5, 6, %p;",
                        [](u32 a, u32 b) { return a < b && a != 7 ? 5u : 6u; });
  check2<u32, u32, u32>(
      "setp.eq.u32 %q, %a, 7; setp.lt.or.u32 %p|%q, %a, %b, %q; selp.u32 %d, 1, 0, %p; selp.u32 %t0, 2, 0, %q; or.b32 %d, %d, "
      "%t0;",
      [](u32 a, u32 b) { return (a < b || a == 7 ? 1u : 0u) | (!(a < b) || a == 7 ? 2u : 0u); });
  check2<u32, u32, u32>("set.gt.u32.s32 %d, %a, %b;",
                        [](u32 a, u32 b) { return static_cast<s32>(a) > static_cast<s32>(b) ? ~0u : 0u; });
  check3<u32, u32, u32, s32>("slct.u32.s32 %d, %a, %b, %c;", [](u32 a, u32 b, s32 c) { return c >= 0 ? a : b; });
}

TEST(Integer, Funnels) {
  check3<u32, u32, u32, u32>("shf.l.wrap.b32 %d, %a, %b, %c;",
                             [](u32 a, u32 b, u32 c) { return (c & 31) == 0 ? b : b << (c & 31) | a >> (32 - (c & 31)); });
  check3<u32, u32, u32, u32>("shf.r.wrap.b32 %d, %a, %b, %c;",
                             [](u32 a, u32 b, u32 c) { return (c & 31) == 0 ? a : a >> (c & 31) | b << (32 - (c & 31)); });
  check3<u32, u32, u32, u32>("shf.l.clamp.b32 %d, %a, %b, %c;", [](u32 a, u32 b, u32 c) {
    return c == 0 ? b : c >= 32 ? a : b << c | a >> (32 - c);
  });
  check3<u32, u32, u32, u32>("shf.r.clamp.b32 %d, %a, %b, %c;", [](u32 a, u32 b, u32 c) {
    return c == 0 ? a : c >= 32 ? b : a >> c | b << (32 - c);
  });
  check3<u32, u32, u32, u32>("prmt.b32 %d, %a, %b, %c;", [](u32 a, u32 b, u32 c) {
    u32 out = 0;
    for (int i = 0; i < 4; i++) {
      const u32 select = c >> 4 * i & 15, word = (select & 4) != 0 ? b : a, byte = word >> 8 * (select & 3) & 255;
      out |= ((select & 8) != 0 ? (byte >= 128 ? 255u : 0u) : byte) << 8 * i;
    }
    return out;
  });
}

TEST(Integer, BitFields) {
  check1<u32, u32>("popc.b32 %d, %a;", [](u32 a) { return std::popcount(a); });
  check1<u32, u64>("popc.b64 %d, %a;", [](u64 a) { return std::popcount(a); });
  check1<u32, u32>("clz.b32 %d, %a;", [](u32 a) { return std::countl_zero(a); });
  check1<u32, u64>("clz.b64 %d, %a;", [](u64 a) { return std::countl_zero(a); });
  check1<u32, u32>("brev.b32 %d, %a;", [](u32 a) {
    u32 out = 0;
    for (int i = 0; i < 32; i++) out |= (a >> i & 1) << (31 - i);
    return out;
  });
  check1<u32, u32>("bfind.u32 %d, %a;", [](u32 a) { return a == 0 ? ~0u : 31u - static_cast<u32>(std::countl_zero(a)); });
  check1<u32, s32>("bfind.s32 %d, %a;", [](s32 a) {
    return a == 0 || a == -1 ? ~0u : 31u - static_cast<u32>(std::countl_zero(static_cast<u32>(a < 0 ? ~a : a)));
  });
  check1<u32, u32>("bfind.shiftamt.u32 %d, %a;", [](u32 a) { return a == 0 ? ~0u : static_cast<u32>(std::countl_zero(a)); });
  check3<u32, u32, u32, u32>("bfe.u32 %d, %a, %b, %c;", [](u32 a, u32 position, u32 length) {
    u32 out = 0;
    for (u32 i = 0; i < (length & 255) && i < 32 && (position & 255) + i < 32; i++) out |= (a >> ((position & 255) + i) & 1) << i;
    return out;
  });
  check3<s32, s32, u32, u32>("bfe.s32 %d, %a, %b, %c;", [](s32 a, u32 position, u32 length) {
    position &= 255;
    length &= 255;
    const u32 sign = length == 0 ? 0 : static_cast<u32>(a) >> std::min(position + length - 1, 31u) & 1;
    u32 out = 0;
    for (u32 i = 0; i < 32; i++)
      out |= (i < length && position + i <= 31 ? static_cast<u32>(a) >> (position + i) & 1 : sign) << i;
    return out;
  });
  check3<u32, u32, u32, u32>("bfi.b32 %d, %a, 0x12345678, %b, %c;", [](u32 a, u32 position, u32 length) {
    u32 out = 0x12345678;
    for (u32 i = 0; i < (length & 255) && (position & 255) + i < 32; i++) {
      const u32 at = (position & 255) + i, bit = i < 32 ? a >> i & 1 : 0;
      out = (out & ~(1u << at)) | bit << at;
    }
    return out;
  });
  check3<u32, u32, u32, u32>("dp4a.s32.s32 %d, %a, %b, %c;", [](u32 a, u32 b, u32 c) {
    for (int i = 0; i < 4; i++) c += static_cast<u32>(int{static_cast<int8_t>(a >> 8 * i)} * static_cast<int8_t>(b >> 8 * i));
    return c;
  });
}

// A register wider than the type: PTX reads its low part and extends results.
TEST(Integer, WiderRegisters) {
  check1<s64, u64>("cvt.s64.s32 %d, %a;", [](u64 a) { return s64{static_cast<s32>(a)}; });
  check2<u32, u64, u32>("st.local.u16 [buffer], %a; ld.local.s16 %d, [buffer];",
                        [](u64 a, u32) { return static_cast<u32>(static_cast<s32>(static_cast<s16>(a))); });
  check1<u32, u64>("mov.b64 {%t0, %t1}, %a; xor.b32 %d, %t0, %t1;",
                   [](u64 a) { return static_cast<u32>(a) ^ static_cast<u32>(a >> 32); });
  check1<u64, u32>("mov.b32 {%h0, %h1}, %a; mov.b64 %d, {%h1, %h0, %h0, %h1};",
                   [](u32 a) { return u64{a >> 16} | u64{a & 0xffff} << 16 | u64{a & 0xffff} << 32 | u64{a >> 16} << 48; });
}

}  // namespace
}  // namespace cudream::vgpu
