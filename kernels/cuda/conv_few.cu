// conv2d with few outputs, such as the three colours that end a decoder, on tensor cores: out [pixels,outs] = A W^T as in
// conv.cu, for at most 8 outputs, the columns of one mma; those that no output has are multiplied by zeros.
//
// So few columns leave nothing to wait for but the windows, kernel * kernel times x. A warp makes 16 neighbours in each of two
// lines, a block eight lines of 16 pixels. It takes 32 channels at a time and of them all the taps, so that what a block reads
// again it finds in L1: 18 x 10 pixels of 64 bytes for a filter of 3x3.
//
// Nothing goes through shared memory. An mma of depth 16 wants of lane 4 g + t the elements 2t, 2t + 1, 2t + 8 and 2t + 9 of row
// g. As the sum may run over the depth in any order, if only rows and filters agree, a lane reads the 8 channels from 8 t on, 16
// bytes, and gives the first four to one mma and the others to the next. Operands of the next tap are on their way while those of
// one are multiplied.
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace cudream {
namespace {

constexpr int kWarps = 4, kLines = 2, kAcross = 16;  // lines of a warp, pixels of a line
constexpr int kChannels = 32;                        // at a time

template <typename T>
struct FewOutputs {
  // Of one tap and kChannels channels: in each line rows g and g + 8, and filter g.
  struct Operands {
    uint4 x[kLines][2], w;
  };
  const ConvParams& p;
  const int row = threadIdx.x % kWarp / 4, part = threadIdx.x % 4;
  const int left = blockIdx.x * kAcross + row;  // the lane's first pixel
  const int top = (blockIdx.y * kWarps + threadIdx.x / kWarp) * kLines;
  const T *x, *w;
  int origin[kLines][2];       // of a window in x
  unsigned inside[kLines][2];  // a bit a tap: not in the border
  int channel = 0, ky = 0, kx = 0;
  float sum[kLines][4] = {};

  __device__ explicit FewOutputs(const ConvParams& params)
      : p(params),
        x(static_cast<const T*>(p.x) + static_cast<int64_t>(blockIdx.z) * p.height * p.width * p.channels + part * 8),
        w(static_cast<const T*>(p.w) + row * p.kernel * p.kernel * p.channels + part * 8) {
#pragma unroll
    for (int l = 0; l < kLines; l++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int y = (top + l) * p.stride - p.pad, column = (left + 8 * half) * p.stride - p.pad;
        origin[l][half] = (y * p.width + column) * p.channels;
        inside[l][half] = 0;
        for (int tap = 0; tap < p.kernel * p.kernel; tap++) {
          const unsigned at_y = y + tap / p.kernel, at_x = column + tap % p.kernel;
          if (at_y < p.height && at_x < p.width) inside[l][half] |= 1u << tap;
        }
      }
  }

  __device__ Operands next() {
    Operands next;
    const int tap = ky * p.kernel + kx;
    const T* at = x + (ky * p.width + kx) * p.channels + channel;
#pragma unroll
    for (int l = 0; l < kLines; l++)
#pragma unroll
      for (int half = 0; half < 2; half++) next.x[l][half] = load16(at + origin[l][half], inside[l][half] >> tap & 1);
    next.w = load16(w + tap * p.channels + channel, row < p.outs);
    if (++kx == p.kernel) {
      kx = 0;
      if (++ky == p.kernel) ky = 0, channel += kChannels;
    }
    return next;
  }

  __device__ void multiply(const Operands& o) {
#pragma unroll
    for (int l = 0; l < kLines; l++) {
      mma_k16<T>(sum[l], {o.x[l][0].x, o.x[l][1].x, o.x[l][0].y, o.x[l][1].y}, o.w.x, o.w.y);
      mma_k16<T>(sum[l], {o.x[l][0].z, o.x[l][1].z, o.x[l][0].w, o.x[l][1].w}, o.w.z, o.w.w);
    }
  }

  __device__ void store() const {
#pragma unroll
    for (int i = 0; i < kLines * 4; i++) {
      const int y = top + i / 4, column = left + i % 4 / 2 * 8, out = 2 * part + i % 2;
      if (y >= p.out_height || column >= p.out_width || out >= p.outs) continue;
      const int64_t pixel = (static_cast<int64_t>(blockIdx.z) * p.out_height + y) * p.out_width + column;
      finish(static_cast<T*>(p.out), pixel * p.outs + out, sum[i / 4][i % 4], p.epilogue, blockIdx.z, out);
    }
  }
};

template <typename T>
__device__ void conv_few(const ConvParams& p) {
  FewOutputs<T> mine(p);
  const int steps = p.kernel * p.kernel * (p.channels / kChannels);
  auto next = mine.next();
#pragma unroll 1
  for (int step = 1; step < steps; step++) {
    const auto now = next;
    next = mine.next();
    mine.multiply(now);
  }
  mine.multiply(next);
  mine.store();
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kWarps* kWarp) conv_few_f16(const __grid_constant__ ConvParams p) {
  conv_few<__half>(p);
}
__global__ void __launch_bounds__(kWarps* kWarp) conv_few_bf16(const __grid_constant__ ConvParams p) {
  conv_few<__nv_bfloat16>(p);
}
}

}  // namespace cudream
