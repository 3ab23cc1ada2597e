// conv2d on tensor cores: product.cuh where a row of A is the window of x under one output pixel (implicit GEMM). Here is only
// where a pixel's channels come from.
//
// The depth is a sequence of segments, one for each tap: the channels under it (two, if there are two inputs). Within a segment
// every address of a thread moves 64 bytes a step. At its end, every channels / 32 steps, target() finds for the 4 pixels this
// thread copies (128 rows / 32) where the next tap falls and whether that is inside the picture. All variants are there and
// nowhere else: the stride is in the first coordinates, doubling by nearest neighbours is a shift of them, the border is copies
// of 0 bytes. No division after the beginning, which has four a row: picture, line, pixel, and the first tap of a share of the
// depth.
//
// x is read from L2 once for each tap and each tile of outputs: 9 outs / cols times for 3x3. At the full rate of an A100's
// tensor cores a 128x128 tile asks for 32 bytes a cycle and multiprocessor (128x160: 29, 64x160: 45, 64x64: 64).
//
// Weighed and left: a test bit for each tap and row instead of target() (three more instructions a copy, and it cannot double,
// where the distance between taps depends on the pixel). Not tried: four filters of 2x2 for the doubled convolution; Winograd.
#include "kernels/cuda/product.cuh"

namespace cudream {
namespace {

template <TileShape kShape>
struct Windows {
  static constexpr int kCopies = kShape.rows * 4 / kShape.threads();
  const ConvProductParams& p;
  const char* at;             // this thread's chunk of the step in pixel 0
  uint32_t from[kCopies];     // the pixel under the tap, from pixel 0, in units of 16 bytes
  uint32_t bytes[kCopies];    // 16, or 0 where the tap falls outside of the picture
  uint32_t picture[kCopies];  // the first pixel of the row's picture
  int corner[kCopies];        // where tap (0, 0) falls in the enlarged picture: y << 16 | x & 0xffff
  int left;                   // channels left in the segment
  int tap_y, tap_x;
  bool second = false;  // the segment's channels are those of x2

  __device__ Windows(const ConvProductParams& params, int first_row, int step) : p(params) {
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int row = min(first_row + static_cast<int>(threadIdx.x / 4) + i * 32, p.product.rows - 1);
      const int n = row / (p.out_height * p.out_width), pixel = row % (p.out_height * p.out_width);
      const int y = pixel / p.out_width * p.stride - p.pad, x = pixel % p.out_width * p.stride - p.pad;
      picture[i] = n * p.height * p.width;
      corner[i] = y << 16 | (x & 0xffff);
    }
    const int own = p.channels / kTileStep, each = own + p.channels2 / kTileStep, tap = step / each;
    int skip = step % each;
    tap_y = tap / p.kernel;
    tap_x = tap % p.kernel;
    second = skip >= own;
    if (second) skip -= own;
    target();
    at += skip * 64;
    left -= skip * kTileStep;
  }

  __device__ void target() {
    left = second ? p.channels2 : p.channels;
    at = static_cast<const char*>(second ? p.x2 : p.x) + threadIdx.x % 4 * 16;
    const uint32_t chunks = left / 8;
#pragma unroll
    for (int i = 0; i < kCopies; i++) {
      const int y = (corner[i] >> 16) + tap_y, x = static_cast<short>(corner[i]) + tap_x;
      const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(p.height << p.doubled) &&
                          static_cast<unsigned>(x) < static_cast<unsigned>(p.width << p.doubled);
      const uint32_t pixel = picture[i] + (y >> p.doubled) * p.width + (x >> p.doubled);
      from[i] = inside ? pixel * chunks : 0;
      bytes[i] = inside ? 16 : 0;
    }
  }
  __device__ void next_segment() {
    if (p.channels2 > 0) second = !second;
    if (!second && ++tap_x == p.kernel) {
      tap_x = 0;
      tap_y++;
    }
    target();
  }

  __device__ void copy(uint32_t to) {
#pragma unroll
    for (int i = 0; i < kCopies; i++) copy16(to + i * 32 * 64, at + static_cast<size_t>(from[i]) * 16, bytes[i]);
    at += 64;
    left -= kTileStep;
    if (left == 0) next_segment();
  }
};

template <typename T, TileShape kShape>
__device__ void conv(const ConvProductParams& p) {
  TileProduct<T, kShape, false, Windows<kShape>> product;
  product.run(p);
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kTile128x128.threads(), kTile128x128.blocks)
    conv_128x128_f16(const __grid_constant__ ConvProductParams p) {
  conv<__half, kTile128x128>(p);
}
__global__ void __launch_bounds__(kTile128x128.threads(), kTile128x128.blocks)
    conv_128x128_bf16(const __grid_constant__ ConvProductParams p) {
  conv<__nv_bfloat16, kTile128x128>(p);
}
__global__ void __launch_bounds__(kTile128x160.threads(), kTile128x160.blocks)
    conv_128x160_f16(const __grid_constant__ ConvProductParams p) {
  conv<__half, kTile128x160>(p);
}
__global__ void __launch_bounds__(kTile128x160.threads(), kTile128x160.blocks)
    conv_128x160_bf16(const __grid_constant__ ConvProductParams p) {
  conv<__nv_bfloat16, kTile128x160>(p);
}
__global__ void __launch_bounds__(kTile64x160.threads(), kTile64x160.blocks)
    conv_64x160_f16(const __grid_constant__ ConvProductParams p) {
  conv<__half, kTile64x160>(p);
}
__global__ void __launch_bounds__(kTile64x160.threads(), kTile64x160.blocks)
    conv_64x160_bf16(const __grid_constant__ ConvProductParams p) {
  conv<__nv_bfloat16, kTile64x160>(p);
}
__global__ void __launch_bounds__(kTile64x64.threads(), kTile64x64.blocks)
    conv_64x64_f16(const __grid_constant__ ConvProductParams p) {
  conv<__half, kTile64x64>(p);
}
__global__ void __launch_bounds__(kTile64x64.threads(), kTile64x64.blocks)
    conv_64x64_bf16(const __grid_constant__ ConvProductParams p) {
  conv<__nv_bfloat16, kTile64x64>(p);
}
}

}  // namespace cudream
