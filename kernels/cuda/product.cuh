// One skeleton for linear, geglu and conv2d on tensor cores: out [rows,outs] = A [rows,depth] W [outs,depth]^T, elements of 16
// bits, sums in float.
//
// A convolution over NHWC pictures is this product with the rows of A gathered: a row is an output pixel, the depth runs over
// the filter's taps and, within a tap, over channels. So the two differ in one thing, where a row of the A tile is read, and
// that is the `Source` parameter (conv_product.cu, linear_product.cu). Pipeline, tensor loop, split depth and epilogue are here.
//
// Tile. A block makes TileShape::rows x cols sums. The depth advances 32 at a time through a ring of stages in shared memory
// filled by cp.async. At the top of a step the warps wait for their own copies of that step and meet at one barrier, which also
// says that all have left the stage of the step before; then they start the copies of a later step into that free stage, and
// multiply.
//
// Who loads what. Both tiles are rows of 32 elements: 64 bytes, 4 chunks. Thread t copies chunk t % 4 of the rows t / 4, t / 4 +
// 32, ...: four lanes read 64 bytes that lie together (two whole sectors), and a thread's places in shared memory differ by
// constants. A global address is a base that moves 64 bytes a step and an offset of 32 bits a row, in units of 16 bytes: one
// wide multiply-add a copy, no division and no 64-bit arithmetic on rows.
//
// A step at 128x128 copies 16 KiB in and makes 1.05 MFLOP; a warp of 64x64 reads 16 KiB of operands for its 64 mma with 16
// ldmatrix, and starts 8 copies. (8 warps of 64x32 would need half as many ldmatrix again and be bound by shared memory.)
//
// Order of columns. An mma leaves columns 2t and 2t + 1 (t = lane % 4) of each 8 in one lane: 4 bytes of a row. So the rows of W
// enter shared memory permuted in groups of 16 (row 8 j + i of a group is column 4 (i / 2) + 2 j + i % 2), after which a lane
// owns 4 columns side by side and four lanes own 16: bias, residual and output move 8 bytes at a time and fill sectors, with
// no trip through shared memory, and W itself lies as every other kernel reads it. For geglu, whose rows of W alternate between
// value and gate, the group is 32 (row 8 j + 2 t + e is row 8 t + 2 j + e): both halves of an output land in one lane.
//
// Split depth. Where rows and outs give too few tiles for the card, gridDim.y blocks share one. Each writes its sums to its own
// place in a workspace; the block that arrives last adds them up in the order 0, 1, 2, ... and runs the epilogue. Which block
// is last varies, the order of the sum does not, so the result is the same every time. The last block sets the counter back.
//
// Edges. Rows past the last and columns past the last repeat it: their sums are not stored, and the loop tests nothing. The
// depth is whole steps, and outs a multiple of 4 (serves() in product.h); other layers go to the plain kernels.
#pragma once

#include "kernels/cuda/activation.cuh"
#include "kernels/cuda/args.h"
#include "kernels/cuda/tensor_core.cuh"
#include "kernels/cuda/tiles.h"

