// Tiling pictures into one, each above its label.
#include "cli/sheet.h"

#include <algorithm>
#include <cmath>

#include "runtime/picture/convert.h"
#include "runtime/picture/image.h"
#include "runtime/picture/lettering.h"

namespace cudream {
namespace {

constexpr int kGap = 4;                       // white pixels around every cell
constexpr int kSmallest = 10, kLargest = 24;  // pixels of letters

void paste(Image& sheet, const Image& picture, int left, int top) {
  const auto row_bytes = static_cast<size_t>(picture.width) * 3;
  for (int y = 0; y < picture.height; y++) {
    const auto from = picture.pixels.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(y) * row_bytes);
    const auto at = (static_cast<size_t>(top + y) * static_cast<size_t>(sheet.width) + static_cast<size_t>(left)) * 3;
    std::copy_n(from, row_bytes, sheet.pixels.begin() + static_cast<std::ptrdiff_t>(at));
  }
}

}  // namespace

void write_sheet(const std::filesystem::path& path, const std::vector<SheetCell>& cells, Exists exists) {
  std::vector<Image> images;
  int width = 1, height = 1;
  size_t lines = 0;
  for (const SheetCell& cell : cells) {
    images.push_back(over_white(read_image(cell.picture)));
    width = std::max(width, images.back().width);
    height = std::max(height, images.back().height);
    lines = std::max(lines, cell.label.size());
  }
  Lettering lettering(std::clamp(width / 24, kSmallest, kLargest));
  const int cell_height = height + static_cast<int>(lines) * lettering.line_height();
  const int count = static_cast<int>(images.size());
  const int columns = std::max(1, static_cast<int>(std::ceil(std::sqrt(count * 1.3)))), rows = (count + columns - 1) / columns;
  Image sheet{.width = columns * (width + kGap) + kGap, .height = rows * (cell_height + kGap) + kGap};
  sheet.pixels.assign(static_cast<size_t>(sheet.width) * static_cast<size_t>(sheet.height) * 3, 255);
  for (int i = 0; i < count; i++) {
    const int left = kGap + i % columns * (width + kGap), top = kGap + i / columns * (cell_height + kGap);
    const auto cell = static_cast<size_t>(i);
    paste(sheet, images[cell], left, top);
    for (size_t line = 0; line < cells[cell].label.size(); line++)
      lettering.draw(sheet, left, top + height + static_cast<int>(line) * lettering.line_height(), width,
                     cells[cell].label[line]);
  }
  write_image(path, sheet, {}, exists);
}

}  // namespace cudream
