// conv2d as an implicit matrix product: out [pixels,outs] = A [pixels, kernel*kernel*channels] W^T, where a row of A is the
// window of x under one output pixel. A is never written; the tile's source finds each element in x, or answers zero in the
// border. Filters are kept as [outs, kernel, kernel, channels], so a window's columns and a filter's lie in the same order and
// neighbouring threads read neighbouring channels. Nearest upsampling divides the coordinate on the way.
//
// conv_tile: 64 pixels x 64 outputs, grid (pixels / 64, outs / 64, N). conv_narrow: 64 x 16, for the few outputs of the last
// layers (3, 4 or 8 channels), which would leave most of the wide tile idle.
#include "kernels/cuda/tile.cuh"

namespace cudream {
namespace {

template <typename T>
struct Windows {
  const ConvParams& p;
  const T* x;  // of this picture
  int top[kRowLoads], left[kRowLoads];
  int channel = 0, ky = 0, kx = 0;

  __device__ explicit Windows(const ConvParams& params) : p(params) {
    x = static_cast<const T*>(p.x) + static_cast<int64_t>(blockIdx.z) * p.height * p.width * p.channels;
#pragma unroll
    for (int i = 0; i < kRowLoads; i++) {
      const int pixel = blockIdx.x * kTileRows + load_row(i);
      const int y = pixel / p.out_width;
      // Beyond the last pixel the window lies wholly in the border.
      top[i] = y < p.out_height ? y * p.stride - p.pad : -(1 << 30);
      left[i] = (pixel - y * p.out_width) * p.stride - p.pad;
    }
  }
  __device__ void seek(int column) {
    const int tap = column / p.channels;
    channel = column - tap * p.channels;
    // Beyond the depth the row of the filter is beyond the picture.
    ky = tap / p.kernel;
    kx = tap - ky * p.kernel;
    if (ky >= p.kernel) ky = 1 << 29;
  }
  __device__ float at(int i) const {
    int row = top[i] + ky, col = left[i] + kx;
    if (row < 0 || row >= p.up_height || col < 0 || col >= p.up_width) return 0;
    if (p.up_height != p.height || p.up_width != p.width) {
      row = static_cast<int>(static_cast<unsigned>(row) * static_cast<unsigned>(p.height) / static_cast<unsigned>(p.up_height));
      col = static_cast<int>(static_cast<unsigned>(col) * static_cast<unsigned>(p.width) / static_cast<unsigned>(p.up_width));
    }
    return to_float(x[(static_cast<int64_t>(row) * p.width + col) * p.channels + channel]);
  }
};

template <typename T, int kCols>
__device__ void conv(const ConvParams& p) {
  const int pixels = p.out_height * p.out_width;
  const float* sums = Tile<kCols>::multiply(Windows<T>(p), static_cast<const T*>(p.w), p.kernel * p.kernel * p.channels, p.outs);
  for (int i = threadIdx.x; i < kTileRows * kCols; i += kTileThreads) {
    const int pixel = blockIdx.x * kTileRows + i / kCols, col = blockIdx.y * kCols + i % kCols;
    if (pixel >= pixels || col >= p.outs) continue;
    const int64_t at = (static_cast<int64_t>(blockIdx.z) * pixels + pixel) * p.outs + col;
    finish(static_cast<T*>(p.out), at, sums[i / kCols * Tile<kCols>::kStride + i % kCols], p.epilogue, blockIdx.z, col);
  }
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kTileThreads) conv_tile_f32(const __grid_constant__ ConvParams p) {
  conv<float, 64>(p);
}
__global__ void __launch_bounds__(kTileThreads) conv_tile_f16(const __grid_constant__ ConvParams p) {
  conv<__half, 64>(p);
}
__global__ void __launch_bounds__(kTileThreads) conv_tile_bf16(const __grid_constant__ ConvParams p) {
  conv<__nv_bfloat16, 64>(p);
}
__global__ void __launch_bounds__(kTileThreads) conv_narrow_f32(const __grid_constant__ ConvParams p) {
  conv<float, 16>(p);
}
__global__ void __launch_bounds__(kTileThreads) conv_narrow_f16(const __grid_constant__ ConvParams p) {
  conv<__half, 16>(p);
}
__global__ void __launch_bounds__(kTileThreads) conv_narrow_bf16(const __grid_constant__ ConvParams p) {
  conv<__nv_bfloat16, 16>(p);
}
}

}  // namespace cudream
