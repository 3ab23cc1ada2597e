// The tiles that products are cut into, known to host and device alike.
#pragma once

namespace cudream {

// One block makes rows x cols sums, each of its warps warp_rows x warp_cols of them, walking the depth kTileStep at a time
// through `stages` places in shared memory; `blocks` of them must fit a multiprocessor's registers.
struct TileShape {
  int rows, cols, warp_rows, warp_cols, stages, blocks;

  constexpr int threads() const { return rows / warp_rows * (cols / warp_cols) * 32; }
  constexpr int shared_bytes() const { return stages * (rows + cols) * 64; }
};

inline constexpr int kTileStep = 32;  // elements of the depth in a step: 64 bytes of a row

inline constexpr TileShape kTile128x128{128, 128, 64, 64, 3, 2}, kTile128x160{128, 160, 64, 80, 3, 2},
    kTile64x160{64, 160, 32, 80, 3, 3}, kTile64x64{64, 64, 32, 32, 4, 4};

}  // namespace cudream
