// GroupNorm ("Group Normalization", Wu and He 2018) with an activation behind it, and LayerNorm (Ba et al. 2016).
//
// group_norm: a block of 256 threads takes one group of one picture, grid (groups, 1, N), and reads it three times: for the
// mean, for the distances from it and their squares, and to normalize. A mean far from zero, whose float is not exact, costs no
// digits: the mean distance is what it lacks. The second and third reading mostly come from the caches. A group is
// [pixels, channels / groups]; each thread steps through it by a fixed number of elements, which is a fixed number of pixels
// and channels: the loop divides nothing.
//
// layer_norm: a warp takes one row, 4 rows a block, in the same three passes.
//
// Compulsory bytes are one reading and one writing of x. One block a group leaves most of a large card idle; it is the plain way.
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/value.cuh"

namespace cudream {
namespace {

constexpr int kGroupThreads = 256;
constexpr int kRowThreads = 128;

// The elements of a group that belong to this thread, in order.
struct GroupWalk {
  int pixel, channel, each, pixel_step, channel_step;
  __device__ explicit GroupWalk(int width)
      : pixel(threadIdx.x / width),
        channel(threadIdx.x - pixel * width),
        each(width),
        pixel_step(kGroupThreads / width),
        channel_step(kGroupThreads - pixel_step * width) {}
  __device__ void step() {
    pixel += pixel_step;
    channel += channel_step;
    if (channel < each) return;
    channel -= each;
    pixel++;
  }
};

// 1 / sqrt(variance + eps), from the mean square of distances whose own mean is `rest`.
__device__ inline float scale_of(float square, float rest, float eps) {
  return 1 / sqrtf(fmaxf(square - rest * rest, 0.f) + eps);
}

template <typename T>
__device__ void group_norm(const NormParams& p) {
  __shared__ float shared[kGroupThreads / kWarp];
  const int each = p.channels / p.groups, channel0 = blockIdx.x * each;
  const int64_t first = static_cast<int64_t>(blockIdx.z) * p.pixels;  // pixel of all pictures
  const int rest_channels = p.channels - p.own_channels;
  const T* x = static_cast<const T*>(p.x) + first * p.own_channels;
  const T* x2 = static_cast<const T*>(p.x2) + first * rest_channels;
  const auto element = [&](const GroupWalk& at) {
    const int channel = channel0 + at.channel;
    const bool second = channel >= p.own_channels;
    return to_float(second ? x2[static_cast<int64_t>(at.pixel) * rest_channels + channel - p.own_channels]
                           : x[static_cast<int64_t>(at.pixel) * p.own_channels + channel]);
  };
  T* out = static_cast<T*>(p.out) + first * p.channels + channel0;
  const float count = static_cast<float>(p.pixels) * static_cast<float>(each);

  float sum = 0;
  for (GroupWalk at(each); at.pixel < p.pixels; at.step()) sum += element(at);
  const float mean = block_sum<kGroupThreads>(sum, shared) / count;

  float distances = 0, squares = 0;
  for (GroupWalk at(each); at.pixel < p.pixels; at.step()) {
    const float distance = element(at) - mean;
    distances += distance;
    squares = fmaf(distance, distance, squares);
  }
  const float rest = block_sum<kGroupThreads>(distances, shared) / count;
  const float scale = scale_of(block_sum<kGroupThreads>(squares, shared) / count, rest, p.eps);

  for (GroupWalk at(each); at.pixel < p.pixels; at.step()) {
    const int64_t i = static_cast<int64_t>(at.pixel) * p.channels + at.channel;
    const int channel = channel0 + at.channel;
    out[i] = from_float<T>(activate((element(at) - mean - rest) * scale * p.gain[channel] + p.bias[channel], p.act));
  }
}

template <typename T>
__device__ void layer_norm(const NormParams& p) {
  const int row = blockIdx.x * (kRowThreads / kWarp) + threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  if (row >= p.pixels) return;
  const T* x = static_cast<const T*>(p.x) + static_cast<int64_t>(row) * p.channels;
  T* out = static_cast<T*>(p.out) + static_cast<int64_t>(row) * p.channels;

  float sum = 0;
  for (int c = lane; c < p.channels; c += kWarp) sum += to_float(x[c]);
  const float mean = warp_sum(sum) / p.channels;

  float distances = 0, squares = 0;
  for (int c = lane; c < p.channels; c += kWarp) {
    const float distance = to_float(x[c]) - mean;
    distances += distance;
    squares = fmaf(distance, distance, squares);
  }
  const float rest = warp_sum(distances) / p.channels;
  const float scale = scale_of(warp_sum(squares) / p.channels, rest, p.eps);

  for (int c = lane; c < p.channels; c += kWarp)
    out[c] = from_float<T>((to_float(x[c]) - mean - rest) * scale * p.gain[c] + p.bias[c]);
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kGroupThreads) group_norm_f32(const __grid_constant__ NormParams p) {
  group_norm<float>(p);
}
__global__ void __launch_bounds__(kGroupThreads) group_norm_f16(const __grid_constant__ NormParams p) {
  group_norm<__half>(p);
}
__global__ void __launch_bounds__(kGroupThreads) group_norm_bf16(const __grid_constant__ NormParams p) {
  group_norm<__nv_bfloat16>(p);
}
__global__ void __launch_bounds__(kRowThreads) layer_norm_f32(const __grid_constant__ NormParams p) {
  layer_norm<float>(p);
}
__global__ void __launch_bounds__(kRowThreads) layer_norm_f16(const __grid_constant__ NormParams p) {
  layer_norm<__half>(p);
}
__global__ void __launch_bounds__(kRowThreads) layer_norm_bf16(const __grid_constant__ NormParams p) {
  layer_norm<__nv_bfloat16>(p);
}
}

}  // namespace cudream
