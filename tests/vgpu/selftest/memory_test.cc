// Loads, stores, address conversion and atomics against C++ (PTX ISA 9.0, sections 9.7.9 and 9.7.13).
#include <fmt/format.h>

#include "core/half.h"
#include "tests/vgpu/selftest/op_bench.h"

namespace cudream::vgpu {
namespace {

using u16 = uint16_t;
using u32 = uint32_t;
using s32 = int32_t;
using u64 = uint64_t;
using s64 = int64_t;

TEST(Memory, NarrowLoadsExtendAndNarrowStoresCut) {
  check1<u32, u32>("st.local.u32 [buffer], %a; ld.local.u8 %d, [buffer+1];", [](u32 a) { return a >> 8 & 0xff; });
  check1<s32, u32>("st.local.u32 [buffer], %a; ld.local.s8 %d, [buffer];", [](u32 a) { return s32{static_cast<int8_t>(a)}; });
  check1<s64, u32>("st.shared.u32 [%cell], %a; ld.shared.s16 %d, [%cell+2];",
                   [](u32 a) { return s64{static_cast<int16_t>(a >> 16)}; });
  check1<u64, u64>("st.shared.u64 [%cell], %a; st.shared.u8 [%cell+7], 0x21; ld.shared.b64 %d, [%cell];",
                   [](u64 a) { return (a & 0x00ffffffffffffffu) | u64{0x21} << 56; });
  check1<u16, u32>("st.local.u32 [buffer], %a; ld.local.u8 %d, [buffer+3];", [](u32 a) { return a >> 24; });
}

TEST(Memory, Vectors) {
  check2<u64, u32, u32>("st.local.v2.u32 [buffer], {%a, %b}; ld.local.u64 %d, [buffer];",
                        [](u32 a, u32 b) { return u64{b} << 32 | a; });
  check2<u32, u64, u64>(
      "st.local.v2.b64 [buffer], {%a, %b}; ld.local.v4.b32 {%t0, %t1, %t2, %t3}, [buffer]; xor.b32 %d, %t1, %t2;",
      [](u64 a, u64 b) { return static_cast<u32>(a >> 32) ^ static_cast<u32>(b); });
  check1<u32, u32>("st.shared.u32 [%cell], %a; ld.shared.v4.u8 {%h0, %h1, %h2, %h3}, [%cell]; mov.b32 %d, {%h3, %h1};",
                   [](u32 a) { return (a >> 8 & 0xff) << 16 | a >> 24; });
}

TEST(Memory, GenericAddresses) {
  const std::string to_shared = "cvt.u64.u32 %w0, %cell; cvta.shared.u64 %w1, %w0; ";
  const std::string to_local = "mov.u64 %w0, buffer; cvta.local.u64 %w1, %w0; ";
  check1<u32, u32>(to_shared + "st.u32 [%w1], %a; ld.shared.u32 %d, [%cell];", [](u32 a) { return a; });
  check1<u32, u32>(to_local + "st.u32 [%w1+4], %a; ld.local.u32 %d, [buffer+4];", [](u32 a) { return a; });
  check1<u64, u64>(to_local + "cvta.to.local.u64 %w2, %w1; sub.s64 %d, %w2, %w0;", [](u64) { return 0; });
  // Half of the lanes point into shared memory, half into local memory.
  check1<u32, u32>(
      to_shared + "mov.u64 %w2, %w1; " + to_local +
          "and.b32 %t1, %a, 1; setp.eq.u32 %p, %t1, 0; selp.b64 %w3, %w1, %w2, %p; st.u32 [%w3], %a; ld.u32 %d, [%w3];",
      [](u32 a) { return a; });
  check1<u32, u32>(
      to_shared +
          "isspacep.shared %p, %w1; isspacep.local %q, %w1; selp.u32 %d, 1, 0, %p; selp.u32 %t0, 2, 0, %q; or.b32 %d, %d, %t0;",
      [](u32) { return 1; });
  check1<u32, u32>("isspacep.global %p, %base; selp.u32 %d, 1, 0, %p;", [](u32) { return 1; });
}

// The old value and the new one, xor-ed after a rotation so that neither can hide the other.
template <typename T, typename Function>
void check_atomic(const std::string& op, Function f) {
  const int bits = kBits<T>;
  const std::string w = bits == 64 ? "%w" : "%t";
  const auto statements = fmt::format(
      "st.shared.b{0} [%cell], %a; atom.shared.{1} {2}0, [%cell], %b; ld.shared.b{0} {2}1, [%cell];"
      "shl.b{0} {2}2, {2}1, 1; shr.u{0} {2}3, {2}1, {3}; or.b{0} {2}2, {2}2, {2}3; xor.b{0} %d, {2}0, {2}2;",
      bits, op, w, bits - 1);
  using U = std::conditional_t<sizeof(T) == 8, u64, u32>;
  check2<U, T, T>(statements, [f](T a, T b) {
    const U made = from_word<U>(to_word(static_cast<T>(f(a, b))));
    return static_cast<U>(from_word<U>(to_word(a)) ^ (made << 1 | made >> (sizeof(U) * 8 - 1)));
  });
  // And without the old value.
  check2<U, T, T>(fmt::format("st.shared.b{0} [%cell], %a; red.shared.{1} [%cell], %b; ld.shared.b{0} %d, [%cell];", bits, op),
                  [f](T a, T b) { return from_word<U>(to_word(static_cast<T>(f(a, b)))); });
}

TEST(Memory, Atomics) {
  check_atomic<u32>("add.u32", [](u32 a, u32 b) { return a + b; });
  check_atomic<u64>("add.u64", [](u64 a, u64 b) { return a + b; });
  check_atomic<s32>("min.s32", [](s32 a, s32 b) { return std::min(a, b); });
  check_atomic<s32>("max.s32", [](s32 a, s32 b) { return std::max(a, b); });
  check_atomic<u32>("min.u32", [](u32 a, u32 b) { return std::min(a, b); });
  check_atomic<u64>("max.u64", [](u64 a, u64 b) { return std::max(a, b); });
  check_atomic<u32>("and.b32", [](u32 a, u32 b) { return a & b; });
  check_atomic<u32>("or.b32", [](u32 a, u32 b) { return a | b; });
  check_atomic<u64>("xor.b64", [](u64 a, u64 b) { return a ^ b; });
  check_atomic<u32>("inc.u32", [](u32 a, u32 b) { return a >= b ? 0 : a + 1; });
  check_atomic<u32>("dec.u32", [](u32 a, u32 b) { return a == 0 || a > b ? b : a - 1; });
  check2<u32, u32, u32>(
      "st.shared.u32 [%cell], %a; atom.shared.exch.b32 %t0, [%cell], %b; ld.shared.u32 %t1, [%cell]; sub.u32 %d, %t0, %t1;",
      [](u32 a, u32 b) { return a - b; });
  check3<u32, u32, u32, u32>(
      "st.shared.u32 [%cell], %a; atom.shared.cas.b32 %t0, [%cell], %b, %c; ld.shared.u32 %t1, [%cell]; sub.u32 %d, %t0, %t1;",
      [](u32 a, u32 b, u32 c) { return a - (a == b ? c : a); });
  check2<float, float, float>("st.shared.f32 [%cell], %a; red.shared.add.f32 [%cell], %b; ld.shared.f32 %d, [%cell];",
                              [](float a, float b) { return a + b; });
  check2<u32, u32, u32>(
      "st.shared.u32 [%cell], %a; red.shared.add.noftz.f16x2 [%cell], %b; ld.shared.u32 %d, [%cell]; and.b32 %d, %d, 0x7c007c00;",
      [](u32 a, u32 b) {
        u32 out = 0;
        for (int shift = 0; shift < 32; shift += 16) {
          f16 x, y;
          x.bits = static_cast<u16>(a >> shift);
          y.bits = static_cast<u16>(b >> shift);
          out |= (u32{f16(static_cast<float>(x) + static_cast<float>(y)).bits} & 0x7c00) << shift;
        }
        return out;
      });
}

// All threads of all blocks add to one place.
TEST(Memory, AtomicsOfManyThreadsAddUp) {
  const Words a(64 * 50, 3), none(64 * 50);
  const Words d = run_statements("ld.param.u64 %w0, [p_b]; cvt.u32.u64 %t0, %a; atom.global.add.u32 %d, [%w0], %t0;",
                                 {32, 64, 32, 32}, a, none, none);
  u64 most = 0, sum = 0;
  for (const u64 before : d) {
    most = std::max(most, before);
    sum += before;
  }
  EXPECT_EQ(most, 3u * (64 * 50 - 1));
  EXPECT_EQ(sum, 3u * (64ull * 50) * (64 * 50 - 1) / 2) << "each step was seen by one thread";
}

}  // namespace
}  // namespace cudream::vgpu
