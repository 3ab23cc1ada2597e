// The model of time counts the cycles of one multiprocessor. A step of the depth costs a block the longest of its tensor, shared
// memory and L2 cycles, counted from the tile's instructions and bytes; blocks that share a multiprocessor add up; a block alone
// also pays the latency that its few warps cannot hide. Sharing a tile costs writing and reading the shares. What is no count is
// fitted to times of 37 layers in every tile and split on an H200 (bench/tiles.cu): modelled times are within 8 % (the root of
// the mean square), and the choices cost 0.6 % more than the best tile and split of each layer. On other cards the fitted figures
// are assumed.
#include "kernels/cuda/product.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/error.h"

namespace cudream {
namespace {

constexpr int64_t kFewRows = 4;  // up to here reading the weights once per row beats a mostly empty tile
constexpr int kMostSplits = 16, kFewestSteps = 8;
constexpr double kClearlyBetter = 0.98;  // a later candidate must be: the first ones have fewer blocks
constexpr double kStepLatency = 240;     // fitted: barrier, ldmatrix, first mma
constexpr double kFillLatency = 2300;    // fitted: until the first step has arrived
constexpr double kOutBytes = 9;          // fitted: written a cycle, with what the epilogue reads
constexpr double kShareReadBytes = 66;   // fitted: read from L2 a cycle
constexpr double kSharedBytes = 128;     // a cycle
constexpr double kMmaRows = 16, kMmaCols = 8;

int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int64_t tiles_of(const Product& p, const TileShape& t) {
  return ceil_div(kBranches * p.rows, t.rows) * ceil_div(p.outs, t.cols);
}

int resident(const TileShape& t, const Card& c) {
  return std::max(1, std::min(t.blocks, c.shared_bytes / (t.shared_bytes() + kReservedShared)));
}

// Cycles of one step of each of `count` blocks on one multiprocessor.
double step_cycles(const TileShape& t, const Card& c, int64_t count) {
  const double mma = t.rows / kMmaRows * t.cols / kMmaCols * (kTileStep / 16.0);
  const double tensor = mma * c.mma_cycles / 4;
  const double written = (t.rows + t.cols) * kTileStep * 2.0;
  const double read = t.threads() / 32.0 * (t.warp_rows + t.warp_cols) * kTileStep * 2.0;
  const double busy = std::max({tensor, (read + written) / kSharedBytes, written / c.l2_bytes});
  return std::max(static_cast<double>(count) * busy, busy + kStepLatency);
}

double least_bytes(const Product& p) {
  const auto m = static_cast<double>(kBranches * p.rows), n = static_cast<double>(p.outs),
             channels = static_cast<double>(p.channels), outs = p.kind == Product::Kind::geglu ? n / 2 : n;
  return 2 * (m * channels + n * channels * static_cast<double>(p.taps) + m * outs);
}

}  // namespace

Provider provider_of(const Product& p) {
  const bool halves = p.type == DType::f16 || p.type == DType::bf16;
  const bool whole = p.channels % kTileStep == 0 && p.outs % (p.kind == Product::Kind::geglu ? 8 : 4) == 0;
  const bool few = p.kind == Product::Kind::linear && p.rows <= kFewRows;
  return halves && whole && p.regular && !few ? Provider::tiles : Provider::plain;
}

bool has_tile(Product::Kind kind, const TileShape& tile) {
  return kind != Product::Kind::geglu || tile.warp_cols % 32 == 0;  // value and gate of an output must meet in one warp
}

std::string entry_of(Product::Kind kind, const NamedTile& tile, DType type) {
  constexpr std::array<std::string_view, 3> kNames{"linear", "geglu", "conv"};
  return fmt::format("{}_{}_{}", kNames[static_cast<size_t>(kind)], tile.name, name_of(type));
}

double tile_cycles(const Product& p, const TileShape& t, int splits, const Card& c) {
  const int64_t each = ceil_div(tiles_of(p, t) * splits, c.multiprocessors), room = resident(t, c);
  const int64_t steps = ceil_div(p.steps(), splits);
  const double sums = t.rows * t.cols;
  const double shares = splits > 1 ? sums * 4 * (1 / kOutBytes + splits / kShareReadBytes) : 0;
  double total = 0;
  for (int64_t left = each; left > 0; left -= room)
    total += static_cast<double>(steps) * step_cycles(t, c, std::min(left, room)) + kFillLatency + sums * 2 / kOutBytes + shares;
  return std::max(total, least_bytes(p) / c.memory_bytes);
}

TileChoice choose_tile(const Product& p, const Card& card) {
  invariant(provider_of(p) == Provider::tiles, "a tile for a product of {} x {} that tiles do not serve", p.rows, p.outs);
  TileChoice best;
  for (const NamedTile& tile : kTiles) {
    if (!has_tile(p.kind, tile.shape)) continue;
    for (int splits = 1; splits <= kMostSplits; splits++) {
      if (splits > 1 && p.steps() / splits < kFewestSteps) break;
      const double cycles = tile_cycles(p, tile.shape, splits, card);
      if (best.cycles == 0 || cycles < best.cycles * kClearlyBetter) best = {tile, splits, cycles};
    }
  }
  return best;
}

double least_cycles(const Product& p, const Card& card) {
  const double mma = static_cast<double>(kBranches * p.rows * p.outs * p.steps()) / kMmaRows / kMmaCols * (kTileStep / 16.0);
  return std::max(mma * card.mma_cycles / 4 / card.multiprocessors, least_bytes(p) / card.memory_bytes);
}

}  // namespace cudream
