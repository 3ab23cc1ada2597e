// From the bytes of a file to panels of tiles.
#include <algorithm>

#include "kernels/cpu/tile_products.h"
#include "kernels/cpu/tile_weight.h"

namespace cudream {
namespace {

// Rows of K elements, [in, kernel, kernel] as stored, into the order of K that the layout has; `to` is padded with zeros.
void order(uint16_t* to, const uint16_t* stored, const TileWeight& w) {
  const int64_t taps = w.kernel * w.kernel, depth = w.in * taps, run = w.by_tap() ? w.in : 32;
  for (int64_t c = 0; c < w.in; c += run)
    for (int64_t tap = 0; tap < taps; tap++)
      for (int64_t i = 0; i < run; i++) *to++ = stored[(c + i) * taps + tap];
  std::fill_n(to, w.chunks * 32 - depth, uint16_t{0});
}

TileWeight tiles_of(Use use, const Shape& shape) {
  TileWeight w{.in = shape[1], .kernel = use == Use::conv ? shape[2] : 1, .gated = use == Use::geglu};
  w.columns = w.gated ? shape[0] / 2 : shape[0];
  w.chunks = ceil_div(w.in * w.kernel * w.kernel, 32);
  return w;
}

}  // namespace

int64_t TileProducts::packed_bytes(Use use, const Shape& shape) const {
  return tiles_of(use, shape).bytes();
}

Weight TileProducts::pack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) {
  const auto packed = std::make_shared<TileWeight>(tiles_of(use, shape));
  packed->at = static_cast<std::byte*>(at);
  const int64_t depth = packed->in * packed->kernel * packed->kernel, row_bytes = depth * size_of(stored);

  team_.run(packed->panels(), [&](int64_t panel, int thread) {
    const TileWeight& w = *packed;
    auto* rows =
        reinterpret_cast<uint16_t*>(team_.scratch(thread, (16 * w.chunks * 32 + depth) * size_of(DType::bf16) + 16 * row_bytes));
    uint16_t* row = rows + 16 * w.chunks * 32;
    auto* stored_rows = reinterpret_cast<std::byte*>(row + depth);
    const int64_t tiles = w.panel_tiles(panel);
    for (int64_t tile = 0; tile < tiles; tile++) {
      const int64_t first = panel * w.panel_columns() + (w.gated ? 0 : tile * 16);
      const int64_t count = std::clamp<int64_t>(w.columns - first, 0, 16), half = w.gated && tile == 1 ? w.columns : 0;
      raw({stored_rows, static_cast<size_t>(count * row_bytes)}, (half + first) * row_bytes);
      for (int64_t i = 0; i < count; i++) {
        kernels_.convert({row, DType::bf16}, {stored_rows + i * row_bytes, stored}, depth);
        order(rows + i * w.chunks * 32, row, w);
      }
      auto* to = const_cast<std::byte*>(w.stretch(panel, 0)) + tile * 1024;
      kernels_.tiles->pack(to, tiles * 1024, rows, w.chunks * 32, count, w.chunks * 32);
    }
  });
  return Weight{.use = use, .shape = shape, .data = View(packed->at, DType::bf16, shape), .layout = packed};
}

}  // namespace cudream
