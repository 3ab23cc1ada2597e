// Conversions of every type.
#include "loader/values.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/half.h"

namespace cudream {
namespace {

// The FNUZ formats of 8 bits have one NaN (the sign alone), no infinity and a bias one greater than their namesakes
// ("8-bit Numerical Formats for Deep Neural Networks", Noune et al. 2022).
float fnuz_to_float(uint8_t b, int mantissa_bits, int bias) {
  if (b == 0x80) return std::numeric_limits<float>::quiet_NaN();
  const int exponent = (b & 0x7f) >> mantissa_bits, mantissa = b & ((1 << mantissa_bits) - 1);
  const int whole = exponent == 0 ? mantissa : mantissa + (1 << mantissa_bits);
  const float magnitude = std::ldexp(static_cast<float>(whole), std::max(exponent, 1) - bias - mantissa_bits);
  return (b & 0x80) != 0 ? -magnitude : magnitude;
}

// A power of two, 2^(b-127); 255 is NaN (OCP Microscaling Formats specification 1.0, section 5.4.1).
float e8m0_to_float(uint8_t b) {
  return b == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(1.0f, b - 127);
}

// The raw bytes may lie on any address.
template <typename Stored, typename Convert>
void convert(std::span<float> to, std::span<const std::byte> raw, Convert one) {
  invariant(raw.size() == to.size() * sizeof(Stored), "{} bytes for {} values", raw.size(), to.size());
  for (size_t i = 0; i < to.size(); i++) {
    Stored value;
    std::memcpy(&value, raw.data() + i * sizeof(Stored), sizeof(Stored));
    to[i] = one(value);
  }
}

}  // namespace

void to_float(std::span<float> to, FileType type, std::span<const std::byte> raw) {
  const auto cast = [](auto v) { return static_cast<float>(v); };
  switch (type) {
    case FileType::boolean: return convert<uint8_t>(to, raw, [](uint8_t b) { return b != 0 ? 1.0f : 0.0f; });
    case FileType::u8: return convert<uint8_t>(to, raw, cast);
    case FileType::i8: return convert<int8_t>(to, raw, cast);
    case FileType::f8_e5m2: return convert<uint8_t>(to, raw, f8e5m2_to_float);
    case FileType::f8_e4m3: return convert<uint8_t>(to, raw, f8e4m3_to_float);
    case FileType::f8_e8m0: return convert<uint8_t>(to, raw, e8m0_to_float);
    case FileType::f8_e4m3fnuz: return convert<uint8_t>(to, raw, [](uint8_t b) { return fnuz_to_float(b, 3, 8); });
    case FileType::f8_e5m2fnuz: return convert<uint8_t>(to, raw, [](uint8_t b) { return fnuz_to_float(b, 2, 16); });
    case FileType::i16: return convert<int16_t>(to, raw, cast);
    case FileType::u16: return convert<uint16_t>(to, raw, cast);
    case FileType::f16: return convert<f16>(to, raw, cast);
    case FileType::bf16: return convert<bf16>(to, raw, cast);
    case FileType::i32: return convert<int32_t>(to, raw, cast);
    case FileType::u32: return convert<uint32_t>(to, raw, cast);
    case FileType::f32: return convert<float>(to, raw, cast);
    case FileType::f64: return convert<double>(to, raw, cast);
    case FileType::i64: return convert<int64_t>(to, raw, cast);
    case FileType::u64: return convert<uint64_t>(to, raw, cast);
    case FileType::f4:
    case FileType::f6_e2m3:
    case FileType::f6_e3m2:
    case FileType::c64: break;
  }
  throw fail(Code::unsupported, "values of type {} cannot be read as numbers here", name_of(type));
}

uint64_t count_non_finite(const SafetensorsFile& file, const TensorInfo& t) {
  constexpr uint64_t kChunk = 1 << 20;  // values
  const auto bits = static_cast<uint64_t>(bits_of(t.type));
  if (bits < 8 || t.type == FileType::c64) return 0;
  const uint64_t width = bits / 8, values = t.bytes / width;
  std::vector<std::byte> raw;
  std::vector<float> floats;
  uint64_t bad = 0;
  for (uint64_t at = 0; at < values; at += kChunk) {
    floats.resize(std::min(kChunk, values - at));
    raw.resize(floats.size() * width);
    file.map().read(raw, t.offset + at * width);
    to_float(floats, t.type, raw);
    bad += static_cast<uint64_t>(std::count_if(floats.begin(), floats.end(), [](float f) { return !std::isfinite(f); }));
  }
  return bad;
}

}  // namespace cudream
