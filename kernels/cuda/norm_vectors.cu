// GroupNorm and LayerNorm of aligned rows, 16 bytes an access; norm.cu is the plain way for all other shapes.
//
// GroupNorm in one launch of (slices, parts at once) blocks: a slice is some pixels; a part is a picture's chunk of some groups
// with all their channels, so that every access runs along memory. A thread keeps one vector of channels and steps over the
// slice's pixels.
//   1. The block copies its slice of x into shared memory, as much as has room (`held`), and `kKept` vectors of what has none
//      into the registers of each thread.
//   2. A thread sums distances from its own first pixel, a value that is exact, so a mean far from zero costs no digits. The
//      threads of the block, and then the slices of the picture, are joined each in a fixed order, as distances from the mean of
//      the first of them: the shifted data algorithm of Chan, Golub and LeVeque ("Algorithms for computing the sample variance",
//      1983).
//   3. Between the block's sums and those of the part stands a barrier across the blocks of the part, which must all be
//      resident: no more parts are made at once (choose.cc), the others follow. A part of one slice needs none.
//   4. The block normalizes what it holds. x is read once and written once, but for what had no room in either: that is read
//      again, from L2 where the parts at once fit it.
// Two kernels: _vectors with two blocks on a multiprocessor, _large with one that has all its shared memory and more registers.
// The host picks as many slices as keep what every block reads beside x below a sixteenth of the bytes.
//
// LayerNorm: a warp holds a row in registers, reads it once and writes it once. Gain and bias lie in shared memory for the 24
// rows of a block: read from L2 by every row they would be two thirds of all bytes.
//
// Both wait for memory more than they compute, so all loads of a thread are on their way before the first is used, gains and
// biases with them, and nothing branches between values.
#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/grid_barrier.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/vector.cuh"

namespace cudream {
namespace {

constexpr int kRowWarps = 24;        // a row each
constexpr int kMostChannels = 1280;  // of a LayerNorm

// What is known of some of a group's elements: how many they are, their mean as pivot + rest, and `squares`, the sum of squared
// distances from it.
struct __align__(16) Moments {
  float pivot, rest, squares, count;
};
static_assert(sizeof(Moments) == SliceParams::kMomentBytes);

// Those of one thread in a group, whose number is known.
struct Run {
  float pivot, rest, squares;
};
static_assert(sizeof(Run) == SliceParams::kRunBytes);

// i / n of i below 2^20, as i + 1/2 is further from a multiple of n than floats are from one another; integers take a tenfold.
__device__ inline int quotient(int i, int n) {
  return static_cast<int>((static_cast<float>(i) + 0.5f) * __fdividef(1, static_cast<float>(n)));
}

// The moments of part(0) .. part(parts - 1) together, by a whole warp; in every lane.
template <typename Part>
__device__ Moments join(int parts, const Part& part) {
  const Moments base = part(0);
  float sum = 0, squares = 0, count = 0;
#pragma unroll 2
  for (int i = threadIdx.x % kWarp; i < parts; i += kWarp) {
    const Moments m = part(i);
    const float distance = m.pivot - base.pivot + (m.rest - base.rest), weighted = m.count * distance;
    sum += weighted;
    squares += fmaf(weighted, distance, m.squares);
    count += m.count;
  }
  sum = warp_sum(sum);
  squares = warp_sum(squares);
  count = warp_sum(count);
  const float mean = __fdividef(sum, count);
  return {base.pivot, base.rest + mean, fmaf(-sum, mean, squares), count};
}

// Where a chunk of a picture is.
struct Part {
  int number, picture, channel;  // the first of its channels
  __device__ Part(const SliceParams& p, int n) : number(n), picture(n / p.chunks), channel((n - picture * p.chunks) * p.chunk) {}
};

// The slice of a part that is this block's, as far as it is this thread's: a vector of channels in every `rows`-th pixel.
template <typename T, int kKept>
struct Share {
  int columns, rows;  // vectors of a pixel's chunk, pixels that the block reads at once
  int column, row;    // column: the vector's first channel within the chunk
  int first, count;   // the first pixel of the picture, and how many
  const T* x;         // the vector in the first pixel, from either input
  int64_t stride;     // from there to the thread's next one
  T* held;            // the thread's first place in shared memory
  int most_held, most_kept;
  uint4 kept[kKept];  // the vectors behind those in shared memory

