// Planes of pixels.
#include "kernels/cpu/tile_layer.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/products.h"

namespace cudream {
namespace {

constexpr int64_t kPixel = 64;  // bytes of a pixel in one chunk
constexpr int64_t kSpare = 16;  // pixels that the last tile may read beyond the last one

}  // namespace

TileLayer::Planes TileLayer::planes() const {
  const bool as_is = w->kernel == 1 && stride == 1 && pad == 0 && height == x.shape[1] && width == x.shape[2];
  if (as_is && !w->by_tap() && out_height * out_width >= 16) return Planes::none;
  return stride == 1 && !w->by_tap() ? Planes::lines : Planes::chunks;
}

int64_t TileLayer::row_bytes() const {
  return planes() == Planes::none ? w->in * size_of(DType::bf16) : kPixel;
}

int64_t TileLayer::pitch() const {
  return planes() == Planes::lines ? out_width + w->kernel - 1 : out_width;
}

int64_t TileLayer::plane_bytes(int64_t lines) const {
  const int64_t read = planes() == Planes::lines ? lines + w->kernel - 1 : lines;
  return (read * pitch() + kSpare) * kPixel;
}

int64_t TileLayer::stage_bytes(int64_t lines) const {
  return (planes() == Planes::lines ? w->in / 32 : w->chunks) * plane_bytes(lines);
}

// Rows of a matrix as they lie. The last tile begins early enough to end with the last row.
TileMap TileLayer::map_matrix() const {
  TileMap map;
  const int64_t rows = out_height * out_width;
  for (int64_t row = 0; row < rows; row += 16) {
    const int64_t first = std::min(row, rows - 16);
    map.tiles.push_back(first * row_bytes());
    for (int64_t i = first; i < first + 16; i++) map.rows.push_back(i < row ? -1 : i * w->columns);
  }
  for (int64_t j = 0; j < w->chunks; j++) map.chunks.push_back(j * kPixel);
  return map;
}

// A tile lies in one line, or where lines are short goes on into the next ones.
TileMap TileLayer::map(int64_t lines) const {
  if (planes() == Planes::none) return map_matrix();
  TileMap map;
  const auto add = [&](int64_t first) {
    map.tiles.push_back(first * kPixel);
    for (int64_t p = first; p < first + 16; p++) {
      const int64_t line = p / pitch(), column = p % pitch();
      const bool inside = line < lines && column < out_width;
      map.rows.push_back(inside ? (line * out_width + column) * w->columns : -1);
    }
  };
  if (ceil_div(lines * pitch(), 16) < lines * ceil_div(out_width, 16)) {
    for (int64_t p = 0; p < lines * pitch(); p += 16) add(p);
  } else {
    for (int64_t line = 0; line < lines; line++)
      for (int64_t column = 0; column < out_width; column += 16) add(line * pitch() + column);
  }
  const int64_t plane = plane_bytes(lines), taps = w->kernel * w->kernel;
  for (int64_t j = 0; j < w->chunks; j++) {
    const int64_t tap = j % taps, shift = tap / w->kernel * pitch() + tap % w->kernel;
    map.chunks.push_back(planes() == Planes::lines ? j / taps * plane + shift * kPixel : j * plane);
  }
  return map;
}

// The pixel of the upsampled picture; null outside.
const std::byte* TileLayer::pixel(int64_t picture, int64_t y, int64_t column) const {
  if (y < 0 || y >= height || column < 0 || column >= width) return nullptr;
  const int64_t source_y = y * x.shape[1] / height, source_column = column * x.shape[2] / width;
  return offset(x.data, picture * x.stride[0] + source_y * x.stride[1] + source_column * x.stride[2], x.dtype);
}

// Line y of the padded picture, 32 channels into each plane.
void TileLayer::stage_padded_line(std::byte* to, int64_t plane, int64_t picture, int64_t y) const {
  for (int64_t column = 0; column < pitch(); column++, to += kPixel) {
    const std::byte* from = pixel(picture, y, column - pad);
    for (int64_t c = 0; c < w->in / 32; c++) {
      if (from == nullptr) {
        std::memset(to + c * plane, 0, kPixel);
      } else {
        std::memcpy(to + c * plane, from + c * kPixel, kPixel);
      }
    }
  }
}

// What the filter sees at each pixel of a line of the result, in the order of K.
void TileLayer::stage_seen_line(std::byte* to, int64_t plane, int64_t picture, int64_t line) const {
  const int64_t taps = w->kernel * w->kernel, run = w->by_tap() ? w->in : 32;  // channels that lie together in K
  std::vector<uint16_t> seen(static_cast<size_t>(w->chunks * 32));
  for (int64_t column = 0; column < out_width; column++, to += kPixel) {
    uint16_t* k = seen.data();
    for (int64_t c = 0; c < w->in; c += run)
      for (int64_t tap = 0; tap < taps; tap++, k += run) {
        const std::byte* from = pixel(picture, line * stride - pad + tap / w->kernel, column * stride - pad + tap % w->kernel);
        const auto bytes = static_cast<size_t>(run) * sizeof *k;
        if (from == nullptr) {
          std::memset(k, 0, bytes);
        } else {
          std::memcpy(k, from + c * size_of(DType::bf16), bytes);
        }
      }
    for (int64_t j = 0; j < w->chunks; j++) std::memcpy(to + j * plane, seen.data() + j * 32, kPixel);
  }
}

void TileLayer::stage(std::byte* to, int64_t picture, int64_t line, int64_t lines, int64_t first, int64_t last) const {
  const int64_t plane = plane_bytes(lines);
  if (planes() == Planes::lines && last == lines) last += w->kernel - 1;  // the filter reads more lines than it writes
  for (int64_t i = first; i < last; i++) {
    std::byte* at = to + i * pitch() * kPixel;
    if (planes() == Planes::lines) {
      stage_padded_line(at, plane, picture, line + i - pad);
    } else {
      stage_seen_line(at, plane, picture, line + i);
    }
  }
}

}  // namespace cudream
