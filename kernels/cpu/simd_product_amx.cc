// Products with AMX tiles: two tiles of rows by two of columns at a time, whole sums, then the epilogue at once.
//
// The four results are stored to a few KiB that stay in the first-level cache, and vector code takes them from there to
// their place: bias, activation, gate, residual and rounding cost no pass over memory of their own.
#include "kernels/cpu/simd_loops.h"
#include "kernels/cpu/simd_tiles.h"

namespace cudream::CUDREAM_ISA {
namespace {

// Fetches a stretch of memory into the second-level cache, some lines at each step.
struct Fetch {
  const char* at;
  const char* end;
  int64_t lines;  // at each step
  [[gnu::always_inline]] void step() {
    for (int64_t i = 0; i < lines && at < end; i++, at += 64) _mm_prefetch(at, _MM_HINT_T1);
  }
};

// R tiles of rows at x0 and x1 through C tiles of columns; from, to: 4 KiB of sums, from null: zero.
template <int R, int C>
void multiply(const TileProduct& p, const char* x0, const char* x1, const float* from, float* to, Fetch& fetch) {
  if (from == nullptr) {
    tile_zero<0>();
    if (C == 2) tile_zero<1>();
    if (R == 2) tile_zero<2>();
    if (R == 2 && C == 2) tile_zero<3>();
  } else {
    tile_load<0>(from);
    if (C == 2) tile_load<1>(from + 256);
    if (R == 2) tile_load<2>(from + 512);
    if (R == 2 && C == 2) tile_load<3>(from + 768);
  }
  const auto* panel = static_cast<const char*>(p.panel);
  for (int64_t j = 0; j < p.chunk_count; j++, panel += C * kTileBytes) {
    tile_load<4>(x0 + p.chunks[j], p.row_bytes);
    tile_load<6>(panel);
    tile_multiply_add<0, 4, 6>();
    if (C == 2) tile_load<7>(panel + kTileBytes), tile_multiply_add<1, 4, 7>();
    if (R == 2) tile_load<5>(x1 + p.chunks[j], p.row_bytes), tile_multiply_add<2, 5, 6>();
    if (R == 2 && C == 2) tile_multiply_add<3, 5, 7>();
    fetch.step();
  }
  tile_store<0>(to);
  if (C == 2) tile_store<1>(to + 256);
  if (R == 2) tile_store<2>(to + 512);
  if (R == 2 && C == 2) tile_store<3>(to + 768);
}

// The epilogue of one tile of columns: sums [16][16] of rows and of `lanes` channels from `column` on.
template <typename To>
[[gnu::always_inline]] inline void finish_tile(const TileProduct& p, const float* sums, const int64_t* rows, int64_t column,
                                               int64_t lanes) {
  auto* out = static_cast<typename To::Raw*>(p.out.at) + column;
  const auto* residual = static_cast<const typename To::Raw*>(p.residual.at);
  const Floats bias = p.bias == nullptr ? Floats{} : load<F32>(p.bias + column, lanes);
  const Floats gate = p.gate == nullptr ? splat(1) : load<F32>(p.gate + column, lanes);
  const Act act = p.act;
  for (int64_t i = 0; i < 16; i++) {
    const int64_t row = rows[i];
    if (row < 0) continue;
    Floats y = load<F32>(sums + i * 16) + bias;
    if (act != Act::none) y = activate(y, act);
    y *= gate;
    if (residual != nullptr) y += load<To>(residual + column + row, lanes);
    store<To>(out + row, y, lanes);
  }
}

template <typename To>
[[gnu::always_inline]] inline void finish_gated_tile(const TileProduct& p, const float* sums, const int64_t* rows, int64_t lanes) {
  auto* out = static_cast<typename To::Raw*>(p.out.at) + p.column;
  const Floats value_bias = p.bias == nullptr ? Floats{} : load<F32>(p.bias + p.column, lanes);
  const Floats gate_bias = p.bias == nullptr ? Floats{} : load<F32>(p.bias + p.gate_bias + p.column, lanes);
  for (int64_t i = 0; i < 16; i++) {
    if (rows[i] < 0) continue;
    const Floats value = load<F32>(sums + i * 16) + value_bias, gate = load<F32>(sums + 256 + i * 16) + gate_bias;
    store<To>(out + rows[i], value * gelu_for(To{}, gate), lanes);
  }
}

// R tiles of rows.
template <typename To>
void finish_tiles(const TileProduct& p, const float* sums, const int64_t* rows, int64_t count) {
  for (int64_t t = 0; t < count; t++, sums += 512, rows += 16) {
    if (p.geglu) {
      finish_gated_tile<To>(p, sums, rows, p.columns);
    } else if (p.columns == 32) {
      finish_tile<To>(p, sums, rows, p.column, 16);
      finish_tile<To>(p, sums + 256, rows, p.column + 16, 16);
    } else {
      finish_tile<To>(p, sums, rows, p.column, p.columns < 16 ? p.columns : 16);
      if (p.columns > 16) finish_tile<To>(p, sums + 256, rows, p.column + 16, p.columns - 16);
    }
  }
}

template <int C>
void product_columns(const TileProduct& p) {
  alignas(64) float whole[1024];
  const auto* x = static_cast<const char*>(p.x);
  const auto* fetch_from = static_cast<const char*>(p.fetch);
  const int64_t steps = (p.tile_count + 1) / 2 * p.chunk_count;
  Fetch fetch{fetch_from, fetch_from + p.fetch_bytes, (p.fetch_bytes + 64 * steps - 1) / (64 * steps)};
  for (int64_t t = 0; t < p.tile_count; t += 2) {
    float* sums = p.sums == nullptr ? whole : p.sums + t * 512;
    const float* from = p.first ? nullptr : sums;
    const int64_t count = p.tile_count - t < 2 ? 1 : 2;
    if (count == 2) {
      multiply<2, C>(p, x + p.tiles[t], x + p.tiles[t + 1], from, sums, fetch);
    } else {
      multiply<1, C>(p, x + p.tiles[t], nullptr, from, sums, fetch);
    }
    if (!p.last) continue;
    if (p.out.type == DType::bf16) {
      finish_tiles<Bf16>(p, sums, p.rows + t * 16, count);
    } else {
      finish_tiles<F32>(p, sums, p.rows + t * 16, count);
    }
  }
}

void product(const TileProduct& p) {
  if (p.geglu || p.columns > 16) return product_columns<2>(p);
  product_columns<1>(p);
}

void pack(void* to, int64_t step, const void* rows, int64_t stride, int64_t columns, int64_t depth) {
  const auto* from = static_cast<const uint16_t*>(rows);
  for (int64_t k = 0; k < depth; k += 32) {
    auto* tile = reinterpret_cast<Words*>(static_cast<char*>(to) + k / 32 * step);
    for (int64_t pair = 0; pair < 16; pair++) {
      const int64_t at = k + 2 * pair;
      tile[pair] = at < depth ? gather_pairs(from + at, stride, columns, depth - at < 2 ? 1 : 2) : Words{};
    }
  }
}

}  // namespace

const TileKernels kTiles = {begin_tiles, end_tiles, product, pack};

}  // namespace cudream::CUDREAM_ISA
