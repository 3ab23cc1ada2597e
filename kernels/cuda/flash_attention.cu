// softmax(scale q k^T) v on tensor cores ("FlashAttention-2", Dao 2023), f16 and bf16 with float sums, for the heads of diffusion
// networks: 40, 64, 80 and 160 elements. Not causal. Wide heads have wide_attention.cu, all others attention.cu.
//
// Algorithm. A block of 4 warps owns 32 queries a warp (16 in `_small`), grid (length / 128 or / 64, heads, N), and walks over
// the keys in tiles of 64 (160: 32). Per tile and warp: S = Q K^T in registers, a running maximum and sum for each query, P =
// exp2(S - maximum) packed to 16 bits where it is, since the sums of one mma lie as the next takes its first factor, O += P V.
// The sums of a query stay split over its four lanes until the end. The scale is folded into one multiply-add per score.
//
// Rescaling only when it matters. P needs no exact maximum, only one that is not too small: the kept one moves, and O and the sum
// with it, when a new maximum exceeds it by more than 8 powers of two (P is 256 at most, harmless in f16). A warp votes whether
// any of its queries needs it. The quotient O / sum is the same either way.
//
// Ragged edges. Only the last tile of keys can be ragged, so it goes first, as an instance of its own (kFirst, kMasked): copies
// filled up with zeros, masked scores, groups of 16 keys beyond the end left out (77 prompt tokens: 5 groups of 8), no rescaling
// as nothing came before. The loop over the others knows neither bounds nor masks. Queries beyond the end are zeros, not stored.
//
// Who loads what. Thread t copies chunks t, t + 128, ... of 16 bytes; their offsets are computed once. There are two stages of K
// and V: at the top of tile j a warp waits for its own copies of tile j, meets the others at the one barrier, starts the copies
// of tile j + 1 and multiplies. Q passes once through the second stage into registers; heads of 160 keep it in shared memory, as
// O alone takes 160 registers. Shared memory is 512 bytes per element of the head (`_small`: 384).
//
// A head of 40 is two products over 16 and one over 8, so nothing is padded: 88 mma a tile, 16 of them half-sized, where a head
// padded to 48 takes 96 and one padded to 64 takes 128.
//
// Per tile of 64 keys and 128 queries of 64: 16 KiB copied, 2.1 MFLOP; a warp has 128 mma, 32 ldmatrix, 8 cp.async, and a lane 64
// exp2. Every block reads all of its head's keys and values, from L2 but for the first.
//
// Tried and lost: 16 queries a warp (twice the ldmatrix per mma; kept where the grid would leave most of a card idle); Q in
// shared memory below 160 (a third block does not fit anyway); 3 stages (no room for a second block at 80); the ragged tile last.
#include "kernels/cuda/args.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/tensor_core.cuh"

namespace cudream {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr float kMostGrowth = 8;  // powers of two that a maximum may exceed the kept one by

// A thread's share of the copies of kRows rows of kChunks chunks into shared memory. Where kThreads is a multiple of kChunks the
// offsets fold into immediates, otherwise they stay in registers.
template <int kRows, int kChunks>
struct TileCopy {
  static constexpr int kAll = kRows * kChunks, kPasses = (kAll + kThreads - 1) / kThreads;
  static constexpr bool kWholeRows = kThreads % kChunks == 0;
  uint32_t from[kPasses], to[kPasses];

  __device__ static int row(int pass) {
    return kWholeRows ? threadIdx.x / kChunks + pass * (kThreads / kChunks) : (threadIdx.x + pass * kThreads) / kChunks;
  }
  __device__ static int chunk(int pass) { return kWholeRows ? threadIdx.x % kChunks : (threadIdx.x + pass * kThreads) % kChunks; }
  __device__ static bool has(int pass) {
    return kAll % kThreads == 0 || pass + 1 < kPasses || threadIdx.x + pass * kThreads < kAll;
  }
  // `token`: elements from one row to the next.
  __device__ explicit TileCopy(int64_t token) {
#pragma unroll
    for (int pass = 0; pass < kPasses; pass++) {
      from[pass] = static_cast<uint32_t>(row(pass) * token + chunk(pass) * 8) * 2;
      to[pass] = Swizzle<kChunks>::at(row(pass), chunk(pass));
    }
  }

