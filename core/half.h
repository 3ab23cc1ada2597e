// 16- and 8-bit floating point on the host: conversions by bits, correctly rounded (IEEE 754 round to nearest even).
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace cudream {

// The upper half of a float32. Conversion rounds to nearest even and keeps NaN a NaN.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  explicit bf16(float f) {
    const auto u = std::bit_cast<uint32_t>(f);
    bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? (u >> 16) | 0x40u : (u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
  }
  explicit operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

// IEEE 754 binary16. By bits, since Clang 14 has no _Float16 on x86-64.
struct f16 {
  uint16_t bits = 0;
  f16() = default;
  explicit f16(float f) {
    const auto u = std::bit_cast<uint32_t>(f);
    const uint32_t magnitude = u & 0x7fffffffu;
    uint32_t half = 0;
    if (magnitude > 0x7f800000u) {
      half = 0x7e00u;  // NaN
    } else if (magnitude >= 0x477ff000u) {
      half = 0x7c00u;  // 65520 and more round to infinity
    } else if (magnitude < 0x38800000u) {
      half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;  // subnormal: the sum rounds to 2^-24
    } else {
      half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    }
    bits = static_cast<uint16_t>((u >> 16 & 0x8000u) | half);
  }
  explicit operator float() const {
    const uint32_t exponent = bits >> 10 & 31u, mantissa = bits & 0x3ffu;
    uint32_t u = (exponent + 112u) << 23 | mantissa << 13;
    if (exponent == 31u) u |= 0x7f800000u;
    if (exponent == 0u) u = std::bit_cast<uint32_t>(static_cast<float>(mantissa) * 0x1p-24f);
    return std::bit_cast<float>(u | (bits & 0x8000u) << 16);
  }
};

// The 8-bit formats of "FP8 Formats for Deep Learning" (Micikevicius et al. 2022, section 3). E4M3 has no infinity and
// one NaN per sign (S.1111.111); E5M2 follows IEEE rules, so it is the upper byte of a binary16.
inline float f8e4m3_to_float(uint8_t b) {
  const int exponent = (b >> 3) & 15, mantissa = b & 7;
  float magnitude =
      exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9) : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  if (exponent == 15 && mantissa == 7) magnitude = std::numeric_limits<float>::quiet_NaN();
  return (b & 0x80) ? -magnitude : magnitude;
}
inline float f8e5m2_to_float(uint8_t b) {
  f16 h;
  h.bits = static_cast<uint16_t>(b << 8);
  return static_cast<float>(h);
}

}  // namespace cudream
