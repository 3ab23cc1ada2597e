// Runs a few PTX statements on every combination of edge values and compares with a function of C++.
#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace cudream::vgpu {

// One 64-bit word a thread and operand; the low bytes count.
using Words = std::vector<uint64_t>;

// Runs `statements`, which read %a, %b and %c and write %d (registers of the given bits), for thread i on a[i], b[i], c[i].
// They may use %t0 to %t3 (32 bits), %h0 to %h3 (16), %w0 to %w3 (64), %p and %q (predicates), `buffer` (16 bytes of local
// memory) and 8 bytes of shared memory at [%cell].
struct Widths {
  int d = 32, a = 32, b = 32, c = 32;
};
Words run_statements(const std::string& statements, Widths widths, const Words& a, const Words& b, const Words& c);

template <typename T>
uint64_t to_word(T value) {
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  return word;
}
template <typename T>
T from_word(uint64_t word) {
  T value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// Numbers at which operations change their ways.
template <typename T>
std::vector<T> edges() {
  using L = std::numeric_limits<T>;
  if constexpr (std::is_floating_point_v<T>) {
    return {T(0),
            -T(0),
            T(1),
            T(-1),
            T(0.5),
            T(-0.5),
            T(1.5),
            T(2.5),
            T(-2.5),
            T(3.14159265),
            T(1e-3),
            T(-1e5),
            T(16777217),
            T(2147483648.0),
            T(-2147483648.0),
            T(4294967296.0),
            T(1e19),
            T(-1e19),
            L::max(),
            L::lowest(),
            L::min(),
            -L::min(),
            L::denorm_min(),
            L::min() / 2,
            L::infinity(),
            -L::infinity(),
            L::quiet_NaN(),
            T(0.1),
            T(65504),
            T(65520),
            T(6e-8),
            T(-0.999999)};
  } else {
    return {T(0),
            T(1),
            T(2),
            T(3),
            T(7),
            T(8),
            T(15),
            T(16),
            T(31),
            T(32),
            T(33),
            T(63),
            T(64),
            T(100),
            T(200),
            T(255),
            L::max(),
            static_cast<T>(L::max() - 1),
            L::min(),
            static_cast<T>(L::min() + 1),
            static_cast<T>(-1),
            static_cast<T>(-2),
            static_cast<T>(0x5555555555555555),
            static_cast<T>(0x123456789abcdef1),
            static_cast<T>(-1000)};
  }
}

// What a result may differ from the expected one: 0 demands the same bits, NaN any NaN.
template <typename T>
bool close(T got, T want, double ulps) {
  if constexpr (std::is_floating_point_v<T>) {
    if (want != want) return got != got;
    if (to_word(got) == to_word(want)) return true;
    if (ulps == 0 || std::isinf(want) || std::isinf(got)) return false;
    const T spacing = std::max(std::nextafter(std::fabs(want), std::numeric_limits<T>::infinity()) - std::fabs(want),
                               std::numeric_limits<T>::denorm_min());
    return std::fabs(double(got) - double(want)) <= ulps * double(spacing);
  } else {
    return got == want;
  }
}

template <typename T>
constexpr int kBits = static_cast<int>(sizeof(T) * 8);

template <typename D>
void compare(const std::string& statements, const Words& got, const std::vector<D>& want, const Words& a, const Words& b,
             const Words& c, double ulps) {
  for (size_t i = 0; i < got.size(); i++) {
    const D value = from_word<D>(got[i]);
    ASSERT_TRUE(close(value, want[i], ulps)) << statements << " of " << std::hex << a[i] << ", " << b[i] << ", " << c[i]
                                             << std::dec << ": got " << +value << ", expected " << +want[i];
  }
}

template <typename D, typename A, typename Function>
void check1(const std::string& statements, Function f, double ulps = 0) {
  Words a;
  std::vector<D> want;
  for (const A x : edges<A>()) {
    a.push_back(to_word(x));
    want.push_back(static_cast<D>(f(x)));
  }
  const Words none(a.size());
  compare(statements, run_statements(statements, {kBits<D>, kBits<A>, 32, 32}, a, none, none), want, a, none, none, ulps);
}

template <typename D, typename A, typename B, typename Function>
void check2(const std::string& statements, Function f, double ulps = 0) {
  Words a, b;
  std::vector<D> want;
  for (const A x : edges<A>()) {
    for (const B y : edges<B>()) {
      a.push_back(to_word(x));
      b.push_back(to_word(y));
      want.push_back(static_cast<D>(f(x, y)));
    }
  }
  const Words none(a.size());
  compare(statements, run_statements(statements, {kBits<D>, kBits<A>, kBits<B>, 32}, a, b, none), want, a, b, none, ulps);
}

template <typename D, typename A, typename B, typename C, typename Function>
void check3(const std::string& statements, Function f, double ulps = 0) {
  Words a, b, c;
  std::vector<D> want;
  for (const A x : edges<A>()) {
    for (const B y : edges<B>()) {
      for (const C z : edges<C>()) {
        a.push_back(to_word(x));
        b.push_back(to_word(y));
        c.push_back(to_word(z));
        want.push_back(static_cast<D>(f(x, y, z)));
      }
    }
  }
  compare(statements, run_statements(statements, {kBits<D>, kBits<A>, kBits<B>, kBits<C>}, a, b, c), want, a, b, c, ulps);
}

}  // namespace cudream::vgpu
