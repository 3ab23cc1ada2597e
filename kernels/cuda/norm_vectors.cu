// GroupNorm and LayerNorm of aligned rows, 16 bytes an access; norm.cu is the plain way for all other shapes.
//
// GroupNorm in one launch of (slices, chunks, N) blocks: a slice is some pixels, a chunk some groups with all their channels, so
// that every access runs along memory. A thread keeps one vector of channels and steps over the slice's pixels.
//   1. The block copies its slice of x into shared memory, as much as has room (`held`).
//   2. A thread sums distances from its own first pixel, a value that is exact, so a mean far from zero costs no digits. Its
//      channels, the threads of the block, and the slices of the picture are joined in this order, each always in the same, by
//      the formula of Chan, Golub and LeVeque ("Updating formulae", 1979).
//   3. Between the block's sums and those of the picture stands a barrier across the blocks of a chunk, which must all be
//      resident: the host starts no more pictures at once (choose.cc). A chunk of one slice needs none.
//   4. The block normalizes what it holds. x is read once and written once, but for what had no room: that is read again, from
//      L2 where x fits it.
// The host picks as many slices as keep what every block reads beside x below a sixteenth of the bytes.
//
// LayerNorm: a warp holds a row in registers, reads it once and writes it once. Gain and bias lie in shared memory for the 24
// rows of a block: read from L2 by every row they would be two thirds of all bytes.
#include "kernels/cuda/grid_barrier.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace cudream {
namespace {

constexpr int kRowWarps = 8, kRowsPerWarp = 3;
constexpr int kMostChannels = 1280;  // of a LayerNorm

// What is known of some of a group's elements: how many they are, their mean as pivot + rest, and `squares`, the sum of squared
// distances from it.
struct __align__(16) Moments {
  float pivot, rest, squares, count;
};
static_assert(sizeof(Moments) == SliceParams::kMomentBytes);

// The moments of both together. Either may be of no elements.
__device__ inline Moments joined(const Moments& a, const Moments& b) {
  if (b.count == 0) return a;
  if (a.count == 0) return b;
  const float count = a.count + b.count, share = b.count / count, distance = b.pivot - a.pivot + (b.rest - a.rest);
  return {a.pivot, fmaf(distance, share, a.rest), fmaf(distance * distance, a.count * share, a.squares + b.squares), count};
}

// The moments of part(0) .. part(parts - 1) together, by a whole warp; in every lane.
template <typename Part>
__device__ Moments join(int parts, const Part& part) {
  Moments all{};
  for (int i = threadIdx.x % kWarp; i < parts; i += kWarp) all = joined(all, part(i));
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const auto below = [step](float x) { return __shfl_down_sync(kAllLanes, x, step); };
    all = joined(all, {below(all.pivot), below(all.rest), below(all.squares), below(all.count)});
  }
  const auto first = [](float x) { return __shfl_sync(kAllLanes, x, 0); };
  return {first(all.pivot), first(all.rest), first(all.squares), first(all.count)};
}

// The part of a slice that is this thread's: a vector of channels in every `rows`-th pixel.
template <typename T>
struct Share {
  int columns, rows;  // vectors of a pixel's chunk, pixels that the block reads at once
  int column, row;    // column: the vector's first channel within the chunk
  int first, count;   // the first pixel of the picture, and how many
  const T* x;         // the vector in the first pixel, from either input
  int64_t stride;     // from there to the thread's next one
  T* held;            // the thread's first place in shared memory
  int most_held;

  __device__ Share(const SliceParams& p, void* shared) {
    columns = p.chunk / kVector<T>;
    rows = blockDim.x / columns;
    row = threadIdx.x / columns;
    column = (threadIdx.x - row * columns) * kVector<T>;
    first = blockIdx.x * p.slice + row;
    const int end = row < rows ? min(p.norm.pixels, (blockIdx.x + 1) * p.slice) : 0;  // threads beyond the last row have none
    count = first < end ? (end - first + rows - 1) / rows : 0;
    const int channel = blockIdx.y * p.chunk + column;
    const bool second = channel >= p.norm.own_channels;
    const int pixel = second ? p.norm.channels - p.norm.own_channels : p.norm.own_channels;
    x = static_cast<const T*>(second ? p.norm.x2 : p.norm.x) + channel - (second ? p.norm.own_channels : 0) +
        (static_cast<int64_t>(blockIdx.z) * p.norm.pixels + first) * pixel;
    stride = static_cast<int64_t>(rows) * pixel;
    held = static_cast<T*>(shared) + threadIdx.x * kVector<T>;
    most_held = p.held;
  }

  __device__ T* place(int k) const { return held + k * rows * columns * kVector<T>; }
  __device__ void hold() const {
    for (int k = 0; k < min(count, most_held); k++) copy16(shared_address(place(k)), x + k * stride);
    copy_commit();
    copy_wait<0>();
  }
  // The k-th vector.
  __device__ void load(int k, float (&values)[kVector<T>]) const {
    if (k < most_held)
      load_neighbours(place(k), values);
    else
      load_neighbours(x + k * stride, values);
  }
};

