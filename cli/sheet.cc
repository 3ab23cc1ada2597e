// Tiling pictures into one.
#include "cli/sheet.h"

#include <algorithm>
#include <cmath>

#include "runtime/picture/convert.h"
#include "runtime/picture/image.h"

namespace cudream {
namespace {

constexpr int kGap = 4;  // white pixels around every cell

void paste(Image& sheet, const Image& picture, int left, int top) {
  const auto row_bytes = static_cast<size_t>(picture.width) * 3;
  for (int y = 0; y < picture.height; y++) {
    const auto from = picture.pixels.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(y) * row_bytes);
    const auto at = (static_cast<size_t>(top + y) * static_cast<size_t>(sheet.width) + static_cast<size_t>(left)) * 3;
    std::copy_n(from, row_bytes, sheet.pixels.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

}  // namespace

void write_sheet(const std::filesystem::path& path, const std::vector<std::filesystem::path>& pictures, Exists exists) {
  std::vector<Image> images;
  int width = 1, height = 1;
  for (const auto& picture : pictures) {
    images.push_back(over_white(read_image(picture)));
    width = std::max(width, images.back().width);
    height = std::max(height, images.back().height);
  }
  const int count = static_cast<int>(images.size());
  const int columns = std::max(1, static_cast<int>(std::ceil(std::sqrt(count * 1.3)))), rows = (count + columns - 1) / columns;
  Image sheet{.width = columns * (width + kGap) + kGap, .height = rows * (height + kGap) + kGap};
  sheet.pixels.assign(static_cast<size_t>(sheet.width) * static_cast<size_t>(sheet.height) * 3, 255);
  for (int i = 0; i < count; i++)
    paste(sheet, images[static_cast<size_t>(i)], kGap + i % columns * (width + kGap), kGap + i / columns * (height + kGap));
  write_image(path, sheet, {}, exists);
}

}  // namespace cudream
