// The device's own inner loops: compiled once per instruction set, chosen once at start.
//
// Plain pointers and numbers only. The files behind this table are compiled for processors that the rest of the program
// must not assume, so nothing in them may be shared with other files: no class with members of its own, no std:: template.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace cudream {

struct In {
  const void* at = nullptr;
  DType type = DType::f32;
};
struct Out {
  void* at = nullptr;
  DType type = DType::f32;
};

// out = residual + gate * y for one row of channels; null: none. gate is f32.
struct Finish {
  const float* gate = nullptr;
  In residual{};
};

// Rows [first, first + rows) of one head. Strides are in elements. Keys and values were packed by pack_keys().
struct AttentionRows {
  const void* q = nullptr;
  void* out = nullptr;
  int64_t q_stride = 0, out_stride = 0;  // from row to row
  const void* keys = nullptr;
  const void* values = nullptr;
  int64_t first = 0, rows = 0, count = 0;  // count: how many keys there are
  int64_t size = 0;                        // of a head
  float scale = 1;
  bool causal = false;
  void* scratch = nullptr;
};

// Attention for one element type. Sizes are in bytes.
struct AttentionKernels {
  int64_t row_step = 1;  // rows are fastest in multiples of this
  int64_t (*keys_bytes)(int64_t count, int64_t size) = nullptr;
  int64_t (*values_bytes)(int64_t count, int64_t size) = nullptr;
  int64_t (*scratch_bytes)(int64_t size) = nullptr;
  // Packs `count` rows of one head, `stride` elements apart.
  void (*pack)(void* keys, void* values, const void* k, int64_t k_stride, const void* v, int64_t v_stride, int64_t count,
               int64_t size) = nullptr;
  void (*rows)(const AttentionRows&) = nullptr;
};

// A stretch of K of a product with 16 x 16 tiles: some tiles of rows of x through one panel of weights, 32 columns (the last
// panel may have 16).
//
// A tile of x is 16 rows of 32 elements, 64 bytes, that lie together or `row_bytes` apart; chunk j of tile t begins at
// x + tiles[t] + chunks[j]. That describes a matrix, and as well the taps of a filter over blocked lines of pixels.
struct TileProduct {
  const void* x = nullptr;
  int64_t row_bytes = 64;
  const int64_t* tiles = nullptr;
  int64_t tile_count = 0;
  const int64_t* chunks = nullptr;
  int64_t chunk_count = 0;
  const void* panel = nullptr;  // [chunk_count][1 or 2 tiles of columns] of 1 KiB
  const void* fetch = nullptr;  // fetched into the cache meanwhile
  int64_t fetch_bytes = 0;
  // Sums of the stretches of K before, unless this is the first, and for those after, unless this is the last;
  // [(tile_count + 1) / 2][1024]. Null: K is one stretch.
  float* sums = nullptr;
  bool first = true, last = true;

  // The epilogue of columns [column, column + columns), 32 at most; gate is f32. With geglu the panel's first tile of columns
  // holds values and its second their gates, and bias has those of the gates `gate_bias` after.
  int64_t column = 0, columns = 0;
  bool geglu = false;
  int64_t gate_bias = 0;
  const float* bias = nullptr;
  Act act = Act::none;
  const float* gate = nullptr;
  In residual{};
  Out out{};
  const int64_t* rows = nullptr;  // [tile_count * 16]: element of out and residual where a row begins; -1: no row
};

struct TileKernels {
  void (*begin)() = nullptr;  // before the products of one thread
  void (*end)() = nullptr;
  void (*product)(const TileProduct&) = nullptr;
  // One tile of columns: rows [columns][K] of bf16, `stride` elements apart, into [chunks] tiles `step` bytes apart.
  void (*pack)(void* to, int64_t step, const void* rows, int64_t stride, int64_t columns, int64_t depth) = nullptr;
};

struct Kernels {
  // n elements in a row; types f32, bf16, f16, and as a source f8.
  void (*convert)(Out, In, int64_t n) = nullptr;
  // n elements in a row; types f32 and bf16.
  void (*act)(Out, In, int64_t n, Act) = nullptr;
  void (*multiply)(Out, In a, In b, int64_t n) = nullptr;
  void (*lerp)(float* out, const float* a, const float* b, const float* weight, int64_t n) = nullptr;
  void (*combine)(float* out, const float* const* x, const float* scale, int terms, int64_t n) = nullptr;
  void (*geglu)(Out, In value, In gate, int64_t n) = nullptr;  // value * gelu(gate)
  void (*finish)(Out, In y, const Finish&, int64_t n) = nullptr;
  // One row.
  void (*layer_norm)(Out, In, const float* gain, const float* bias, float eps, int64_t channels) = nullptr;
  // Adds to sum and square, [channels] each, the sums of (x - pivot) and (x - pivot)^2 over `rows` rows.
  void (*channel_sums)(double* sum, double* square, In x, const float* pivot, int64_t rows, int64_t channels) = nullptr;
  // out = act((x - middle) * scale + shift), per channel.
  void (*normalize)(Out, In x, const float* middle, const float* scale, const float* shift, int64_t rows, int64_t channels,
                    Act) = nullptr;
  const AttentionKernels* attention_f32 = nullptr;
  const AttentionKernels* attention_bf16 = nullptr;  // null where bf16 is not computed
  const TileKernels* tiles = nullptr;                // null without AMX: oneDNN computes products
};

namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
namespace avx512_bf16 {
extern const Kernels kKernels;
}
namespace amx_bf16 {
extern const Kernels kKernels;
}

}  // namespace cudream