  __device__ void all(uint32_t shared, const char* global) const {
#pragma unroll
    for (int pass = 0; pass < kPasses; pass++)
      if (has(pass)) copy16(shared + to[pass], global + from[pass]);
  }
  // Rows from `rows` on become zeros.
  __device__ void some(uint32_t shared, const char* global, int rows) const {
#pragma unroll
    for (int pass = 0; pass < kPasses; pass++) {
      if (!has(pass)) continue;
      const bool exists = row(pass) < rows;
      copy16(shared + to[pass], exists ? global + from[pass] : global, exists ? 16 : 0);
    }
  }
};

// One warp's queries against all keys of one head. kWarpRows queries a warp, kKeys keys a tile; kHeld: Q lies in registers.
template <typename T, int kSize, int kWarpRows, int kKeys, bool kHeld>
struct Flash {
  static constexpr int kChunks = kSize / 8;                         // of 8 elements in a row
  static constexpr int kSteps = kSize / 16, kRest = kSize / 8 % 2;  // products along the head: over 16 each, then one over 8
  static constexpr int kRowTiles = kWarpRows / 16, kKeyTiles = kKeys / 16, kRows = kWarpRows * kWarps;
  static constexpr int kRowBytes = kSize * 2, kTileBytes = kKeys * kRowBytes, kStageBytes = 2 * kTileBytes;
  static constexpr int kQueryBytes = kRows * kRowBytes;
  static constexpr int kFirstStage = kHeld ? 0 : kQueryBytes, kQueryPlace = kHeld ? kStageBytes : 0;
  static_assert(!kHeld || kQueryBytes <= kStageBytes);
  using Layout = Swizzle<kChunks>;
  using Scores = float[kRowTiles][kKeyTiles * 2][4];

  float out[kRowTiles][kChunks][4];
  float top[kRowTiles][2], sum[kRowTiles][2];  // the kept maximum of the raw scores, and this lane's part of the sum
  uint32_t query[kRowTiles][kHeld ? kSteps : 1][4], query_rest[kRowTiles][2];
  // Where this lane's row of an ldmatrix lies. Q and V: 16 rows, then the same rows of the next chunk. K: 8 rows, the same rows
  // of the next chunk, then the next 8 rows, because an mma takes its second factor from two neighbouring registers.
  uint32_t row_major[Layout::kBases], pair_major[Layout::kBases];
  uint32_t rest_at;  // row `lane`, last chunk
  float scale;       // of scores, in powers of two
  uint32_t origin;   // what row_major counts from: Q where it stays in shared memory, else 0

  __device__ Flash(float log2_scale, uint32_t queries) : scale(log2_scale), origin(kHeld ? 0 : queries) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int i = 0; i < Layout::kBases; i++) {
      row_major[i] = origin + Layout::at(lane % 16, 2 * i + lane / 16);
      pair_major[i] = Layout::at(lane % 8 + lane / 16 * 8, 2 * i + lane / 8 % 2);
    }
    rest_at = Layout::at(lane, kChunks - 1);
  }

  // The lane's address for rows 16 tile ..., chunks 2 step and 2 step + 1; all but the base is an immediate.
  __device__ static uint32_t at(const uint32_t (&base)[Layout::kBases], int tile, int step) {
    constexpr int kBases = Layout::kBases;
    return base[step % kBases] + tile * 16 * kRowBytes + step / kBases * kBases * 32;
  }

  __device__ void load_queries(uint32_t shared) {
#pragma unroll
    for (int m = 0; m < kRowTiles; m++) {
      if constexpr (kHeld)
#pragma unroll
        for (int step = 0; step < kSteps; step++) load_matrix(query[m][step], shared + at(row_major, m, step));
      if constexpr (kRest) load_matrix(query_rest[m], shared + rest_at + m * 16 * kRowBytes);
    }
  }

  // s = q k^T. `valid` keys of the tile exist; it is read where kMasked only.
  template <bool kMasked>
  __device__ void score(Scores& s, uint32_t keys, int valid) {
#pragma unroll
    for (int step = 0; step < kSteps; step++) {
      if constexpr (!kHeld)
#pragma unroll
        for (int m = 0; m < kRowTiles; m++) load_matrix(query[m][0], at(row_major, m, step));
#pragma unroll
      for (int n = 0; n < kKeyTiles; n++) {
        if (kMasked && n * 16 >= valid) continue;
        uint32_t k[4];
        load_matrix(k, keys + at(pair_major, n, step));
#pragma unroll
        for (int m = 0; m < kRowTiles; m++) {
          mma_k16<T>(s[m][2 * n], query[m][kHeld ? step : 0], k[0], k[1]);
          mma_k16<T>(s[m][2 * n + 1], query[m][kHeld ? step : 0], k[2], k[3]);
        }
      }
    }
    if constexpr (kRest)
#pragma unroll
      for (int n = 0; n < kKeyTiles; n += 2) {  // one ldmatrix holds the last 8 elements of 32 keys
        if (kMasked && n * 16 >= valid) continue;
        uint32_t k[4];
        load_matrix(k, keys + rest_at + n * 16 * kRowBytes);
#pragma unroll
        for (int m = 0; m < kRowTiles; m++)
#pragma unroll
          for (int i = 0; i < 4; i++) mma_k8<T>(s[m][2 * n + i], query_rest[m], k[i]);
      }
    if constexpr (kMasked) mask(s, valid);
  }

  __device__ static void mask(Scores& s, int valid) {
    const int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int m = 0; m < kRowTiles; m++)
