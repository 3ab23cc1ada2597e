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

// R tiles of rows at x0 and x1 through C tiles of columns, onto the sums at `from`, 4 KiB; null: zero.
template <int R, int C>
void multiply(const TileProduct& p, const char* x0, const char* x1, const float* from, Fetch& fetch) {
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
  const int64_t row_bytes = p.row_bytes;
  const int64_t* const end = p.chunks + p.chunk_count;
  for (const int64_t* chunk = p.chunks; chunk < end; chunk++, panel += C * kTileBytes) {
    const int64_t at = *chunk;
    tile_load<4>(x0 + at, row_bytes);
    tile_load<6>(panel);
    tile_multiply_add<0, 4, 6>();
    if (C == 2) tile_load<7>(panel + kTileBytes), tile_multiply_add<1, 4, 7>();
    if (R == 2) tile_load<5>(x1 + at, row_bytes), tile_multiply_add<2, 5, 6>();
    if (R == 2 && C == 2) tile_multiply_add<3, 5, 7>();
    fetch.step();
  }
}
template <int C>
void store_sums(float* to, int64_t rows) {
  tile_store<0>(to);
  if (C == 2) tile_store<1>(to + 256);
  if (rows == 2) tile_store<2>(to + 512);
  if (rows == 2 && C == 2) tile_store<3>(to + 768);
}

// The epilogue of a tile of rows: sums [2 tiles of columns][16 rows][16], of which `lanes` channels from `column` on.
template <typename To, int C, bool kPlain>
[[gnu::always_inline]] inline void finish_tile(const TileProduct& p, const float* sums, const int64_t* rows,
                                               const int64_t (&lanes)[C]) {
  auto* out = static_cast<typename To::Raw*>(p.out.at) + p.column;
  const auto* residual = p.residual.at == nullptr ? nullptr : static_cast<const typename To::Raw*>(p.residual.at) + p.column;
  const Act act = p.act;
  Floats bias[C], gate[C];
  for (int c = 0; c < C; c++) {
    bias[c] = p.bias == nullptr ? Floats{} : load<F32>(p.bias + p.column + c * 16, lanes[c]);
    gate[c] = p.gate == nullptr ? splat(1) : load<F32>(p.gate + p.column + c * 16, lanes[c]);
  }
  for (int64_t i = 0; i < 16; i++) {
    const int64_t row = rows[i];
    if (row < 0) continue;
    Floats y[C];
    for (int c = 0; c < C; c++) {
      y[c] = load<F32>(sums + c * 256 + i * 16) + bias[c];
      if (!kPlain) y[c] = activate(To{}, y[c], act) * gate[c];
      if (residual != nullptr) y[c] += load<To>(residual + row + c * 16, lanes[c]);
    }
    if (C == 2 && kPlain) {
      narrow_pair(To{}, out + row, y[0], y[C - 1]);
    } else {
      for (int c = 0; c < C; c++) store<To>(out + row + c * 16, y[c], lanes[c]);
    }
  }
}

template <typename To>
[[gnu::always_inline]] inline void finish_gated_tile(const TileProduct& p, const float* sums, const int64_t* rows,
                                                     int64_t lanes) {
  auto* out = static_cast<typename To::Raw*>(p.out.at) + p.column;
  const Floats value_bias = p.bias == nullptr ? Floats{} : load<F32>(p.bias + p.column, lanes);
  const Floats gate_bias = p.bias == nullptr ? Floats{} : load<F32>(p.bias + p.gate_bias + p.column, lanes);
  for (int64_t i = 0; i < 16; i++) {
    if (rows[i] < 0) continue;
    const Floats value = load<F32>(sums + i * 16) + value_bias, gate = load<F32>(sums + 256 + i * 16) + gate_bias;
    store<To>(out + rows[i], value * activate(To{}, gate, Act::gelu), lanes);
  }
}

// `count` tiles of rows.
template <typename To>
void finish_tiles(const TileProduct& p, const float* sums, const int64_t* rows, int64_t count) {
  const bool plain = p.act == Act::none && p.gate == nullptr;
  for (int64_t t = 0; t < count; t++, sums += 512, rows += 16) {
    if (p.geglu) {
      finish_gated_tile<To>(p, sums, rows, p.columns);
    } else if (p.columns == 32 && plain) {
      finish_tile<To, 2, true>(p, sums, rows, {16, 16});
    } else if (p.columns > 16) {
      finish_tile<To, 2, false>(p, sums, rows, {16, p.columns - 16});
    } else {
      finish_tile<To, 1, false>(p, sums, rows, {p.columns});
    }
  }
}

// Asks for the lines of out and of the residual that an epilogue will touch.
void announce(const TileProduct& p, const int64_t* rows, int64_t count) {
  const int64_t size = p.out.type == DType::bf16 ? 2 : 4;
  for (int64_t i = 0; i < count; i++) {
    if (rows[i] < 0) continue;
    const int64_t at = (rows[i] + p.column) * size;
    __builtin_prefetch(static_cast<const char*>(p.out.at) + at, 1);
    if (p.residual.at != nullptr) __builtin_prefetch(static_cast<const char*>(p.residual.at) + at, 0);
  }
}

void finish(const TileProduct& p, const float* sums, int64_t tile, int64_t count) {
  if (p.out.type == DType::bf16) {
    finish_tiles<Bf16>(p, sums, p.rows + tile * 16, count);
  } else {
    finish_tiles<F32>(p, sums, p.rows + tile * 16, count);
  }
}

// While the tiles end two rows' products, the epilogue of the two before is done.
template <int C>
void product_columns(const TileProduct& p) {
  alignas(64) float whole[2][1024];
  const auto* x = static_cast<const char*>(p.x);
  const auto* fetch_from = static_cast<const char*>(p.fetch);
  const int64_t steps = (p.tile_count + 1) / 2 * p.chunk_count;
  Fetch fetch{fetch_from, fetch_from + p.fetch_bytes, (p.fetch_bytes + 64 * steps - 1) / (64 * steps)};
  const auto sums_of = [&](int64_t t) { return p.sums == nullptr ? whole[t / 2 % 2] : p.sums + t * 512; };
  for (int64_t t = 0; t < p.tile_count; t += 2) {
    const int64_t count = p.tile_count - t < 2 ? 1 : 2;
    const float* from = p.first ? nullptr : sums_of(t);
    if (p.last) announce(p, p.rows + t * 16, count * 16);
    if (count == 2) {
      multiply<2, C>(p, x + p.tiles[t], x + p.tiles[t + 1], from, fetch);
    } else {
      multiply<1, C>(p, x + p.tiles[t], nullptr, from, fetch);
    }
    if (p.last && t > 0) finish(p, sums_of(t - 2), t - 2, 2);
    store_sums<C>(sums_of(t), count);
  }
  const int64_t last = (p.tile_count - 1) / 2 * 2;
  if (p.last) finish(p, sums_of(last), last, p.tile_count - last);
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
