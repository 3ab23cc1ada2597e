// One tile of a matrix product in float arithmetic: the skeleton of linear, geglu and conv2d.
//
// A block of 128 threads makes 64 rows x kCols columns of out = A W^T. It walks the depth 16 at a time: every thread brings
// its share of A [64,16] and of W [kCols,16] into shared memory as float, depth outermost, then each thread multiplies a
// patch of 8x4 (or 4x2 in the narrow tile) out of 12 (6) loaded floats, so shared memory is read once per 2.7 (1.3) products.
// One step moves (64 + kCols) * 16 elements from global memory for 64 * kCols * 32 FLOPs. Nothing is assumed of sizes or
// alignment: a source answers zero outside of A. The sum over the depth runs upwards in one thread, so a value depends
// neither on its place in the tile nor on the grid. The sums go through shared memory once more, so that neighbouring threads
// finish and store neighbouring outputs.
//
// This is the plain way, for any layer and type; it uses no tensor cores.
#pragma once

#include "kernels/cuda/value.cuh"

namespace cudream {

constexpr int kTileThreads = 128;
constexpr int kTileRows = 64;
constexpr int kTileDepth = 16;
// A thread loads one column of the depth, every eighth row.
constexpr int kLoadStep = kTileThreads / kTileDepth;
constexpr int kRowLoads = kTileRows / kLoadStep;

// `source` gives A: seek(k) chooses a column of the depth, at(i) reads it in row 64 blockIdx.x + load_row(i).
__device__ inline int load_row(int i) {
  return threadIdx.x / kTileDepth + i * kLoadStep;
}

// The sums of one tile, left in shared memory for all threads to read: row r, column c at [r * kStride + c].
template <int kCols>
struct Tile {
  static constexpr int kPad = 4;  // keeps rows 16-byte aligned and spreads the stores over the banks
  static constexpr int kStride = kCols + kPad;
  static constexpr int kPatchRows = kCols >= 64 ? 8 : 4;
  static constexpr int kPatchCols = kTileRows * kCols / kTileThreads / kPatchRows;
  static constexpr int kOperands = kTileDepth * (kTileRows + kPad + kStride);
  static constexpr int kSums = kTileRows * kStride;

  template <typename T, typename Source>
  __device__ static const float* multiply(Source source, const T* w, int depth, int outs) {
    __shared__ __align__(16) float shared[kSums > kOperands ? kSums : kOperands];
    float* a = shared;                                    // [kTileDepth][kTileRows + kPad]
    float* b = shared + kTileDepth * (kTileRows + kPad);  // [kTileDepth][kStride]
    const int column = threadIdx.x % kTileDepth;
    const int patch_row = threadIdx.x / (kCols / kPatchCols) * kPatchRows;
    const int patch_col = threadIdx.x % (kCols / kPatchCols) * kPatchCols;
    const int first_out = blockIdx.y * kCols + load_row(0), outs_left = outs - first_out;
    const T* weights = w + static_cast<int64_t>(first_out) * depth;
    float sum[kPatchRows][kPatchCols] = {};

    for (int k0 = 0; k0 < depth; k0 += kTileDepth) {
      const int k = k0 + column;
      source.seek(k);
#pragma unroll
      for (int i = 0; i < kRowLoads; i++) a[column * (kTileRows + kPad) + load_row(i)] = source.at(i);
      const T* at = weights + k;
#pragma unroll
      for (int i = 0; i < kCols / kLoadStep; i++, at += kLoadStep * depth)
        b[column * kStride + load_row(i)] = k < depth && i * kLoadStep < outs_left ? to_float(*at) : 0.f;
      __syncthreads();
#pragma unroll
      for (int d = 0; d < kTileDepth; d++) {
        float left[kPatchRows], right[kPatchCols];
#pragma unroll
        for (int i = 0; i < kPatchRows; i++) left[i] = a[d * (kTileRows + kPad) + patch_row + i];
#pragma unroll
        for (int j = 0; j < kPatchCols; j++) right[j] = b[d * kStride + patch_col + j];
#pragma unroll
        for (int i = 0; i < kPatchRows; i++)
#pragma unroll
          for (int j = 0; j < kPatchCols; j++) sum[i][j] = fmaf(left[i], right[j], sum[i][j]);
      }
      __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < kPatchRows; i++)
#pragma unroll
      for (int j = 0; j < kPatchCols; j++) shared[(patch_row + i) * kStride + patch_col + j] = sum[i][j];
    __syncthreads();
    return shared;
  }
};

}  // namespace cudream
