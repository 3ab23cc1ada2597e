// GroupNorm and LayerNorm of aligned rows, 16 bytes an access; norm.cu is the plain way for all other shapes.
//
// GroupNorm in two kernels with one grid, (slices, 1, N): a slice is some pixels with all their channels, so that every access
// runs along memory. A thread keeps one vector of channels and steps over the slice's pixels.
//   group_sums   makes {pivot, mean - pivot, squared distances} of each group in each slice. A thread sums distances from its own
//                first pixel, a value that is exact, so a mean far from zero costs no digits; sums of distances are joined by the
//                formula of Chan, Golub and LeVeque ("Updating formulae", 1979), over channels and threads of a block in fixed
//                order.
//   group_scale  joins the slices of each group, again in fixed order, and normalizes. Every block does so for its own groups.
// x is read twice and written once: a group is larger than what a multiprocessor holds, and the second reading comes from L2
// where x fits it. The host picks as many slices as keep what every block reads beside x below a sixteenth of the bytes
// (choose.cc).
//
// LayerNorm: a warp holds a row in registers, reads it once and writes it once. Gain and bias lie in shared memory for the 24
// rows of a block: read from L2 by every row they would be two thirds of all bytes.
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vector.cuh"

namespace cudream {
namespace {

constexpr int kGroupThreads = 320;  // the most: one vector of channels each
constexpr int kGroupBlocks = 1;     // on a multiprocessor at once, so that the compiler gives a thread the registers it needs
constexpr int kRowWarps = 8, kRowsPerWarp = 3;
constexpr int kMostChannels = 1280;  // of a LayerNorm

// What is known of some of a group's elements: their mean is pivot + rest, and `squares` the sum of squared distances from it.
struct Moments {
  float pivot, rest, squares;
};

// The moments of parts 0 .. parts - 1 as one, by a whole warp. `part(i)` gives the i-th, `count(i)` its elements; part 0 has
// some.
template <typename Part, typename Count>
__device__ Moments join(int parts, float elements, const Part& part, const Count& count) {
  const int lane = threadIdx.x % kWarp;
  const float pivot = part(0).pivot;
  float rest = 0, squares = 0;
  for (int i = lane; i < parts; i += kWarp) {
    const Moments m = part(i);
    rest = fmaf(count(i), m.pivot - pivot + m.rest, rest);
  }
  rest = warp_sum(rest) / elements;
  for (int i = lane; i < parts; i += kWarp) {
    const Moments m = part(i);
    const float distance = m.pivot - pivot + m.rest - rest;
    squares += fmaf(count(i) * distance, distance, m.squares);
  }
  return {pivot, rest, warp_sum(squares)};
}

// The part of a slice that is this thread's: a vector of channels, and every `rows`-th pixel from `first` on.
template <typename T>
struct Share {
  int column, row, rows, first, end;  // column: the vector's first channel within the chunk
  const T* x;                         // the thread's vector in pixel 0 of the picture, from either input
  int stride;                         // from there to the next pixel's
  int64_t offset;                     // likewise in out

