// Float arithmetic as other decoders call it, and 16-bit floats in lanes.
#pragma once

#include <cstdint>

#include "core/half.h"
#include "tests/vgpu/core/decoding.h"

namespace cudream::vgpu {

enum class FloatOp : uint8_t { add, sub, mul, div, min, max, neg, abs };

// Takes rounding, .ftz, .sat and the like, and decodes the float form of an instruction.
void decode_float(Decoding& d, FloatOp op, Type type);

// The forms for f16, bf16 and their pairs (ops_half.cc).
void decode_half(Decoding& d, FloatOp op, Type type);
void decode_half_fma(Decoding& d, Type type);

// Takes a rounding mode (.rn .rz .rm .rp) and .ftz; wraps `run` so that it runs under them. x86 rounds and flushes as PTX
// asks: .ftz makes subnormal operands and results zeros of the same sign.
Handler with_float_mode(Decoding& d, Handler run);

// To binary16 or bfloat16 from a double, rounded once, to nearest even.
uint16_t to_f16(double value);
uint16_t to_bf16(double value);

struct F16 {
  static float load(uint16_t bits) {
    f16 h;
    h.bits = bits;
    return static_cast<float>(h);
  }
  static uint16_t store(double value) { return to_f16(value); }
};
struct BF16 {
  static float load(uint16_t bits) {
    bf16 h;
    h.bits = bits;
    return static_cast<float>(h);
  }
  static uint16_t store(double value) { return to_bf16(value); }
};

}  // namespace cudream::vgpu
