// Activations of several values at once, by one choice for all of them and without branches between them, so that their latencies
// overlap. value.cuh has the exact ones; these are within 3e-7 of them, or of x where it is larger.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/tensor_core.cuh"

namespace cudream {

// x / (1 + e^(-rate x)): silu with rate 1.
__device__ inline float swish(float x, float rate) {
  return __fdividef(x, 1 + exp2_approximate(-1.44269504f * rate * x));
}

// With erf by Abramowitz and Stegun 7.1.26, which is within 1.5e-7 everywhere: far below what 16 bits hold, and short.
__device__ inline float gelu_short(float x) {
  const float z = fabsf(x) * 0.70710678f, t = __fdividef(1, fmaf(0.3275911f, z, 1));
  const float series =
      t * fmaf(t, fmaf(t, fmaf(t, fmaf(t, 1.061405429f, -1.453152027f), 1.421413741f), -0.284496736f), 0.254829592f);
  const float tail = 0.5f * series * exp2_approximate(-1.44269504f * z * z);  // (1 - erf z) / 2
  return x * (x < 0 ? tail : 1 - tail);
}

template <int kCount>
__device__ inline void activate_all(float (&x)[kCount], Act act) {
  if (act == Act::silu || act == Act::quick_gelu) {
    const float rate = act == Act::silu ? 1 : 1.702f;
#pragma unroll
    for (int i = 0; i < kCount; i++) x[i] = swish(x[i], rate);
  } else if (act == Act::gelu) {
#pragma unroll
    for (int i = 0; i < kCount; i++) x[i] = gelu_short(x[i]);
  } else if (act == Act::relu) {
#pragma unroll
    for (int i = 0; i < kCount; i++) x[i] = x[i] < 0 ? 0 : x[i];
  } else if (act == Act::tanh) {
#pragma unroll
    for (int i = 0; i < kCount; i++) x[i] = fmaf(2, swish(1, 2 * x[i]), -1);
  }
}

}  // namespace cudream