// The moments of this thread's vector, one for each group that has channels in it.
template <typename T>
__device__ void sum_vector(const Share<T>& mine, int each, Moments* runs) {
  if (mine.count == 0) return;
  float pivot[kVector<T>], sum[kVector<T>] = {}, squares[kVector<T>] = {};
  mine.load(0, pivot);
#pragma unroll 4
  for (int k = 1; k < mine.count; k++) {
    float x[kVector<T>];
    mine.load(k, x);
#pragma unroll
    for (int i = 0; i < kVector<T>; i++) {
      const float distance = x[i] - pivot[i];
      sum[i] += distance;
      squares[i] = fmaf(distance, distance, squares[i]);
    }
  }
  const float count = static_cast<float>(mine.count);
  int left = each - mine.column % each;  // channels of the group from here on
  Moments run{};
#pragma unroll
  for (int i = 0; i < kVector<T>; i++) {
    const float rest = sum[i] / count;
    run = joined(run, {pivot[i], rest, fmaf(-sum[i], rest, squares[i]), count});
    if (--left > 0 && i + 1 < kVector<T>) continue;
    *runs++ = run;
    run = {};
    left = each;
  }
}

// What the slices have of a group of this block's chunk.
__device__ inline Moments* parts_of(const SliceParams& p, int group) {
  const int before = blockIdx.y * (p.chunk / (p.norm.channels / p.norm.groups));
  return static_cast<Moments*>(p.parts) + (static_cast<int64_t>(blockIdx.z) * p.norm.groups + before + group) * gridDim.x;
}

// Writes this slice's part of each group of the chunk. `runs` [rows,columns,p.runs].
template <typename T>
__device__ void sum_slice(const SliceParams& p, const Share<T>& mine, Moments* runs) {
  const int each = p.norm.channels / p.norm.groups;
  sum_vector(mine, each, runs + threadIdx.x * p.runs);
  __syncthreads();

  const int begin = blockIdx.x * p.slice, rows = min(mine.rows, min(p.norm.pixels, begin + p.slice) - begin);
  for (int group = threadIdx.x / kWarp; group < p.chunk / each; group += blockDim.x / kWarp) {
    const int first = group * each / kVector<T>, columns = ((group + 1) * each - 1) / kVector<T> - first + 1;
    const Moments all = join(rows * columns, [&](int i) {
      const int row = i / columns, column = first + i - row * columns, before = column * kVector<T> / each;
      return runs[(row * mine.columns + column) * p.runs + group - before];
    });
    if (threadIdx.x % kWarp == 0) parts_of(p, group)[blockIdx.x] = all;
  }
}

// y = (x - pivot) * scale + shift
struct Affine {
  float pivot, scale, shift;
};

// Joins the slices of each group, and normalizes. `channel` [chunk].
template <typename T>
__device__ void scale_slice(const SliceParams& p, const Share<T>& mine, Affine* channel) {
  const int channels = p.norm.channels, each = channels / p.norm.groups, before = blockIdx.y * p.chunk;
  for (int group = threadIdx.x / kWarp; group < p.chunk / each; group += blockDim.x / kWarp) {
    const Moments all = join(gridDim.x, [&](int slice) { return parts_of(p, group)[slice]; });
    const float scale = rsqrtf(all.squares / all.count + p.norm.eps);
    for (int c = group * each + threadIdx.x % kWarp; c < (group + 1) * each; c += kWarp) {
      const float of_channel = scale * p.norm.gain[before + c];
      channel[c] = {all.pivot, of_channel, fmaf(-all.rest, of_channel, p.norm.bias[before + c])};
    }
  }
  __syncthreads();

  Affine of[kVector<T>];
#pragma unroll
  for (int i = 0; i < kVector<T>; i++) of[i] = channel[mine.column + i];
  T* out = static_cast<T*>(p.norm.out) + (static_cast<int64_t>(blockIdx.z) * p.norm.pixels + mine.first) * channels + before +
           mine.column;
  for (int k = 0; k < mine.count; k++, out += mine.rows * channels) {
    float x[kVector<T>];
    mine.load(k, x);
#pragma unroll
    for (int i = 0; i < kVector<T>; i++) x[i] = activate(fmaf(x[i] - of[i].pivot, of[i].scale, of[i].shift), p.norm.act);
    store_neighbours(out, x);
  }
}

template <typename T>
__device__ void group_norm(const SliceParams& p) {
  extern __shared__ __align__(16) char shared[];  // what is held; behind it the moments of all threads, then the channels
  const Share<T> mine(p, shared);
  char* sums = shared + p.held * mine.rows * mine.columns * 16;
  mine.hold();
  sum_slice(p, mine, reinterpret_cast<Moments*>(sums));
  if (gridDim.x > 1)
    wait_for_blocks(p.barriers + blockIdx.z * gridDim.y + blockIdx.y, gridDim.x);
  else
    __syncthreads();
  scale_slice(p, mine, reinterpret_cast<Affine*>(sums));
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
__global__ void __launch_bounds__(SliceParams::kThreads, SliceParams::kBlocksAtOnce)
    group_norm_vectors_f32(const __grid_constant__ SliceParams p) {
  group_norm<float>(p);
}
__global__ void __launch_bounds__(SliceParams::kThreads, SliceParams::kBlocksAtOnce)
    group_norm_vectors_f16(const __grid_constant__ SliceParams p) {
  group_norm<__half>(p);
}
__global__ void __launch_bounds__(SliceParams::kThreads, SliceParams::kBlocksAtOnce)
    group_norm_vectors_bf16(const __grid_constant__ SliceParams p) {
  group_norm<__nv_bfloat16>(p);
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
