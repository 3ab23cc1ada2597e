// The note of TileProducts on a packed matrix or filter (Weight::layout).
#pragma once

#include <cstddef>
#include <cstdint>

namespace cudream {

// Panels of 32 columns, [panels][chunks][2 tiles]: a column is an output channel, a chunk 32 steps of K. The last panel has
// one tile of columns where 16 are enough. For geglu a panel's first tile holds 16 values and its second their gates.
struct TileWeight {
  int64_t in = 0, kernel = 1;
  int64_t columns = 0;  // of the result
  int64_t chunks = 0;
  bool gated = false;
  std::byte* at = nullptr;

  // K goes over taps within every 32 input channels, so that lines of pixels are used nine times while they are at hand;
  // where the channels are no multiple of 32, over channels within every tap.
  bool by_tap() const { return in % 32 != 0; }
  int64_t panel_columns() const { return gated ? 16 : 32; }
  int64_t panels() const { return (columns + panel_columns() - 1) / panel_columns(); }
  int64_t panel_tiles(int64_t panel) const { return gated || columns - panel * 32 > 16 ? 2 : 1; }
  int64_t bytes() const { return ((panels() - 1) * 2 + panel_tiles(panels() - 1)) * chunks * 1024; }
  const std::byte* stretch(int64_t panel, int64_t chunk) const {
    return at + (panel * chunks * 2 + chunk * panel_tiles(panel)) * 1024;
  }
};

}  // namespace cudream
