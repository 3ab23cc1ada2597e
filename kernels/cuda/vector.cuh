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

// kCount neighbours of 8 or 16 bytes in all, as they lie in memory and as floats.
template <typename T, int kCount>
__device__ inline void unpack(typename Bits<kCount * sizeof(T)>::Type bits, float (&values)[kCount]) {
  const T* elements = reinterpret_cast<const T*>(&bits);
#pragma unroll
  for (int i = 0; i < kCount; i++) values[i] = to_float(elements[i]);
}
// They are read and written in one access.
template <typename T, int kCount>
__device__ inline void load_neighbours(const T* at, float (&values)[kCount]) {
  const auto bits = *reinterpret_cast<const typename Bits<kCount * sizeof(T)>::Type*>(at);
  unpack<T>(bits, values);
}
template <typename T, int kCount>
__device__ inline void store_neighbours(T* at, const float (&values)[kCount]) {
  typename Bits<kCount * sizeof(T)>::Type bits;
  T* elements = reinterpret_cast<T*>(&bits);
#pragma unroll
  for (int i = 0; i < kCount; i++) elements[i] = from_float<T>(values[i]);
  *reinterpret_cast<decltype(bits)*>(at) = bits;
}

// 16 bytes of global memory, or zeros where `there` is false; asked for where it stands, before what follows waits for anything.
__device__ inline uint4 load16(const void* at, bool there) {
  uint4 bits;
  asm volatile(
      "{\n"
      ".reg .pred there;\n"
      "setp.ne.b32 there, %5, 0;\n"
      "mov.b32 %0, 0;\n"
      "mov.b32 %1, 0;\n"
      "mov.b32 %2, 0;\n"
      "mov.b32 %3, 0;\n"
      "@there ld.global.v4.b32 {%0,%1,%2,%3}, [%4];\n"
      "}"
      : "=&r"(bits.x), "=&r"(bits.y), "=&r"(bits.z), "=&r"(bits.w)
      : "l"(__cvta_generic_to_global(at)), "r"(static_cast<int>(there)));
  return bits;
}

template <typename T>
constexpr int kVector = 16 / sizeof(T);  // elements of 16 bytes

}  // namespace cudream