  __device__ Share(const SliceParams& p, const Part& part, void* shared) {
    columns = p.chunk / kVector<T>;
    rows = p.rows;
    row = quotient(threadIdx.x, columns);
    column = (threadIdx.x - row * columns) * kVector<T>;
    first = blockIdx.x * p.slice + row;
    const int end = row < rows ? min(p.norm.pixels, (blockIdx.x + 1) * p.slice) : 0;  // threads beyond the last row have none
    count = first < end ? (end - first + rows - 1) / rows : 0;
    const int channel = part.channel + column;
    const bool second = channel >= p.norm.own_channels;
    const int pixel = second ? p.norm.channels - p.norm.own_channels : p.norm.own_channels;
    x = static_cast<const T*>(second ? p.norm.x2 : p.norm.x) + channel - (second ? p.norm.own_channels : 0) +
        (static_cast<int64_t>(part.picture) * p.norm.pixels + first) * pixel;
    stride = static_cast<int64_t>(rows) * pixel;
    held = static_cast<T*>(shared) + threadIdx.x * kVector<T>;
    most_held = p.held;
    most_kept = min(max(count - most_held, 0), kKept);
  }

  __device__ T* place(int k) const { return held + k * rows * columns * kVector<T>; }
  // Starts the copies.
  __device__ void hold() {
#pragma unroll 4
    for (int k = 0; k < min(count, most_held); k++) copy16(shared_address(place(k)), x + k * stride);
    copy_commit();
#pragma unroll
    for (int i = 0; i < kKept; i++) kept[i] = load16(x + (most_held + i) * stride, i < most_kept);
  }
  // Calls body(k, values) for the vectors of all pixels, `kAhead` of them on their way at once.
  template <int kAhead, typename Body>
  __device__ void each_vector(const Body& body) const {
    float values[kVector<T>];
#pragma unroll 1
    for (int first = 0; first < count - most_kept; first += kAhead) {
      const auto pixel = [&](int i) { return first + i < most_held ? first + i : first + i + kKept; };
      uint4 bits[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; i++)
        if (first + i < count - most_kept)
          bits[i] = *reinterpret_cast<const uint4*>(first + i < most_held ? place(first + i) : x + pixel(i) * stride);
#pragma unroll
      for (int i = 0; i < kAhead; i++)
        if (first + i < count - most_kept) {
          unpack<T>(bits[i], values);
          body(pixel(i), values);
        }
    }
#pragma unroll
    for (int i = 0; i < kKept; i++)
      if (i < most_kept) {
        unpack<T>(kept[i], values);
        body(most_held + i, values);
      }
  }
};

// The moments of this thread's vector, one for each group that has channels in it: of all its channels from one pivot.
template <typename T, int kKept>
__device__ void sum_vector(const Share<T, kKept>& mine, int each, Run* runs) {
  if (mine.count == 0) return;
  constexpr int kChannels = kVector<T>;
  const int ahead = each - mine.column % each;  // channels of the first group from here on
  float pivot[kChannels], sum[kChannels] = {}, squares[kChannels] = {};
  unpack<T>(*reinterpret_cast<const uint4*>(mine.held), pivot);
  int left = ahead;
#pragma unroll
  for (int i = 1; i < kChannels; i++) {
    left = left > 1 ? left - 1 : each;
    if (left < each) pivot[i] = pivot[i - 1];
  }
  mine.template each_vector<4>([&](int, const float(&x)[kChannels]) {
#pragma unroll
    for (int i = 0; i < kChannels; i++) {
      const float distance = x[i] - pivot[i];
      sum[i] += distance;
      squares[i] = fmaf(distance, distance, squares[i]);
    }
  });
  left = ahead;
  float all = 0, all_squares = 0, count = 0;
#pragma unroll
  for (int i = 0; i < kChannels; i++) {
    all += sum[i];
    all_squares += squares[i];
    count += static_cast<float>(mine.count);
    if (--left > 0 && i + 1 < kChannels) continue;
    const float rest = __fdividef(all, count);
    *runs++ = {pivot[i], rest, fmaf(-all, rest, all_squares)};
    all = all_squares = count = 0;
    left = each;
  }
}

// What the slices have of a group of this block's part. Two places in turn: a block writes of one part when others may still
// read of the last, but the barrier of that one has seen all done with those before.
__device__ inline Moments* moments_of(const SliceParams& p, const Part& part, int group) {
  const int place = 2 * blockIdx.y + part.number / gridDim.y % 2;
  return static_cast<Moments*>(p.moments) + static_cast<int64_t>(place * p.groups + group) * gridDim.x;
}

// y = (x - pivot) * scale + shift; of a channel whose group is not known yet, gain and bias.
struct Affine {
  float pivot, scale, shift;
};

// A warp makes gain and bias of a group's channels what they do to x.
__device__ inline void normalize(const SliceParams& p, int group, const Moments& all, Affine* channel) {
  const float variance = all.squares < 0 ? 0 : all.squares / all.count;  // NaN stays NaN
  const float scale = rsqrtf(variance + p.norm.eps);
  for (int c = group * p.each + threadIdx.x % kWarp; c < (group + 1) * p.each; c += kWarp) {
    const float of_channel = scale * channel[c].scale;
    channel[c] = {all.pivot, of_channel, fmaf(-all.rest, of_channel, channel[c].shift)};
  }
}

// Writes this slice's part of each group of the chunk, or what becomes of the channels where it is the only one.
// `runs` [rows,columns,p.runs], `channel` [chunk].
template <typename T, int kKept>
__device__ void sum_slice(const SliceParams& p, const Part& part, const Share<T, kKept>& mine, Run* runs, Affine* channel) {
  sum_vector(mine, p.each, runs + threadIdx.x * p.runs);
  __syncthreads();

  const int begin = blockIdx.x * p.slice, pixels = min(p.norm.pixels, begin + p.slice) - begin;
  const int rows = min(mine.rows, pixels), least = pixels / mine.rows, more = pixels - least * mine.rows;  // pixels of each row
  for (int group = threadIdx.x / kWarp; group < p.groups; group += blockDim.x / kWarp) {
    const int first = group * p.each / kVector<T>, columns = ((group + 1) * p.each - 1) / kVector<T> - first + 1;
    const int before = group - first * kVector<T> / p.each;  // groups that begin in the first column too
    const Moments all = join(rows * columns, [&](int i) {
      const int row = quotient(i, columns), column = first + i - row * columns;
      const Run& run = runs[(row * mine.columns + column) * p.runs + (column == first ? before : 0)];
      const int channels = min((group + 1) * p.each, (column + 1) * kVector<T>) - max(group * p.each, column * kVector<T>);
      return Moments{run.pivot, run.rest, run.squares, static_cast<float>((least + (row < more ? 1 : 0)) * channels)};
    });
    if (gridDim.x == 1)
      normalize(p, group, all, channel);
    else if (threadIdx.x % kWarp == 0)
      moments_of(p, part, group)[blockIdx.x] = all;
  }
}

__device__ inline void join_slices(const SliceParams& p, const Part& part, Affine* channel) {
  for (int group = threadIdx.x / kWarp; group < p.groups; group += blockDim.x / kWarp)
    normalize(p, group, join(gridDim.x, [&](int slice) { return moments_of(p, part, group)[slice]; }), channel);
}

template <typename T, int kKept>
__device__ void scale_slice(const SliceParams& p, const Part& part, const Share<T, kKept>& mine, const Affine* channel) {
  Affine of[kVector<T>];
#pragma unroll
  for (int i = 0; i < kVector<T>; i++) of[i] = channel[mine.column + i];
  T* out = static_cast<T*>(p.norm.out) + (static_cast<int64_t>(part.picture) * p.norm.pixels + mine.first) * p.norm.channels +
           part.channel + mine.column;
  mine.template each_vector<2>([&](int k, float(&x)[kVector<T>]) {
#pragma unroll
    for (int i = 0; i < kVector<T>; i++) x[i] = fmaf(x[i] - of[i].pivot, of[i].scale, of[i].shift);
    if (p.norm.act == Act::silu) {
#pragma unroll
      for (int i = 0; i < kVector<T>; i++) x[i] = swish(x[i], 1);
    }
    store_neighbours(out + static_cast<int64_t>(k) * mine.rows * p.norm.channels, x);
  });
}

template <typename T, int kKept>
__device__ void group_norm_of(const SliceParams& p, const Part& part, char* shared) {
  Share<T, kKept> mine(p, part, shared);
  auto* runs = reinterpret_cast<Run*>(shared + p.held * mine.rows * mine.columns * 16);
  auto* channel = reinterpret_cast<Affine*>(runs + mine.rows * mine.columns * p.runs);
  mine.hold();
  for (int c = threadIdx.x; c < p.chunk; c += blockDim.x)
    channel[c] = {0, p.norm.gain[part.channel + c], p.norm.bias[part.channel + c]};
  copy_wait<0>();
  sum_slice(p, part, mine, runs, channel);
  if (gridDim.x > 1) {
    wait_for_blocks(p.barriers + blockIdx.y, gridDim.x, blockIdx.x == 0);
    join_slices(p, part, channel);
  }
  __syncthreads();
  scale_slice(p, part, mine, channel);
}

template <typename T, int kKept>
__device__ void group_norm(const SliceParams& p) {
  extern __shared__ __align__(16) char shared[];  // what is held; behind it the moments of all threads, and the channels
#pragma unroll 1
  for (int part = blockIdx.y; part < p.parts; part += gridDim.y) {
    group_norm_of<T, kKept>(p, Part(p, part), shared);
    __syncthreads();
  }
}

template <typename T>
__device__ void layer_norm(const NormParams& p) {
  constexpr int kMost = kMostChannels / (kWarp * kVector<T>);  // vectors a lane
  __shared__ float gain[kMostChannels], bias[kMostChannels];
  const int lane = threadIdx.x % kWarp, row = blockIdx.x * kRowWarps + threadIdx.x / kWarp;
  const int64_t offset = static_cast<int64_t>(row) * p.channels;
  const auto channel = [&](int v) { return (v * kWarp + lane) * kVector<T>; };
  uint4 held[kMost];
#pragma unroll
  for (int v = 0; v < kMost; v++)
    held[v] = load16(static_cast<const T*>(p.x) + offset + channel(v), row < p.pixels && channel(v) < p.channels);
#pragma unroll
  for (int i = 0; i < kMostChannels; i += kRowWarps * kWarp)
    if (const int c = i + threadIdx.x; c < p.channels) {
      gain[c] = p.gain[c];
      bias[c] = p.bias[c];
    }
  __syncthreads();
  if (row >= p.pixels) return;

  const float share = 1 / static_cast<float>(p.channels);
  float sum = 0, distances = 0, squares = 0;
#pragma unroll
  for (int v = 0; v < kMost; v++) {
    float x[kVector<T>];
    unpack<T>(held[v], x);
#pragma unroll
    for (int k = 0; k < kVector<T>; k++) sum += x[k];
  }
  const float mean = warp_sum(sum) * share;
#pragma unroll
  for (int v = 0; v < kMost; v++)
    if (channel(v) < p.channels) {
      float x[kVector<T>];
      unpack<T>(held[v], x);
#pragma unroll
      for (int k = 0; k < kVector<T>; k++) {
        const float distance = x[k] - mean;
        distances += distance;
        squares = fmaf(distance, distance, squares);
      }
    }
  // A mean far from zero is not exact in float; the mean distance is what it lacks.
  const float rest = warp_sum(distances) * share;
  const float scale = rsqrtf(fmaxf(warp_sum(squares) * share - rest * rest, 0.f) + p.eps);
#pragma unroll
  for (int v = 0; v < kMost; v++)
    if (channel(v) < p.channels) {
      float x[kVector<T>];
      unpack<T>(held[v], x);
#pragma unroll
      for (int k = 0; k < kVector<T>; k++) x[k] = fmaf((x[k] - mean - rest) * scale, gain[channel(v) + k], bias[channel(v) + k]);
      store_neighbours(static_cast<T*>(p.out) + offset + channel(v), x);
    }
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(SliceParams::kSmall.threads, SliceParams::kSmall.blocks)
    group_norm_vectors_f32(const __grid_constant__ SliceParams p) {
  group_norm<float, SliceParams::kSmall.kept>(p);
}
__global__ void __launch_bounds__(SliceParams::kSmall.threads, SliceParams::kSmall.blocks)
    group_norm_vectors_f16(const __grid_constant__ SliceParams p) {
  group_norm<__half, SliceParams::kSmall.kept>(p);
}
__global__ void __launch_bounds__(SliceParams::kSmall.threads, SliceParams::kSmall.blocks)
    group_norm_vectors_bf16(const __grid_constant__ SliceParams p) {
  group_norm<__nv_bfloat16, SliceParams::kSmall.kept>(p);
}
__global__ void __launch_bounds__(SliceParams::kLarge.threads, SliceParams::kLarge.blocks)
    group_norm_large_f32(const __grid_constant__ SliceParams p) {
  group_norm<float, SliceParams::kLarge.kept>(p);
}
__global__ void __launch_bounds__(SliceParams::kLarge.threads, SliceParams::kLarge.blocks)
    group_norm_large_f16(const __grid_constant__ SliceParams p) {
  group_norm<__half, SliceParams::kLarge.kept>(p);
}
__global__ void __launch_bounds__(SliceParams::kLarge.threads, SliceParams::kLarge.blocks)
    group_norm_large_bf16(const __grid_constant__ SliceParams p) {
  group_norm<__nv_bfloat16, SliceParams::kLarge.kept>(p);
}
__global__ void __launch_bounds__(kRowWarps* kWarp) layer_norm_vectors_f32(const __grid_constant__ NormParams p) {
  layer_norm<float>(p);
}
__global__ void __launch_bounds__(kRowWarps* kWarp, 2) layer_norm_vectors_f16(const __grid_constant__ NormParams p) {
  layer_norm<__half>(p);
}
__global__ void __launch_bounds__(kRowWarps* kWarp, 2) layer_norm_vectors_bf16(const __grid_constant__ NormParams p) {
  layer_norm<__nv_bfloat16>(p);
}
}

}  // namespace cudream
