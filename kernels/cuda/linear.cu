// linear and geglu: the product of a picture's rows with a matrix kept as [outs,depth].
//
// linear_tile and geglu_tile are for many rows: tile.cuh over rows of x as they lie; grid (rows / 64, outs / 64, N). For geglu
// the weight's rows alternate between value and gate, so both halves of an output lie side by side in the tile and the gate
// costs no traffic.
//
// linear_row is for very few rows (time embeddings, pooled text): the weights are read once and are the whole cost, so a warp
// takes one output of one row, its lanes striding over the depth; grid (outs / 4, rows, N).
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tile.cuh"

namespace cudream {
namespace {

template <typename T>
struct Rows {
  const T* x;  // this thread's first row
  int rows;    // from there on
  int depth, k = 0;
  __device__ void seek(int column) { k = column; }
  __device__ float at(int i) const {
    const bool inside = i * kLoadStep < rows && k < depth;
    return inside ? to_float(x[static_cast<int64_t>(i) * kLoadStep * depth + k]) : 0.f;
  }
};

template <typename T>
__device__ Rows<T> rows_of(const LinearParams& p) {
  const int first = blockIdx.x * kTileRows + load_row(0);
  const int64_t row = static_cast<int64_t>(blockIdx.z) * p.rows + first;
  return {static_cast<const T*>(p.x) + row * p.depth, p.rows - first, p.depth};
}

template <typename T>
__device__ void linear_tile(const LinearParams& p) {
  constexpr int kCols = 64;
  const float* sums = Tile<kCols>::multiply(rows_of<T>(p), static_cast<const T*>(p.w), p.depth, p.outs);
  for (int i = threadIdx.x; i < kTileRows * kCols; i += kTileThreads) {
    const int row = blockIdx.x * kTileRows + i / kCols, col = blockIdx.y * kCols + i % kCols;
    if (row >= p.rows || col >= p.outs) continue;
    const int64_t at = (static_cast<int64_t>(blockIdx.z) * p.rows + row) * p.outs + col;
    finish(static_cast<T*>(p.out), at, sums[i / kCols * Tile<kCols>::kStride + i % kCols], p.epilogue, blockIdx.z, col);
  }
}

template <typename T>
__device__ void geglu_tile(const LinearParams& p) {
  constexpr int kCols = 64, kPairs = kCols / 2;
  const float* sums = Tile<kCols>::multiply(rows_of<T>(p), static_cast<const T*>(p.w), p.depth, p.outs);
  const int half = p.outs / 2;
  const float* bias = p.epilogue.bias;  // as stored: all values, then all gates
  for (int i = threadIdx.x; i < kTileRows * kPairs; i += kTileThreads) {
    const int row = blockIdx.x * kTileRows + i / kPairs, col = blockIdx.y * kPairs + i % kPairs;
    if (row >= p.rows || col >= half) continue;
    const float* pair = &sums[i / kPairs * Tile<kCols>::kStride + i % kPairs * 2];
    const float value = pair[0] + (bias != nullptr ? bias[col] : 0.f),
                gate = pair[1] + (bias != nullptr ? bias[half + col] : 0.f);
    static_cast<T*>(p.out)[(static_cast<int64_t>(blockIdx.z) * p.rows + row) * half + col] = from_float<T>(value * gelu(gate));
  }
}

template <typename T>
__device__ void linear_row(const LinearParams& p) {
  const int out = blockIdx.x * (kTileThreads / kWarp) + threadIdx.x / kWarp;
  if (out >= p.outs) return;
  const int64_t row = static_cast<int64_t>(blockIdx.z) * p.rows + blockIdx.y;
  const T* x = static_cast<const T*>(p.x) + row * p.depth;
  const T* w = static_cast<const T*>(p.w) + static_cast<int64_t>(out) * p.depth;
  float sum = 0;
  for (int k = threadIdx.x % kWarp; k < p.depth; k += kWarp) sum = fmaf(to_float(x[k]), to_float(w[k]), sum);
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) finish(static_cast<T*>(p.out), row * p.outs + out, sum, p.epilogue, blockIdx.z, out);
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kTileThreads) linear_tile_f32(const __grid_constant__ LinearParams p) {
  linear_tile<float>(p);
}
__global__ void __launch_bounds__(kTileThreads) linear_tile_f16(const __grid_constant__ LinearParams p) {
  linear_tile<__half>(p);
}
__global__ void __launch_bounds__(kTileThreads) linear_tile_bf16(const __grid_constant__ LinearParams p) {
  linear_tile<__nv_bfloat16>(p);
}
__global__ void __launch_bounds__(kTileThreads) geglu_tile_f32(const __grid_constant__ LinearParams p) {
  geglu_tile<float>(p);
}
__global__ void __launch_bounds__(kTileThreads) geglu_tile_f16(const __grid_constant__ LinearParams p) {
  geglu_tile<__half>(p);
}
__global__ void __launch_bounds__(kTileThreads) geglu_tile_bf16(const __grid_constant__ LinearParams p) {
  geglu_tile<__nv_bfloat16>(p);
}
__global__ void __launch_bounds__(kTileThreads) linear_row_f32(const __grid_constant__ LinearParams p) {
  linear_row<float>(p);
}
__global__ void __launch_bounds__(kTileThreads) linear_row_f16(const __grid_constant__ LinearParams p) {
  linear_row<__half>(p);
}
__global__ void __launch_bounds__(kTileThreads) linear_row_bf16(const __grid_constant__ LinearParams p) {
  linear_row<__nv_bfloat16>(p);
}
}

}  // namespace cudream
