// softmax(scale q k^T) v on tensor cores for the one wide head of 512 elements in the middle of an autoencoder (4096 tokens and
// more), f16 and bf16 with float sums. Not causal.
//
// Why another shape than flash_attention.cu. 64 queries with 512 float sums each are 128 KiB, half of a multiprocessor's
// registers: a warp cannot own queries, the block must. So 8 warps share 64 queries, grid (length / 64, heads, N), and change
// roles twice for every tile of 32 keys:
//   score    S[64,32] = Q K^T by 4 x 2 warps, each 16 x 16, over 512 elements;
//   weigh    softmax in registers; the two warps of a query exchange their maxima through shared memory;
//   gather   O[64,512] += P V, each warp 64 queries x 64 columns (16 of each 128), P through shared memory.
//
// Shared memory is 93 KiB, so that every card from compute capability 8.0 on runs it: Q, 64 KiB, all the time; a ring of three
// slabs of 32 keys x 128 elements, 8 KiB each; P; what the warps exchange. A tile of keys is four slabs of K, then four of V. At
// the top of a step a warp waits for its own copies of the slab, meets the others at a barrier, starts the copies of the slab
// after next and multiplies. The kept maxima are those of flash_attention.cu: moved only where they must.
//
// Per tile of 32 keys: 64 KiB copied, 4.2 MFLOP; a warp has 128 mma, 80 ldmatrix, 16 cp.async. Scores take one ldmatrix an mma,
// so shared memory binds them where tensor cores are fast. They are 1.4 % of a decoding at 512 pixels.
#include "kernels/cuda/args.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace cudream {
namespace {

constexpr int kSize = 512, kRows = 64, kKeys = 32, kWarps = 8, kThreads = kWarps * kWarp;
constexpr int kSlabs = 4, kSlabSize = kSize / kSlabs, kStages = 3;
constexpr int kRowBytes = kSize * 2, kQueryBytes = kRows * kRowBytes;
constexpr int kSlabRowBytes = kSlabSize * 2, kSlabBytes = kKeys * kSlabRowBytes;
constexpr int kWeightBytes = kRows * kKeys * 2;
constexpr float kMostGrowth = 8;  // powers of two that a maximum may exceed the kept one by

using QueryLayout = Swizzle<kSize / 8>;
using SlabLayout = Swizzle<kSlabSize / 8>;
using WeightLayout = Swizzle<kKeys / 8>;

// Slabs of K and V on their way through the ring, in the order of their use. Every call of `next` begins one group of copies, an
// empty one behind the last tile, so that waiting for all but one of them always means the slab that is due.
struct Ring {
  const char *k, *v;     // this thread's first chunk
  int64_t k_row, v_row;  // bytes from one token to the next
  uint32_t first, now, free;
  uint32_t to;  // this thread's place in a slab
  int row, keys;

  __device__ void fetch(const char* from, int64_t token, int slab, int key) {
#pragma unroll
    for (int i = 0; i < kKeys; i += kThreads / 16) {
      const bool exists = key + row + i < keys;
      copy16(free + to + i * kSlabRowBytes, exists ? from + (key + row + i) * token + slab * kSlabRowBytes : from,
             exists ? 16 : 0);
    }
    copy_commit();
  }
  // Waits for the slab in `now`, and begins the one after next: step 0 to 7 of the tile at `key`.
  __device__ void next(int step, int key) {
    copy_wait<1>();
    __syncthreads();
    const int ahead = step + 2;
    if (ahead < kSlabs)
      fetch(k, k_row, ahead, key);
    else if (ahead < 2 * kSlabs)
      fetch(v, v_row, ahead - kSlabs, key);
    else if (key + kKeys < keys)
      fetch(k, k_row, ahead - 2 * kSlabs, key + kKeys);
    else
      copy_commit();
  }
  __device__ void advance() {
    free = now;
    now = now + kSlabBytes == first + kStages * kSlabBytes ? first : now + kSlabBytes;
  }
};

template <typename T>
struct Wide {
  char* shared;         // Q, at the end the output
  char* weights;        // P
  float* exchange;      // [2][kRows]: a value of each query from either column of warps
  float* shrink;        // [kRows]: what the sums of the earlier tiles are multiplied with
  int lane, row, side;  // of this warp in the scores: its first query, and which half of the keys
  uint32_t query_at[4], key_at[4], value_at, weight_at[2];
  float scale;
  float out[kRows / 16][kSlabs * 2][4];
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};

