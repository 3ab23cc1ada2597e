// What a library's product or convolution leaves to do: the rest of an epilogue, in place on what it wrote.
//
// A thread makes one element, 256 a block, grid (elements of a picture / 256, 1, N). Reads and writes out once, and what the
// epilogue adds; the sum was rounded to T once more than in a kernel that finishes in registers.
#include "kernels/cuda/value.cuh"

namespace cudream {
namespace {

constexpr int kThreads = 256;

template <typename T>
__device__ void finish_all(const FinishParams& p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t each = static_cast<int64_t>(p.rows) * p.outs;
  if (i >= each) return;
  T* out = static_cast<T*>(p.out);
  const int64_t at = blockIdx.z * each + i;
  finish(out, at, to_float(out[at]), p.epilogue, static_cast<int>(blockIdx.z), static_cast<int>(i % p.outs));
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kThreads) finish_f32(const __grid_constant__ FinishParams p) {
  finish_all<float>(p);
}
__global__ void __launch_bounds__(kThreads) finish_f16(const __grid_constant__ FinishParams p) {
  finish_all<__half>(p);
}
__global__ void __launch_bounds__(kThreads) finish_bf16(const __grid_constant__ FinishParams p) {
  finish_all<__nv_bfloat16>(p);
}
}

}  // namespace cudream
