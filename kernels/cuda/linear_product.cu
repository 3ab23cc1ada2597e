// linear and geglu on tensor cores: product.cuh over rows that follow one another, so a row of A is a base and one offset.
//
// geglu: the weight's rows alternate between value and gate, so an output's two sums land in one lane, and only their product
// is written: the [rows,outs] between the two (84 MB in a layer of 8192 x 5120) is neither written nor read.
//
// A step at 128x128 issues about 132 instructions for 64 mma, 16 ldmatrix and 8 copies. Entries are named by the tile's rows
// and columns; product.h chooses.
#include "kernels/cuda/product.cuh"

namespace cudream {
namespace {

template <TileShape kShape>
struct MatrixRows {
  static constexpr int kCopies = kShape.rows * 4 / kShape.threads();
  const char* at;  // this thread's chunk of the step in row 0
  uint32_t from[kCopies];

  __device__ MatrixRows(const LinearProductParams& p, int first_row, int step)
      : at(static_cast<const char*>(p.x) + static_cast<size_t>(step) * 64 + threadIdx.x % 4 * 16) {
#pragma unroll
    for (int i = 0; i < kCopies; i++)
      from[i] = static_cast<uint32_t>(min(first_row + static_cast<int>(threadIdx.x / 4) + i * 32, p.product.rows - 1)) *
                (p.product.steps * 4);
  }
  __device__ void copy(uint32_t to) {
#pragma unroll
    for (int i = 0; i < kCopies; i++) copy16(to + i * 32 * 64, at + static_cast<size_t>(from[i]) * 16);
    at += 64;
  }
};

template <typename T, TileShape kShape, bool kGeglu = false>
__device__ void linear(const LinearProductParams& p) {
  TileProduct<T, kShape, kGeglu, MatrixRows<kShape>> product;
  product.run(p);
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kTile128x128.threads(), kTile128x128.blocks)
    linear_128x128_f16(const __grid_constant__ LinearProductParams p) {
  linear<__half, kTile128x128>(p);
}
__global__ void __launch_bounds__(kTile128x128.threads(), kTile128x128.blocks)
    linear_128x128_bf16(const __grid_constant__ LinearProductParams p) {
  linear<__nv_bfloat16, kTile128x128>(p);
}
__global__ void __launch_bounds__(kTile128x160.threads(), kTile128x160.blocks)
    linear_128x160_f16(const __grid_constant__ LinearProductParams p) {
  linear<__half, kTile128x160>(p);
}
__global__ void __launch_bounds__(kTile128x160.threads(), kTile128x160.blocks)
    linear_128x160_bf16(const __grid_constant__ LinearProductParams p) {
  linear<__nv_bfloat16, kTile128x160>(p);
}
__global__ void __launch_bounds__(kTile64x160.threads(), kTile64x160.blocks)
    linear_64x160_f16(const __grid_constant__ LinearProductParams p) {
  linear<__half, kTile64x160>(p);
}
__global__ void __launch_bounds__(kTile64x160.threads(), kTile64x160.blocks)
    linear_64x160_bf16(const __grid_constant__ LinearProductParams p) {
  linear<__nv_bfloat16, kTile64x160>(p);
}
__global__ void __launch_bounds__(kTile64x64.threads(), kTile64x64.blocks)
    linear_64x64_f16(const __grid_constant__ LinearProductParams p) {
  linear<__half, kTile64x64>(p);
}
__global__ void __launch_bounds__(kTile64x64.threads(), kTile64x64.blocks)
    linear_64x64_bf16(const __grid_constant__ LinearProductParams p) {
  linear<__nv_bfloat16, kTile64x64>(p);
}
__global__ void __launch_bounds__(kTile128x128.threads(), kTile128x128.blocks)
    geglu_128x128_f16(const __grid_constant__ LinearProductParams p) {
  linear<__half, kTile128x128, true>(p);
}
__global__ void __launch_bounds__(kTile128x128.threads(), kTile128x128.blocks)
    geglu_128x128_bf16(const __grid_constant__ LinearProductParams p) {
  linear<__nv_bfloat16, kTile128x128, true>(p);
}
__global__ void __launch_bounds__(kTile64x64.threads(), kTile64x64.blocks)
    geglu_64x64_f16(const __grid_constant__ LinearProductParams p) {
  linear<__half, kTile64x64, true>(p);
}
__global__ void __launch_bounds__(kTile64x64.threads(), kTile64x64.blocks)
    geglu_64x64_bf16(const __grid_constant__ LinearProductParams p) {
  linear<__nv_bfloat16, kTile64x64, true>(p);
}
}

}  // namespace cudream
