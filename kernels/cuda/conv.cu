// conv2d as an implicit matrix product: out [pixels,outs] = A [pixels, kernel*kernel*channels] W^T, where a row of A is the
// window of x under one output pixel. A is never written; the tile's source finds each element in x, or answers zero in the
// border. Filters are kept as [outs, kernel, kernel, channels], so a window's columns and a filter's lie in the same order and
// neighbouring threads read neighbouring channels. Nearest upsampling divides the coordinate on the way.
//
// conv_tile: 64 pixels x 64 outputs, grid (pixels / 64, outs / 64, N). conv_narrow: 64 x 16, for the few outputs of the last
// layers (3, 4 or 8 channels), which would leave most of the wide tile idle, where conv_few.cu does not serve them.
#include "kernels/cuda/tile.cuh"

namespace cudream {
namespace {

// Offsets are 32 bits wide: the host refuses pictures of more elements.
template <typename T>
struct Windows {
  const ConvParams& p;
  const T* x;   // of this picture
  const T* x2;  // likewise
  const bool enlarged;
  int top[kRowLoads], left[kRowLoads];  // where the window of each row of A begins
  int origin[kRowLoads];                // its offset in x, if x is not enlarged
  int channel = 0, ky = 0, kx = 0, tap_offset = 0;

  __device__ explicit Windows(const ConvParams& params)
      : p(params),
        x(static_cast<const T*>(p.x) + static_cast<int64_t>(blockIdx.z) * p.height * p.width * p.channels),
        x2(static_cast<const T*>(p.x2) + static_cast<int64_t>(blockIdx.z) * p.height * p.width * p.channels2),
        enlarged(p.up_height != p.height || p.up_width != p.width) {
#pragma unroll
    for (int i = 0; i < kRowLoads; i++) {
      const int pixel = blockIdx.x * kTileRows + load_row(i);
      const int y = pixel / p.out_width;
      // Beyond the last pixel the window lies wholly in the border.
      top[i] = y < p.out_height ? y * p.stride - p.pad : -(1 << 30);
      left[i] = (pixel - y * p.out_width) * p.stride - p.pad;
      origin[i] = (top[i] * p.width + left[i]) * p.channels;
    }
  }
  __device__ void seek(int column) {
    const int channels = p.channels + p.channels2, tap = column / channels;
    channel = column - tap * channels;
    ky = tap / p.kernel;
    kx = tap - ky * p.kernel;
    tap_offset = (ky * p.width + kx) * p.channels + channel;
    if (ky >= p.kernel) ky = 1 << 29;  // beyond the depth the filter's row is beyond the picture
  }
  __device__ float at(int i) const {
    // As unsigned numbers, what lies above or left of the picture is beyond it too.
    const unsigned row = top[i] + ky, col = left[i] + kx;
    if (row >= p.up_height || col >= p.up_width) return 0;
    if (channel >= p.channels) return to_float(x2[(row * p.width + col) * p.channels2 + channel - p.channels]);
    unsigned offset = origin[i] + tap_offset;
    if (enlarged) offset = (row * p.height / p.up_height * p.width + col * p.width / p.up_width) * p.channels + channel;
    return to_float(x[offset]);
  }
};

template <typename T, int kCols>
__device__ void conv(const ConvParams& p) {
  const int pixels = p.out_height * p.out_width;
  const float* sums =
      Tile<kCols>::multiply(Windows<T>(p), static_cast<const T*>(p.w), p.kernel * p.kernel * (p.channels + p.channels2), p.outs);
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
