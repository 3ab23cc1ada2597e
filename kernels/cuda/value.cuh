// Elements of every type as float, and what is done to one value: activations and the epilogue of a product.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/args.h"

namespace cudream {

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

template <typename T>
__device__ T from_float(float x);
template <>
__device__ inline float from_float(float x) {
  return x;
}
template <>
__device__ inline __half from_float(float x) {
  return __float2half_rn(x);
}
template <>
__device__ inline __nv_bfloat16 from_float(float x) {
  return __float2bfloat16_rn(x);
}

// The 8-bit formats of "FP8 Formats for Deep Learning" (Micikevicius et al. 2022, section 3), by bits: E5M2 is the upper half
// of a binary16; E4M3, moved to binary16's places, is short of 8 in the exponent, and its one NaN is S.1111.111.
__device__ inline float f8e5m2_to_float(uint8_t b) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(b << 8)));
}
__device__ inline float f8e4m3_to_float(uint8_t b) {
  if ((b & 0x7f) == 0x7f) return __int_as_float(0x7fffffff);
  return 256.f * __half2float(__ushort_as_half(static_cast<unsigned short>((b & 0x80) << 8 | (b & 0x7f) << 7)));
}

// Where one kernel serves several types, a branch that every thread takes alike picks the conversion.
__device__ inline float load(const void* data, DType type, int64_t i) {
  switch (type) {
    case DType::f32: return static_cast<const float*>(data)[i];
    case DType::f16: return to_float(static_cast<const __half*>(data)[i]);
    case DType::bf16: return to_float(static_cast<const __nv_bfloat16*>(data)[i]);
    case DType::f8e4m3: return f8e4m3_to_float(static_cast<const uint8_t*>(data)[i]);
    case DType::f8e5m2: return f8e5m2_to_float(static_cast<const uint8_t*>(data)[i]);
    case DType::i32: return static_cast<float>(static_cast<const int*>(data)[i]);
    case DType::u8: return static_cast<float>(static_cast<const uint8_t*>(data)[i]);
  }
  return 0;
}

// Only types that a verb writes: f32, f16, bf16, i32 (Lattice operands are checked on the host).
__device__ inline void store(void* data, DType type, int64_t i, float value) {
  switch (type) {
    case DType::f16: static_cast<__half*>(data)[i] = from_float<__half>(value); return;
    case DType::bf16: static_cast<__nv_bfloat16*>(data)[i] = from_float<__nv_bfloat16>(value); return;
    case DType::i32: static_cast<int*>(data)[i] = static_cast<int>(value); return;
    default: static_cast<float*>(data)[i] = value; return;
  }
}

__device__ inline float gelu(float x) {
  return 0.5f * x * (1 + erff(x * 0.70710678118654752f));
}

__device__ inline float activate(float x, Act act) {
  switch (act) {
    case Act::silu: return x / (1 + expf(-x));
    case Act::gelu: return gelu(x);
    case Act::quick_gelu: return x / (1 + expf(-1.702f * x));
    case Act::relu: return x < 0 ? 0 : x;  // NaN stays NaN
    case Act::tanh: return 1 - 2 / (1 + expf(2 * x));
    default: return x;
  }
}

// `sum` of channel c of a picture becomes element i of out.
template <typename T>
__device__ void finish(T* out, int64_t i, float sum, const EpilogueParams& e, int picture, int c) {
  if (e.bias != nullptr) sum += e.bias[c];
  if (e.add.data != nullptr) sum += load(e.add.data, e.add.type, picture * e.add.stride + c);
  sum = activate(sum, e.act);
  if (e.gate.data != nullptr) sum *= load(e.gate.data, e.gate.type, picture * e.gate.stride + c);
  if (e.residual != nullptr) sum += to_float(static_cast<const T*>(e.residual)[i]);
  out[i] = from_float<T>(sum);
}

}  // namespace cudream