  __device__ explicit Share(const SliceParams& p) {
    const int columns = p.chunk / kVector<T>;
    rows = blockDim.x / columns;
    row = threadIdx.x / columns;
    column = (threadIdx.x - row * columns) * kVector<T>;
    first = blockIdx.x * p.slice + row;
    end = row < rows ? min(p.norm.pixels, (blockIdx.x + 1) * p.slice) : 0;  // threads beyond the last whole row have none
    const int channel = blockIdx.y * p.chunk + column;
    const int64_t pixel = static_cast<int64_t>(blockIdx.z) * p.norm.pixels;
    const bool second = channel >= p.norm.own_channels;
    stride = second ? p.norm.channels - p.norm.own_channels : p.norm.own_channels;
    x = static_cast<const T*>(second ? p.norm.x2 : p.norm.x) + pixel * stride + channel - (second ? p.norm.own_channels : 0);
    offset = pixel * p.norm.channels + channel;
  }
};

// What group_sums leaves for the groups of this block's chunk, by slice.
__device__ inline Moments* parts_of(const SliceParams& p, int slice) {
  const int each = p.norm.channels / p.norm.groups;
  return static_cast<Moments*>(p.parts) + (blockIdx.z * gridDim.x + slice) * p.norm.groups + blockIdx.y * (p.chunk / each);
}

template <typename T>
__device__ void group_sums(const SliceParams& p) {
  extern __shared__ Moments parts[];  // [rows][chunk]
  const Share<T> mine(p);
  const int each = p.norm.channels / p.norm.groups;

  float pivot[kVector<T>] = {}, sum[kVector<T>] = {}, squares[kVector<T>] = {};
  int pixels = 0;
  if (mine.first < mine.end) load_neighbours(mine.x + static_cast<int64_t>(mine.first) * mine.stride, pivot);
#pragma unroll 4
  for (int pixel = mine.first + mine.rows; pixel < mine.end; pixel += mine.rows) {
    float x[kVector<T>];
    load_neighbours(mine.x + static_cast<int64_t>(pixel) * mine.stride, x);
#pragma unroll
    for (int i = 0; i < kVector<T>; i++) {
      const float distance = x[i] - pivot[i];
      sum[i] += distance;
      squares[i] = fmaf(distance, distance, squares[i]);
    }
    pixels++;
  }
  if (mine.row < mine.rows) {
    const float all = static_cast<float>(pixels + 1);
#pragma unroll
    for (int i = 0; i < kVector<T>; i++) {
      const float rest = sum[i] / all;
      parts[mine.row * p.chunk + mine.column + i] = {pivot[i], rest, fmaf(-sum[i], rest, squares[i])};
    }
  }
  __syncthreads();

  const int begin = blockIdx.x * p.slice, here = min(p.norm.pixels, begin + p.slice) - begin;
  for (int group = threadIdx.x / kWarp; group < p.chunk / each; group += blockDim.x / kWarp) {
    const auto part = [&](int i) { return parts[i / each * p.chunk + group * each + i % each]; };
    const auto count = [&](int i) { return static_cast<float>((here - i / each + mine.rows - 1) / mine.rows); };
    const int rows = min(mine.rows, here);
    const Moments all = join(rows * each, static_cast<float>(here * each), part, count);
    if (threadIdx.x % kWarp == 0) parts_of(p, blockIdx.x)[group] = all;
  }
}

// y = (x - pivot - rest) * scale + bias
struct Affine {
  float pivot, rest, scale, bias;
};

template <typename T>
__device__ void group_scale(const SliceParams& p) {
  extern __shared__ Affine channel[];  // [chunk]
  const Share<T> mine(p);
  const int channels = p.norm.channels, each = channels / p.norm.groups, first = blockIdx.y * p.chunk;
  for (int group = threadIdx.x / kWarp; group < p.chunk / each; group += blockDim.x / kWarp) {
    const auto part = [&](int slice) { return parts_of(p, slice)[group]; };
    const auto count = [&](int slice) { return static_cast<float>(min(p.slice, p.norm.pixels - slice * p.slice) * each); };
    const float elements = static_cast<float>(p.norm.pixels) * static_cast<float>(each);
    const Moments all = join(gridDim.x, elements, part, count);
    const float scale = rsqrtf(all.squares / elements + p.norm.eps);
    for (int c = group * each + threadIdx.x % kWarp; c < (group + 1) * each; c += kWarp)
      channel[c] = {all.pivot, all.rest, scale * p.norm.gain[first + c], p.norm.bias[first + c]};
  }
  __syncthreads();
  if (mine.first >= mine.end) return;

  Affine of[kVector<T>];
#pragma unroll
  for (int i = 0; i < kVector<T>; i++) of[i] = channel[mine.column + i];
  T* out = static_cast<T*>(p.norm.out) + mine.offset;
  for (int pixel = mine.first; pixel < mine.end; pixel += mine.rows) {
    float x[kVector<T>];
    load_neighbours(mine.x + static_cast<int64_t>(pixel) * mine.stride, x);
#pragma unroll
    for (int i = 0; i < kVector<T>; i++)
      x[i] = activate(fmaf(x[i] - of[i].pivot - of[i].rest, of[i].scale, of[i].bias), p.norm.act);
    store_neighbours(out + static_cast<int64_t>(pixel) * channels, x);
  }
}

template <typename T>
__device__ void layer_norm(const NormParams& p) {
  constexpr int kMost = kMostChannels / (kWarp * kVector<T>);  // vectors a lane
  __shared__ float gain[kMostChannels], bias[kMostChannels];
  for (int c = threadIdx.x; c < p.channels; c += kRowWarps * kWarp) {
    gain[c] = p.gain[c];
    bias[c] = p.bias[c];
  }
  __syncthreads();
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const auto channel = [&](int vector) { return (vector * kWarp + lane) * kVector<T>; };

  for (int i = 0; i < kRowsPerWarp; i++) {
    const int row = (blockIdx.x * kRowsPerWarp + i) * kRowWarps + warp;
    if (row >= p.pixels) return;
    const int64_t offset = static_cast<int64_t>(row) * p.channels;
    float x[kMost][kVector<T>], sum = 0, distances = 0, squares = 0;
#pragma unroll
    for (int v = 0; v < kMost; v++)
      if (channel(v) < p.channels) {
        load_neighbours(static_cast<const T*>(p.x) + offset + channel(v), x[v]);
#pragma unroll
        for (int k = 0; k < kVector<T>; k++) sum += x[v][k];
      }
    const float mean = warp_sum(sum) / p.channels;
#pragma unroll
    for (int v = 0; v < kMost; v++)
      if (channel(v) < p.channels)
#pragma unroll
        for (int k = 0; k < kVector<T>; k++) {
          x[v][k] -= mean;
          distances += x[v][k];
          squares = fmaf(x[v][k], x[v][k], squares);
        }
    // A mean far from zero is not exact in float; the mean distance is what it lacks.
    const float rest = warp_sum(distances) / p.channels;
    const float scale = 1 / sqrtf(fmaxf(warp_sum(squares) / p.channels - rest * rest, 0.f) + p.eps);
#pragma unroll
    for (int v = 0; v < kMost; v++)
      if (channel(v) < p.channels) {
#pragma unroll
        for (int k = 0; k < kVector<T>; k++) x[v][k] = fmaf((x[v][k] - rest) * scale, gain[channel(v) + k], bias[channel(v) + k]);
        store_neighbours(static_cast<T*>(p.out) + offset + channel(v), x[v]);
      }
  }
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kGroupThreads, kGroupBlocks) group_sums_f32(const __grid_constant__ SliceParams p) {
  group_sums<float>(p);
}
__global__ void __launch_bounds__(kGroupThreads, kGroupBlocks) group_sums_f16(const __grid_constant__ SliceParams p) {
  group_sums<__half>(p);
}
__global__ void __launch_bounds__(kGroupThreads, kGroupBlocks) group_sums_bf16(const __grid_constant__ SliceParams p) {
  group_sums<__nv_bfloat16>(p);
}
__global__ void __launch_bounds__(kGroupThreads, kGroupBlocks) group_scale_f32(const __grid_constant__ SliceParams p) {
  group_scale<float>(p);
}
__global__ void __launch_bounds__(kGroupThreads, kGroupBlocks) group_scale_f16(const __grid_constant__ SliceParams p) {
  group_scale<__half>(p);
}
__global__ void __launch_bounds__(kGroupThreads, kGroupBlocks) group_scale_bf16(const __grid_constant__ SliceParams p) {
  group_scale<__nv_bfloat16>(p);
}
__global__ void __launch_bounds__(kRowWarps* kWarp) layer_norm_vectors_f32(const __grid_constant__ NormParams p) {
  layer_norm<float>(p);
}
__global__ void __launch_bounds__(kRowWarps* kWarp) layer_norm_vectors_f16(const __grid_constant__ NormParams p) {
  layer_norm<__half>(p);
}
__global__ void __launch_bounds__(kRowWarps* kWarp) layer_norm_vectors_bf16(const __grid_constant__ NormParams p) {
  layer_norm<__nv_bfloat16>(p);
}
}

}  // namespace cudream