  __device__ Wide(char* memory, float log2_scale) : shared(memory), scale(log2_scale) {
    const int warp = threadIdx.x / kWarp;
    lane = threadIdx.x % kWarp;
    row = warp / 2 * 16;
    side = warp % 2;
    weights = shared + kQueryBytes + kStages * kSlabBytes;
    exchange = reinterpret_cast<float*>(weights + kWeightBytes);
    shrink = exchange + 2 * kRows;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      query_at[i] = shared_address(shared) + row * kRowBytes + QueryLayout::at(lane % 16, 2 * i + lane / 16);
      key_at[i] = side * 16 * kSlabRowBytes + SlabLayout::at(lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2);
    }
    value_at = SlabLayout::at(lane % 16, 2 * warp + lane / 16);
#pragma unroll
    for (int i = 0; i < 2; i++) weight_at[i] = shared_address(weights) + WeightLayout::at(lane % 16, 2 * i + lane / 16);
#pragma unroll
    for (int m = 0; m < kRows / 16; m++)
#pragma unroll
      for (int n = 0; n < kSlabs * 2; n++) out[m][n][0] = out[m][n][1] = out[m][n][2] = out[m][n][3] = 0;
  }

  // This lane's query of the two in its sums.
  __device__ int query(int r) const {
    return row + r * 8 + lane / 4;
  }

  __device__ void score(float (&s)[2][4], int slab, uint32_t keys) const {
#pragma unroll
    for (int i = 0; i < kSlabSize / 16; i++) {
      uint32_t q[4], k[4];
      load_matrix(q, query_at[i % 4] + slab * kSlabRowBytes + i / 4 * 128);
      load_matrix(k, keys + key_at[i % 4] + i / 4 * 128);
      mma_k16<T>(s[0], q, k[0], k[1]);
      mma_k16<T>(s[1], q, k[2], k[3]);
    }
  }

  // Scores of the keys from `key` on become weights in shared memory. One barrier.
  __device__ void weigh(float (&s)[2][4], int key, int keys) {
    float mine[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (key + side * 16 + i / 2 * 8 + lane % 4 * 2 + i % 2 >= keys) s[i / 2][2 * r + i % 2] = -INFINITY;
      float x = fmaxf(fmaxf(s[0][2 * r], s[0][2 * r + 1]), fmaxf(s[1][2 * r], s[1][2 * r + 1]));
      x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
      mine[r] = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
      if (lane % 4 == 0) exchange[side * kRows + query(r)] = mine[r];
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < 2; r++) {
      const float x = fmaxf(mine[r], exchange[(1 - side) * kRows + query(r)]);
      float keep = 1;
      if ((x - top[r]) * scale > kMostGrowth) {
        keep = exp2_approximate((top[r] - x) * scale);
        top[r] = x;
      }
      if (side == 0 && lane % 4 == 0) shrink[query(r)] = keep;
      sum[r] *= keep;
      const float shift = -top[r] * scale;
#pragma unroll
      for (int n = 0; n < 2; n++) {
        const float a = exp2_approximate(fmaf(s[n][2 * r], scale, shift)),
                    b = exp2_approximate(fmaf(s[n][2 * r + 1], scale, shift));
        sum[r] += a + b;
        *reinterpret_cast<uint32_t*>(weights + WeightLayout::at(query(r), side * 2 + n) + lane % 4 * 4) = pack<T>(a, b);
      }
    }
  }

  // Behind the barrier that follows `weigh`: scales the output and takes the weights.
  __device__ void take_weights(uint32_t (&p)[2][kRows / 16][4]) {
    float keep[kRows / 8];
    bool any = false;
#pragma unroll
    for (int i = 0; i < kRows / 8; i++) {
      keep[i] = shrink[i * 8 + lane / 4];
      any |= keep[i] != 1;
    }
    if (__any_sync(kAllLanes, any))
#pragma unroll
      for (int m = 0; m < kRows / 16; m++)
#pragma unroll
        for (int n = 0; n < kSlabs * 2; n++)
#pragma unroll
          for (int i = 0; i < 4; i++) out[m][n][i] *= keep[m * 2 + i / 2];
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int m = 0; m < kRows / 16; m++) load_matrix(p[half][m], weight_at[half] + m * 16 * kKeys * 2);
  }

  __device__ void gather(const uint32_t (&p)[2][kRows / 16][4], int slab, uint32_t values) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint32_t v[4];
      load_matrix_transposed(v, values + value_at + half * 16 * kSlabRowBytes);
