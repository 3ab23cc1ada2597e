// Growth and frames.
#include "runtime/outpaint.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <sstream>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

constexpr int kMaxGrowth = 16384;

int read_side(const std::string& text, const std::string& whole, int side) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, value);
  const bool percent = rest + 1 == end && *rest == '%';
  if (error != std::errc() || (rest != end && !percent) || !(value >= 0))
    throw fail(Code::usage, "--grow {}: \"{}\" is neither pixels nor percent; write left,top,right,bottom, such as 0,0,50%,128",
               printable(whole), printable(text));
  const double pixels = percent ? value / 100 * side : value;
  if (pixels > kMaxGrowth) throw fail(Code::usage, "--grow {}: at most {} pixels on a side", printable(whole), kMaxGrowth);
  return static_cast<int>(std::lround(pixels));
}

// A line cut into spans of at most `most`, which overlap by a quarter and more.
std::vector<std::pair<int, int>> spans(int from, int length, int most) {
  if (length <= most) return {{from, length}};
  const int step = most * 3 / 4, count = (length - most + step - 1) / step + 1;
  std::vector<std::pair<int, int>> cut;
  cut.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; i++)
    cut.emplace_back(from + static_cast<int>(std::lround(static_cast<double>(length - most) * i / (count - 1))), most);
  return cut;
}

}  // namespace

Growth read_growth(const std::string& text, int width, int height) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, ',');) parts.push_back(part);
  if (parts.size() == 1) parts.resize(4, parts[0]);
  if (parts.size() != 4)
    throw fail(Code::usage, "--grow {}: write left,top,right,bottom, or one value for all sides", printable(text));
  const Growth growth{read_side(parts[0], text, width), read_side(parts[1], text, height), read_side(parts[2], text, width),
                      read_side(parts[3], text, height)};
  if (growth == Growth{}) throw fail(Code::usage, "--grow {}: nothing grows", printable(text));
  return growth;
}

OutpaintPlan plan_outpaint(int width, int height, const Growth& growth, int native) {
  OutpaintPlan plan{.width = width + growth.left + growth.right,
                    .height = height + growth.top + growth.bottom,
                    .kept = {growth.left, growth.top, width, height},
                    .frames = {}};
  Rect known = plan.kept;
  const int strip = native / 2, along = native * 3 / 2;
  // A frame reaches from the new edge back over what is known.
  const auto sideways = [&](int from, int depth) {
    for (const auto& [top, length] : spans(known.top, known.height, along)) plan.frames.push_back({from, top, depth, length});
  };
  const auto upright = [&](int from, int depth) {
    for (const auto& [left, length] : spans(known.left, known.width, along)) plan.frames.push_back({left, from, length, depth});
  };
  while (known.left > 0 || known.right() < plan.width || known.top > 0 || known.bottom() < plan.height) {
    if (const int n = std::min(strip, known.left); n > 0) {
      sideways(known.left - n, std::min(native, known.width + n));
      known = {known.left - n, known.top, known.width + n, known.height};
    }
    if (const int n = std::min(strip, plan.width - known.right()); n > 0) {
      const int depth = std::min(native, known.width + n);
      sideways(known.right() + n - depth, depth);
      known.width += n;
    }
    if (const int n = std::min(strip, known.top); n > 0) {
      upright(known.top - n, std::min(native, known.height + n));
      known = {known.left, known.top - n, known.width, known.height + n};
    }
    if (const int n = std::min(strip, plan.height - known.bottom()); n > 0) {
      const int depth = std::min(native, known.height + n);
      upright(known.bottom() + n - depth, depth);
      known.height += n;
    }
  }
  return plan;
}

}  // namespace cudream