namespace cudream {

// Four neighbouring values of one lane.
struct Four {
  float v[4];
};

// 8 bytes of T, or 16 of float, at element i.
template <typename T>
__device__ inline Four load4(const void* data, int64_t i) {
  if constexpr (std::is_same_v<T, float>) {
    const float4 f = *reinterpret_cast<const float4*>(static_cast<const float*>(data) + i);
    return {f.x, f.y, f.z, f.w};
  } else {
    const uint2 bits = *reinterpret_cast<const uint2*>(static_cast<const T*>(data) + i);
    const float2 low = unpack<T>(bits.x), high = unpack<T>(bits.y);
    return {low.x, low.y, high.x, high.y};
  }
}
template <typename T>
__device__ inline Four load4(const PerChannel& p, int picture, int channel) {
  const int64_t at = picture * p.stride + channel;
  return p.type == DType::f32 ? load4<float>(p.data, at) : load4<T>(p.data, at);
}
template <typename T>
__device__ inline void store4(void* data, int64_t i, const Four& f) {
  *reinterpret_cast<uint2*>(static_cast<T*>(data) + i) = make_uint2(pack<T>(f.v[0], f.v[1]), pack<T>(f.v[2], f.v[3]));
}

__device__ inline void operator+=(Four& a, const Four& b) {
#pragma unroll
  for (int j = 0; j < 4; j++) a.v[j] += b.v[j];
}
__device__ inline void operator*=(Four& a, const Four& b) {
#pragma unroll
  for (int j = 0; j < 4; j++) a.v[j] *= b.v[j];
}

// T: __half or __nv_bfloat16.
template <typename T, TileShape kShape, bool kGeglu, typename Source>
struct TileProduct {
  static constexpr int kThreads = kShape.threads(), kRowTiles = kShape.warp_rows / 16, kColTiles = kShape.warp_cols / 8;
  static constexpr int kRowBytes = 64, kOperandBytes = kShape.rows * kRowBytes,
                       kStageBytes = kOperandBytes + kShape.cols * kRowBytes;
  static constexpr int kWeightCopies = kShape.cols * 4 / kThreads;
  static constexpr int kFragments = kRowTiles * kColTiles;  // of 4 sums each, a lane's share
  static_assert(kThreads == 128, "a copy moves 32 rows, which keeps the permuted columns in their groups");
  static_assert(kShape.warp_rows % 16 == 0 && kShape.warp_cols % (kGeglu ? 32 : 16) == 0);
  using Layout = Swizzle<4>;

  float sum[kRowTiles][kColTiles][4] = {};
  uint32_t a_at[2], w_at[2];  // this lane's addresses within a stage, for the two halves of a step

  __device__ void multiply(uint32_t stage) {
#pragma unroll
    for (int k = 0; k < 2; k++) {
      uint32_t a[kRowTiles][4], w[kColTiles / 2][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; m++) load_matrix(a[m], stage + a_at[k] + m * 16 * kRowBytes);
#pragma unroll
      for (int n = 0; n < kColTiles / 2; n++) load_matrix(w[n], stage + w_at[k] + n * 16 * kRowBytes);
#pragma unroll
      for (int m = 0; m < kRowTiles; m++)
#pragma unroll
        for (int n = 0; n < kColTiles; n++) mma_k16<T>(sum[m][n], a[m], w[n / 2][n % 2 * 2], w[n / 2][n % 2 * 2 + 1]);
    }
  }

  // The row of W, within the tile, that enters row `r` of the tile in shared memory.
  __device__ static int column_of(int r) {
    if constexpr (kGeglu) return r / 32 * 32 + r % 8 / 2 * 8 + r % 32 / 8 * 2 + r % 2;
    return r / 16 * 16 + r % 8 / 2 * 4 + r % 16 / 8 * 2 + r % 2;
  }

  // Adds up the shares of a tile in their order. True in the one block that goes on to the epilogue.
  __device__ bool reduce(const ProductParams& p, char* shared) {
    const int splits = gridDim.y;
    float4* shares = reinterpret_cast<float4*>(p.shares) + static_cast<size_t>(blockIdx.x) * splits * kFragments * kThreads;
    float4* mine = shares + static_cast<size_t>(blockIdx.y) * kFragments * kThreads + threadIdx.x;
#pragma unroll
    for (int f = 0; f < kFragments; f++) {
      const float* s = sum[f / kColTiles][f % kColTiles];
      __stcg(mine + f * kThreads, make_float4(s[0], s[1], s[2], s[3]));
    }
    __threadfence();
    __syncthreads();
    unsigned* order = reinterpret_cast<unsigned*>(shared);
    if (threadIdx.x == 0) *order = atomicAdd(p.arrived + blockIdx.x, 1u);
    __syncthreads();
    if (*order != splits - 1) return false;
    __threadfence();
    if (threadIdx.x == 0) p.arrived[blockIdx.x] = 0;
#pragma unroll
    for (int f = 0; f < kFragments; f++) {
      float* s = sum[f / kColTiles][f % kColTiles];
      s[0] = s[1] = s[2] = s[3] = 0;
    }
    const float4* next = shares + threadIdx.x;
    for (int split = 0; split < splits; split++, next += kFragments * kThreads)
#pragma unroll
      for (int f = 0; f < kFragments; f++) {
        const float4 share = __ldcg(next + f * kThreads);
        float* s = sum[f / kColTiles][f % kColTiles];
        s[0] += share.x;
        s[1] += share.y;
        s[2] += share.z;
        s[3] += share.w;
      }
    return true;
  }