#pragma unroll
      for (int m = 0; m < kRows / 16; m++) {
        mma_k16<T>(out[m][2 * slab], p[half][m], v[0], v[1]);
        mma_k16<T>(out[m][2 * slab + 1], p[half][m], v[2], v[3]);
      }
    }
  }

  // Divides by the sums and puts the output where Q was.
  __device__ void finish() {
#pragma unroll
    for (int r = 0; r < 2; r++) {
      sum[r] += __shfl_xor_sync(kAllLanes, sum[r], 1);
      sum[r] += __shfl_xor_sync(kAllLanes, sum[r], 2);
      if (lane % 4 == 0) exchange[side * kRows + query(r)] = sum[r];
    }
    __syncthreads();
    const int warp = threadIdx.x / kWarp;
#pragma unroll
    for (int m = 0; m < kRows / 16; m++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const int q = m * 16 + r * 8 + lane / 4;
        const float inverse = 1 / (exchange[q] + exchange[kRows + q]);
#pragma unroll
        for (int n = 0; n < kSlabs * 2; n++)
          *reinterpret_cast<uint32_t*>(shared + QueryLayout::at(q, n / 2 * 16 + warp * 2 + n % 2) + lane % 4 * 4) =
              pack<T>(out[m][n][2 * r] * inverse, out[m][n][2 * r + 1] * inverse);
      }
    __syncthreads();
  }
};

// Calls body(row, chunk, offset in shared memory) for this thread's share of the queries' chunks.
template <typename Body>
__device__ void each_chunk(const Body& body) {
  for (int i = threadIdx.x; i < kRows * kSize / 8; i += kThreads) {
    const int row = i / (kSize / 8), c = i % (kSize / 8);
    body(row, c, QueryLayout::at(row, c));
  }
}

template <typename T>
__device__ void wide_attention(const AttentionParams& p) {
  extern __shared__ __align__(128) char shared[];
  const int first = blockIdx.x * kRows, head = blockIdx.y * kSize, picture = blockIdx.z;
  const auto place = [&](const Tokens& x) { return static_cast<const T*>(x.data) + picture * x.picture + head; };
  const int keys = p.key_lengths != nullptr ? min(p.key_lengths[picture], p.keys) : p.keys;
  Wide<T> wide(shared, p.log2_scale);

  const T* q = place(p.q);
  each_chunk([&](int row, int c, uint32_t at) {
    const bool exists = first + row < p.length;
    copy16(shared_address(shared) + at, exists ? q + (first + row) * p.q.token + c * 8 : q, exists ? 16 : 0);
  });
  const int row = threadIdx.x / 16, chunk = threadIdx.x % 16;
  const uint32_t first_slab = shared_address(shared) + kQueryBytes;
  Ring ring{reinterpret_cast<const char*>(place(p.k) + chunk * 8),
            reinterpret_cast<const char*>(place(p.v) + chunk * 8),
            p.k.token * 2,
            p.v.token * 2,
            first_slab,
            first_slab,
            first_slab,
            SlabLayout::at(row, chunk),
            row,
            keys};
  ring.fetch(ring.k, ring.k_row, 0, 0);  // in one group with Q
  ring.free += kSlabBytes;
  ring.fetch(ring.k, ring.k_row, 1, 0);
  ring.free += kSlabBytes;

  for (int key = 0; key < keys; key += kKeys) {
    float s[2][4] = {};
#pragma unroll
    for (int slab = 0; slab < kSlabs; slab++) {
      ring.next(slab, key);
      wide.score(s, slab, ring.now);
      ring.advance();
    }
    wide.weigh(s, key, keys);
    uint32_t weights[2][kRows / 16][4];
#pragma unroll
    for (int slab = 0; slab < kSlabs; slab++) {
      ring.next(kSlabs + slab, key);
      if (slab == 0) wide.take_weights(weights);
      wide.gather(weights, slab, ring.now);
      ring.advance();
    }
  }
  copy_wait<0>();
  wide.finish();

  const int64_t token = static_cast<int64_t>(p.heads) * kSize;
  T* out = static_cast<T*>(p.out) + (static_cast<int64_t>(picture) * p.length + first) * token + head;
  each_chunk([&](int r, int c, uint32_t at) {
    if (first + r < p.length) *reinterpret_cast<uint4*>(out + r * token + c * 8) = *reinterpret_cast<const uint4*>(shared + at);
  });
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kThreads) flash512_f16(const __grid_constant__ AttentionParams p) {
  wide_attention<__half>(p);
}
__global__ void __launch_bounds__(kThreads) flash512_bf16(const __grid_constant__ AttentionParams p) {
  wide_attention<__nv_bfloat16>(p);
}
}

}  // namespace cudream
