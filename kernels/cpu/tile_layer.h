// How the input of a product or convolution lies in memory for AMX tiles, and where rows of the result go.
//
// A tile of x is 16 rows of 64 bytes: 16 pixels in a chunk of 32 steps of K. A matrix can be read as it lies. The pixels of a
// convolution are laid out in planes: for filters of stride 1 a plane is 32 channels of the padded lines, and a tap is a
// shift in it; for others each chunk has a plane of what the filter sees there at each pixel of the result.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/tile_weight.h"
#include "kernels/device.h"

namespace cudream {

struct TileMap {
  std::vector<int64_t> tiles;   // byte where a tile begins
  std::vector<int64_t> rows;    // element of out for each of its 16 rows; -1: no row
  std::vector<int64_t> chunks;  // bytes to add for each chunk of K
};

// A product is a convolution of one pixel over one long line.
struct TileLayer {
  View x;  // [N, H, W, in], bf16
  const TileWeight* w = nullptr;
  int64_t height = 0, width = 0;  // of x after upsampling
  int64_t out_height = 0, out_width = 0, stride = 1, pad = 0;

  enum class Planes { none, lines, chunks };
  Planes planes() const;
  int64_t row_bytes() const;  // from row to row of a tile

  // For some lines of the result, laid out together.
  int64_t stage_bytes(int64_t lines) const;
  TileMap map(int64_t lines) const;
  // Lays out lines [first, last) of a block of `lines` lines, which begins at `line` of the picture.
  void stage(std::byte* to, int64_t picture, int64_t line, int64_t lines, int64_t first, int64_t last) const;

 private:
  int64_t pitch() const;  // from line to line in a plane, in pixels
  int64_t plane_bytes(int64_t lines) const;
  TileMap map_matrix() const;
  const std::byte* pixel(int64_t picture, int64_t y, int64_t column) const;
  void stage_padded_line(std::byte* to, int64_t plane, int64_t picture, int64_t y) const;
  void stage_seen_line(std::byte* to, int64_t plane, int64_t picture, int64_t line) const;
};

}  // namespace cudream