  // This lane's four sums of column group g (16 outputs) in the 8 rows numbered `eighth`; not for geglu.
  __device__ Four four(int eighth, int g) const {
    const auto& s = sum[eighth / 2];
    const int r = eighth % 2 * 2;
    return {s[2 * g][r], s[2 * g][r + 1], s[2 * g + 1][r], s[2 * g + 1][r + 1]};
  }
  // `body(four, eighth, g)` for all of them, which it may change.
  template <typename Body>
  __device__ void change(const Body& body) {
#pragma unroll
    for (int eighth = 0; eighth < 2 * kRowTiles; eighth++)
#pragma unroll
      for (int g = 0; g < kColTiles / 2; g++) {
        Four f = four(eighth, g);
        body(f, eighth, g);
#pragma unroll
        for (int j = 0; j < 4; j++) sum[eighth / 2][2 * g + j / 2][eighth % 2 * 2 + j % 2] = f.v[j];
      }
  }

  // What the epilogue asks for, one thing after another and each for all sums: a product that asks for nothing skips it all, and
  // the loads of one thing wait neither for each other nor for a store. `first_row` and `first_column` are this lane's.
  __device__ void finish(const ProductParams& p, int first_row, int first_column) {
    const EpilogueParams& e = p.epilogue;
    const int64_t own = static_cast<int64_t>(first_row) * p.outs + first_column;
    const int rows_left = p.rows - first_row, columns_left = p.outs - first_column;
    const auto inside = [&](int eighth, int g) { return eighth * 8 < rows_left && g * 16 < columns_left; };
    const auto of_picture = [&](const PerChannel& v, int eighth, int g) {
      return load4<T>(v, (first_row + eighth * 8) / p.rows_per_picture, first_column + g * 16);
    };
    if (e.bias != nullptr)
      change([&](Four& f, int, int g) {
        if (first_column + g * 16 < p.outs) f += load4<float>(e.bias, first_column + g * 16);
      });
    if (e.add.data != nullptr)
      change([&](Four& f, int eighth, int g) {
        if (inside(eighth, g)) f += of_picture(e.add, eighth, g);
      });
    if (e.act != Act::none) change([&](Four& f, int, int) { activate_all(f.v, e.act); });
    if (e.gate.data != nullptr)
      change([&](Four& f, int eighth, int g) {
        if (inside(eighth, g)) f *= of_picture(e.gate, eighth, g);
      });
    if (e.residual != nullptr)
      change([&](Four& f, int eighth, int g) {
        if (inside(eighth, g)) f += load4<T>(e.residual, own + eighth * 8 * p.outs + g * 16);
      });
#pragma unroll
    for (int eighth = 0; eighth < 2 * kRowTiles; eighth++)
#pragma unroll
      for (int g = 0; g < kColTiles / 2; g++)
        if (inside(eighth, g)) store4<T>(p.out, own + eighth * 8 * p.outs + g * 16, four(eighth, g));
  }

