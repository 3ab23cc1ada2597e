// Sums and maxima over a warp and over a block, always in the same order.
#pragma once

namespace cudream {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float warp_sum(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

// The sum over a block of kThreads threads, in every thread. `shared` has one place per warp.
template <int kThreads>
__device__ float block_sum(float x, float* shared) {
  x = warp_sum(x);
  __syncthreads();  // whoever used `shared` before has read it
  if (threadIdx.x % kWarp == 0) shared[threadIdx.x / kWarp] = x;
  __syncthreads();
  float sum = 0;
  for (int warp = 0; warp < kThreads / kWarp; warp++) sum += shared[warp];
  return sum;
}

}  // namespace cudream