#pragma unroll
      for (int n = 0; n < kKeyTiles * 2; n++)
#pragma unroll
        for (int i = 0; i < 4; i++)
          if (n * 8 + column + i % 2 >= valid) s[m][n][i] = -INFINITY;
  }

  // Moves the kept maxima where a score of `s` asks for it, and what was summed with them.
  template <bool kFirst>
  __device__ void raise(const Scores& s) {
    float now[kRowTiles][2];
    bool grown = false;
#pragma unroll
    for (int m = 0; m < kRowTiles; m++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float x = fmaxf(s[m][0][2 * r], s[m][0][2 * r + 1]);
#pragma unroll
        for (int n = 1; n < kKeyTiles * 2; n++) x = fmaxf(x, fmaxf(s[m][n][2 * r], s[m][n][2 * r + 1]));
        x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
        x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
        now[m][r] = x;
        if constexpr (!kFirst) grown |= (x - top[m][r]) * scale > kMostGrowth;
      }
    if constexpr (!kFirst)
      if (!__any_sync(kAllLanes, grown)) return;
#pragma unroll
    for (int m = 0; m < kRowTiles; m++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        if constexpr (kFirst) {
          top[m][r] = now[m][r];
          sum[m][r] = 0;
#pragma unroll
          for (int c = 0; c < kChunks; c++) out[m][c][2 * r] = out[m][c][2 * r + 1] = 0;
          continue;
        }
        const float x = fmaxf(now[m][r], top[m][r]), shrink = exp2_approximate((top[m][r] - x) * scale);
        top[m][r] = x;
        sum[m][r] *= shrink;
#pragma unroll
        for (int c = 0; c < kChunks; c++) {
          out[m][c][2 * r] *= shrink;
          out[m][c][2 * r + 1] *= shrink;
        }
      }
  }

  // Scores become weights, and the sums grow by them.
  __device__ void weigh(Scores& s) {
#pragma unroll
    for (int m = 0; m < kRowTiles; m++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const float shift = -top[m][r] * scale;
#pragma unroll
        for (int n = 0; n < kKeyTiles * 2; n++)
#pragma unroll
          for (int i = 2 * r; i < 2 * r + 2; i++) {
            s[m][n][i] = exp2_approximate(fmaf(s[m][n][i], scale, shift));
            sum[m][r] += s[m][n][i];
          }
      }
  }

  // out += weights v
  template <bool kMasked>
  __device__ void gather(const Scores& weights, uint32_t values, int valid) {
    uint32_t rest[4];
#pragma unroll
    for (int n = 0; n < kKeyTiles; n++) {
      if (kMasked && n * 16 >= valid) continue;
      uint32_t p[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; m++)
#pragma unroll
        for (int i = 0; i < 4; i++)
          p[m][i] = pack<T>(weights[m][2 * n + i / 2][i % 2 * 2], weights[m][2 * n + i / 2][i % 2 * 2 + 1]);
#pragma unroll
      for (int step = 0; step < kSteps; step++) {
        uint32_t v[4];
        load_matrix_transposed(v, values + at(row_major, n, step));
#pragma unroll
        for (int m = 0; m < kRowTiles; m++) {
          mma_k16<T>(out[m][2 * step], p[m], v[0], v[1]);
          mma_k16<T>(out[m][2 * step + 1], p[m], v[2], v[3]);
        }
      }
      if constexpr (kRest) {
        if (n % 2 == 0) load_matrix_transposed(rest, values + rest_at + n * 16 * kRowBytes);
#pragma unroll
        for (int m = 0; m < kRowTiles; m++) mma_k16<T>(out[m][kChunks - 1], p[m], rest[n % 2 * 2], rest[n % 2 * 2 + 1]);
      }
    }
  }

  template <bool kFirst, bool kMasked>
  __device__ void tile(uint32_t keys, int valid) {
    Scores s = {};
    score<kMasked>(s, keys, valid);
    raise<kFirst>(s);
    weigh(s);
    gather<kMasked>(s, keys + kTileBytes - origin, valid);
  }

  // Divides by the sums and writes `rows` of this warp's queries, through shared memory so that stores are of 16 bytes.
  __device__ void store(char* staging, T* to, int64_t token, int rows) {
    const int lane = threadIdx.x % kWarp;
#pragma unroll
    for (int m = 0; m < kRowTiles; m++)
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float total = sum[m][r];
        total += __shfl_xor_sync(kAllLanes, total, 1);
        total += __shfl_xor_sync(kAllLanes, total, 2);
        const float inverse = 1 / total;
#pragma unroll
        for (int c = 0; c < kChunks; c++)
          *reinterpret_cast<uint32_t*>(staging + Layout::at(m * 16 + r * 8 + lane / 4, c) + lane % 4 * 4) =
              pack<T>(out[m][c][2 * r] * inverse, out[m][c][2 * r + 1] * inverse);
      }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kWarpRows * kChunks / kWarp; i++) {
      const int row = (lane + i * kWarp) / kChunks, c = (lane + i * kWarp) % kChunks;
      if (row < rows)
        *reinterpret_cast<uint4*>(to + row * token + c * 8) = *reinterpret_cast<const uint4*>(staging + Layout::at(row, c));
    }
  }

  __device__ static void run(const AttentionParams& p) {
    extern __shared__ __align__(128) char shared[];
    const int warp = threadIdx.x / kWarp, first = blockIdx.x * kRows, head = blockIdx.y * kSize, picture = blockIdx.z;
    const auto place = [&](const Tokens& x, int token) {
      return reinterpret_cast<const char*>(static_cast<const T*>(x.data) + picture * x.picture + token * x.token + head);
    };
    const int keys = p.key_lengths != nullptr ? min(p.key_lengths[picture], p.keys) : p.keys;
    const int full = (keys - 1) / kKeys, valid = keys - full * kKeys;
    const char *k = place(p.k, 0), *v = place(p.v, 0);
    const int64_t step = p.k.token * kKeys * 2, to_v = v - k;  // at 80, one pointer and the distance take fewer registers
    const uint32_t base = shared_address(shared), stage = base + kFirstStage;
    const uint32_t queries = base + kQueryPlace + warp * kWarpRows * kRowBytes;
    Flash flash(p.log2_scale, queries);

    TileCopy<kRows, kChunks>(p.q.token).some(base + kQueryPlace, place(p.q, first), p.length - first);
    const TileCopy<kKeys, kChunks> copy(p.k.token);
    copy.some(stage, k + full * step, valid);
    copy.some(stage + kTileBytes, v + full * step, valid);
    copy_commit();
    copy_wait<0>();
    __syncthreads();
    flash.load_queries(queries);
    if constexpr (kHeld) __syncthreads();  // Q is in registers, its place is the second stage
    if (full > 0) {
      copy.all(stage + kStageBytes, k);
      copy.all(stage + kStageBytes + kTileBytes, v);
      copy_commit();
    }
    flash.template tile<true, true>(stage, valid);

    uint32_t now = stage + kStageBytes;
    for (int left = full; left > 0; left--) {
      const uint32_t other = 2 * stage + kStageBytes - now;
      copy_wait<0>();
      __syncthreads();  // the tile is there for all, and all are done with the one before, whose place is free
      if (left > 1) {
        k += step;
        v += step;
        copy.all(other, k);
        copy.all(other + kTileBytes, kHeld ? k + to_v : v);
        copy_commit();
      }
      flash.template tile<false, false>(now, kKeys);
      now = other;
    }
    if constexpr (kHeld) __syncthreads();  // the output passes where the slowest warp may still read keys
    const int64_t token = static_cast<int64_t>(p.heads) * kSize, row = first + warp * kWarpRows;
    T* out = static_cast<T*>(p.out) + (static_cast<int64_t>(picture) * p.length + row) * token + head;
    flash.store(shared + warp * kWarpRows * kRowBytes, out, token, p.length - static_cast<int>(row));
  }
};

}  // namespace

#define FLASH(name, type, size, rows, keys, held)                                                          \
  extern "C" __global__ void __launch_bounds__(kThreads) name(const __grid_constant__ AttentionParams p) { \
    Flash<type, size, rows, keys, held>::run(p);                                                           \
  }
FLASH(flash40_f16, __half, 40, 32, 64, true)
FLASH(flash64_f16, __half, 64, 32, 64, true)
FLASH(flash80_f16, __half, 80, 32, 64, true)
FLASH(flash160_f16, __half, 160, 32, 32, false)
FLASH(flash160_small_f16, __half, 160, 16, 32, false)
FLASH(flash40_bf16, __nv_bfloat16, 40, 32, 64, true)
FLASH(flash64_bf16, __nv_bfloat16, 64, 32, 64, true)
FLASH(flash80_bf16, __nv_bfloat16, 80, 32, 64, true)
FLASH(flash160_bf16, __nv_bfloat16, 160, 32, 32, false)
FLASH(flash160_small_bf16, __nv_bfloat16, 160, 16, 32, false)

}  // namespace cudream