  // Value times gelu(gate), with their biases: [outs] as stored, all values, then all gates.
  __device__ void finish_geglu(const ProductParams& p, int first_row, int first_column) const {
    constexpr int kGroups = kColTiles / 4;
    const float* biases = p.epilogue.bias;
    const int lane = threadIdx.x % 32, outs = p.outs / 2, own = first_column / 2 + lane % 4 * 4;  // column of group 0
    Four bias[kGroups] = {}, gate_bias[kGroups] = {};
#pragma unroll
    for (int g = 0; g < kGroups; g++) {
      if (biases == nullptr || own + g * 16 >= outs) continue;
      bias[g] = load4<float>(biases, own + g * 16);
      gate_bias[g] = load4<float>(biases, outs + own + g * 16);
    }
#pragma unroll
    for (int eighth = 0; eighth < 2 * kRowTiles; eighth++) {
      const int row = first_row + eighth * 8 + lane / 4;
      if (row >= p.rows) continue;
#pragma unroll
      for (int g = 0; g < kGroups; g++) {
        const int column = own + g * 16;
        if (column >= outs) continue;
        Four f;
#pragma unroll
        for (int j = 0; j < 4; j++) {
          const float* s = sum[eighth / 2][4 * g + j] + eighth % 2 * 2;
          f.v[j] = (s[0] + bias[g].v[j]) * gelu_short(s[1] + gate_bias[g].v[j]);
        }
        store4<T>(p.out, static_cast<int64_t>(row) * outs + column, f);
      }
    }
  }

  template <typename Params>
  __device__ void run(const Params& params) {
    extern __shared__ __align__(128) char shared[];
    const ProductParams& p = params.product;
    const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
    const int across = (p.outs + kShape.cols - 1) / kShape.cols, tile = p.first_tile + blockIdx.x;
    const int first_row = tile / across * kShape.rows, first_column = tile % across * kShape.cols;
    const int warp_row = warp % (kShape.rows / kShape.warp_rows) * kShape.warp_rows;
    const int warp_column = warp / (kShape.rows / kShape.warp_rows) * kShape.warp_cols;
    const int begin = static_cast<int64_t>(p.steps) * blockIdx.y / gridDim.y,
              end = static_cast<int64_t>(p.steps) * (blockIdx.y + 1) / gridDim.y;

#pragma unroll
    for (int k = 0; k < 2; k++) {
      a_at[k] = warp_row * kRowBytes + Layout::at(lane % 16, 2 * k + lane / 16);
      w_at[k] = kOperandBytes + warp_column * kRowBytes + Layout::at(lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2);
    }

    Source source(params, first_row, begin);
    const char* w = static_cast<const char*>(p.w) + static_cast<size_t>(begin) * kRowBytes;
    uint32_t w_from[kWeightCopies];
#pragma unroll
    for (int i = 0; i < kWeightCopies; i++)
      w_from[i] = min(first_column + column_of(thread / 4) + i * 32, p.outs - 1) * (p.steps * 4) + thread % 4;
    const uint32_t to = Layout::at(thread / 4, thread % 4);
    const auto copy_step = [&](uint32_t stage) {
      source.copy(stage + to);
#pragma unroll
      for (int i = 0; i < kWeightCopies; i++)
        copy16(stage + kOperandBytes + to + i * 32 * kRowBytes, w + static_cast<size_t>(w_from[i]) * 16);
      w += kRowBytes;
    };

    const uint32_t ring = shared_address(shared), ring_end = ring + kShape.stages * kStageBytes;
    int ahead = end - begin;  // steps whose copies are not yet started
#pragma unroll
    for (int s = 0; s < kShape.stages - 1; s++) {
      if (ahead-- > 0) copy_step(ring + s * kStageBytes);
      copy_commit();
    }
    uint32_t read = ring, write = ring + (kShape.stages - 1) * kStageBytes;
#pragma unroll 1
    for (int step = begin; step < end; step++) {
      copy_wait<kShape.stages - 2>();
      __syncthreads();
      if (ahead-- > 0) copy_step(write);
      copy_commit();
      multiply(read);
      write = read;
      read = read + kStageBytes == ring_end ? ring : read + kStageBytes;
    }
    copy_wait<0>();
    if (gridDim.y > 1 && !reduce(p, shared)) return;
    if constexpr (kGeglu)
      finish_geglu(p, first_row + warp_row, first_column + warp_column);
    else
      finish(p, first_row + warp_row + lane / 4, first_column + warp_column + lane % 4 * 4);
  }
};

}  // namespace cudream
