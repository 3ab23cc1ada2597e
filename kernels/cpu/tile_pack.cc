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

}  // namespace

Weight TileProducts::pack(Use use, DType stored, const Shape& shape, std::span<const std::byte> raw) {
  auto packed = std::make_shared<TileWeight>();
  packed->in = shape[1];
  packed->kernel = use == Use::conv ? shape[2] : 1;
  packed->gated = use == Use::geglu;
  packed->columns = packed->gated ? shape[0] / 2 : shape[0];
  const int64_t depth = packed->in * packed->kernel * packed->kernel;
  packed->chunks = ceil_div(depth, 32);
  packed->at = memory_.take(packed->bytes());

  team_.run(packed->panels(), [&](int64_t panel, int thread) {
    const TileWeight& w = *packed;
    auto* rows = reinterpret_cast<uint16_t*>(team_.scratch(thread, (16 * w.chunks * 32 + depth) * size_of(DType::bf16)));
    uint16_t* row = rows + 16 * w.chunks * 32;
    const int64_t tiles = w.panel_tiles(panel);
    for (int64_t tile = 0; tile < tiles; tile++) {
      const int64_t first = panel * w.panel_columns() + (w.gated ? 0 : tile * 16);
      const int64_t count = std::clamp<int64_t>(w.columns - first, 0, 16), half = w.gated && tile == 1 ? w.columns : 0;
      for (int64_t i = 0; i < count; i++) {
        const std::byte* from = raw.data() + (half + first + i) * depth * size_of(stored);
        kernels_.convert({row, DType::bf16}, {from, stored}, depth);
        order(rows + i * w.chunks * 32, row, w);
      }
      auto* to = const_cast<std::byte*>(w.stretch(panel, 0)) + tile * 1024;
      kernels_.tiles->pack(to, tiles * 1024, rows, w.chunks * 32, count, w.chunks * 32);
    }
  });
  return Weight{.use = use, .shape = shape, .data = View(packed->at, DType::bf16, shape), .layout = packed};
}

}  // namespace cudream
