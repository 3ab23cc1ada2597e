// Wide accesses as floats, for the streaming kernels of aligned rows.
#pragma once

#include "kernels/cuda/value.cuh"

namespace cudream {

template <int kBytes>
struct Bits;
template <>
struct Bits<8> {
  using Type = uint2;
};
template <>
struct Bits<16> {
  using Type = uint4;
};

// kCount neighbours of 8 or 16 bytes in all, in one access.
template <typename T, int kCount>
__device__ inline void load_neighbours(const T* at, float (&values)[kCount]) {
  const auto bits = *reinterpret_cast<const typename Bits<kCount * sizeof(T)>::Type*>(at);
  const T* elements = reinterpret_cast<const T*>(&bits);
#pragma unroll
  for (int i = 0; i < kCount; i++) values[i] = to_float(elements[i]);
}
template <typename T, int kCount>
__device__ inline void store_neighbours(T* at, const float (&values)[kCount]) {
  typename Bits<kCount * sizeof(T)>::Type bits;
  T* elements = reinterpret_cast<T*>(&bits);
#pragma unroll
  for (int i = 0; i < kCount; i++) elements[i] = from_float<T>(values[i]);
  *reinterpret_cast<decltype(bits)*>(at) = bits;
}

template <typename T>
constexpr int kVector = 16 / sizeof(T);  // elements of 16 bytes

}  // namespace cudream
