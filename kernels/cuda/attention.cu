// softmax(scale q k^T) v with an online softmax ("FlashAttention-2", Dao 2023, algorithm 1), for any head size.
//
// A block of 4 warps takes 16 queries of one head, 4 a warp; grid (length / 16, heads, N). Keys come 32 at a time. For the
// scores a lane stands for a key: the tile of k is brought into shared memory 32 elements of the head at a time, q is there
// already, and a lane multiplies its key with the warp's 4 queries out of 5 vector loads per 16 products. For the output a
// lane stands for a column of v, read straight from global memory, where neighbouring lanes are neighbours; the running output
// lives in shared memory, as its width is known only at run time, and is touched once per tile. Shared memory is
// (2 * 16 * size + 32 * 36 + 16 * 32) floats: 26 KB at 160, 70 KB at 512.
//
// Keys beyond the row's length are never read. This is the plain way: no tensor cores, and k is read length / 16 times.
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/value.cuh"

namespace cudream {
namespace {

constexpr int kWarps = 4;
constexpr int kRowsPerWarp = 4;
constexpr int kRows = kWarps * kRowsPerWarp;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBlocks = 4;           // on a multiprocessor at once, so that the compiler gives a thread the registers it needs
constexpr int kKeys = kWarp;         // one lane each
constexpr int kChunk = 32;           // elements of the head per tile of k
constexpr int kKeyRow = kChunk + 4;  // keeps rows 16-byte aligned and 8 lanes in different banks

__device__ inline float dot(const float4& a, const float4& b, float sum) {
  return fmaf(a.w, b.w, fmaf(a.z, b.z, fmaf(a.y, b.y, fmaf(a.x, b.x, sum))));
}

// Brings elements [from, from + kChunk) of `count` keys into `tile`, zeros beyond the head and the keys.
template <typename T>
__device__ void load_keys(float* tile, const T* k, int64_t token, int count, int from, int size) {
  constexpr int kStep = kThreads / kChunk;
  const int element = threadIdx.x % kChunk, first = threadIdx.x / kChunk;
  const T* at = k + first * token + from + element;
  for (int key = first; key < kKeys; key += kStep, at += kStep * token)
    tile[key * kKeyRow + element] = key < count && from + element < size ? to_float(*at) : 0.f;
}

template <typename T>
__device__ void attention(const AttentionParams& p) {
  extern __shared__ __align__(16) float shared[];
  const int width = (p.size + 3) / 4 * 4;
  float* queries = shared;                   // [kRows][width], scaled, zeros behind the head
  float* outputs = queries + kRows * width;  // [kRows][width]
  float* tile = outputs + kRows * width;     // [kKeys][kKeyRow]
  float* weights = tile + kKeys * kKeyRow;   // [kRows][kKeys]

  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, head = blockIdx.y, picture = blockIdx.z;
  const int first = blockIdx.x * kRows + warp * kRowsPerWarp;  // this warp's first query
  const T* q = static_cast<const T*>(p.q.data) + picture * p.q.picture + head * p.size;
  const T* k = static_cast<const T*>(p.k.data) + picture * p.k.picture + head * p.size;
  const T* v = static_cast<const T*>(p.v.data) + picture * p.v.picture + head * p.size;
  queries += warp * kRowsPerWarp * width;
  outputs += warp * kRowsPerWarp * width;
  weights += warp * kRowsPerWarp * kKeys;

  // Rows beyond the last repeat it and are not stored.
  for (int r = 0; r < kRowsPerWarp; r++) {
    const T* row = q + min(first + r, p.length - 1) * p.q.token;
    for (int c = lane; c < width; c += kWarp) {
      queries[r * width + c] = c < p.size ? to_float(row[c]) * p.log2_scale : 0.f;
      outputs[r * width + c] = 0;
    }
  }

  const int counted = p.key_lengths != nullptr ? min(p.key_lengths[picture], p.keys) : p.keys;
  const int seen_by_block = p.causal ? min(counted, static_cast<int>(blockIdx.x + 1) * kRows) : counted;
  float largest[kRowsPerWarp], total[kRowsPerWarp];
  for (int r = 0; r < kRowsPerWarp; r++) {
    largest[r] = -INFINITY;
    total[r] = 0;
  }

  for (int from = 0; from < seen_by_block; from += kKeys) {
    const int count = min(kKeys, seen_by_block - from);
    float score[kRowsPerWarp] = {};
    for (int c0 = 0; c0 < p.size; c0 += kChunk) {
      __syncthreads();
      load_keys(tile, k + from * p.k.token, p.k.token, count, c0, p.size);
      __syncthreads();
      const int wide = min(kChunk, width - c0);
#pragma unroll 2
      for (int c = 0; c < wide; c += 4) {
        const float4 key = *reinterpret_cast<const float4*>(&tile[lane * kKeyRow + c]);
#pragma unroll
        for (int r = 0; r < kRowsPerWarp; r++)
          score[r] = dot(key, *reinterpret_cast<const float4*>(&queries[r * width + c0 + c]), score[r]);
      }
    }

    float keep[kRowsPerWarp];  // what the earlier tiles' sums are multiplied with
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; r++) {
      const int seen = p.causal ? min(counted, first + r + 1) : counted;
      if (from + lane >= seen) score[r] = -INFINITY;
      const float maximum = fmaxf(largest[r], warp_max(score[r]));
      const float weight = exp2f(score[r] - maximum);
      keep[r] = exp2f(largest[r] - maximum);
      largest[r] = maximum;
      total[r] = fmaf(total[r], keep[r], warp_sum(weight));
      weights[r * kKeys + lane] = weight;
    }
    __syncwarp();

    const T* values = v + from * p.v.token;
#pragma unroll 1
    for (int c = lane; c < p.size; c += kWarp) {
      float sum[kRowsPerWarp];
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; r++) sum[r] = outputs[r * width + c] * keep[r];
      const T* at = values + c;
#pragma unroll 1
      for (int key = 0; key < count; key += 4, at += 4 * p.v.token) {
        float4 value = {to_float(*at), 0, 0, 0};
        if (key + 1 < count) value.y = to_float(at[p.v.token]);
        if (key + 2 < count) value.z = to_float(at[2 * p.v.token]);
        if (key + 3 < count) value.w = to_float(at[3 * p.v.token]);
#pragma unroll
        for (int r = 0; r < kRowsPerWarp; r++)
          sum[r] = dot(value, *reinterpret_cast<const float4*>(&weights[r * kKeys + key]), sum[r]);
      }
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; r++) outputs[r * width + c] = sum[r];
    }
    __syncwarp();
  }

  for (int r = 0; r < kRowsPerWarp && first + r < p.length; r++) {
    T* out = static_cast<T*>(p.out) + ((static_cast<int64_t>(picture) * p.length + first + r) * p.heads + head) * p.size;
    for (int c = lane; c < p.size; c += kWarp) out[c] = from_float<T>(outputs[r * width + c] / total[r]);
  }
}

}  // namespace

extern "C" {
__global__ void __launch_bounds__(kThreads, kBlocks) attention_f32(const __grid_constant__ AttentionParams p) {
  attention<float>(p);
}
__global__ void __launch_bounds__(kThreads, kBlocks) attention_f16(const __grid_constant__ AttentionParams p) {
  attention<__half>(p);
}
__global__ void __launch_bounds__(kThreads, kBlocks) attention_bf16(const __grid_constant__ AttentionParams p) {
  attention<__nv_bfloat16>(p);
}
}

}  // namespace cudream
