// Rounding, layouts and the Lanczos filter.
#include "runtime/picture/convert.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace cudream {
namespace {

constexpr size_t kColors = 3;

// Where the value of pixel `at` and colour `c` lies.
size_t index_of(Layout layout, size_t pixels, size_t at, size_t c) {
  return layout == Layout::hwc ? at * kColors + c : c * pixels + at;
}

// 255 times a value, to the nearest whole number (from the middle to the even one), within a byte. Float has no digits behind the
// point from 2^23 on, so an addition rounds, and then whole numbers are compared: compilers make vectors of this, and not of
// clamping floats, where a comparison might trap.
uint8_t rounded_byte(float unit) {
  constexpr float kWhole = 0x1.8p23f;
  return static_cast<uint8_t>(std::clamp(std::bit_cast<int32_t>(unit * 255 + kWhole) - std::bit_cast<int32_t>(kWhole), 0, 255));
}

// The weights with which source pixels from `first` on make one pixel.
struct Taps {
  int first;
  std::vector<int32_t> weights;  // of 2^22
};
constexpr int kWeightBits = 22;

double lanczos3(double x) {
  if (x == 0) return 1;
  if (std::abs(x) >= 3) return 0;
  const double at = std::numbers::pi * x;
  return std::sin(at) / at * std::sin(at / 3) / (at / 3);
}

std::vector<Taps> lanczos_taps(int from, int to) {
  const double scale = static_cast<double>(from) / to, widening = std::max(scale, 1.0);
  const double reach = 3 * widening, narrowing = 1 / widening;
  std::vector<Taps> taps(static_cast<size_t>(to));
  std::vector<double> weights;
  for (int i = 0; i < to; ++i) {
    const double center = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(std::floor(center - reach + 0.5)), 0);
    const int last = std::min(static_cast<int>(std::floor(center + reach + 0.5)), from);
    double sum = 0;
    weights.clear();
    for (int x = first; x < last; ++x) {
      weights.push_back(lanczos3((x - center + 0.5) * narrowing));
      sum += weights.back();
    }
    Taps& tap = taps[static_cast<size_t>(i)];
    tap.first = first;
    for (const double w : weights) tap.weights.push_back(static_cast<int32_t>(std::lround(w / sum * (1 << kWeightBits))));
  }
  return taps;
}

// One pixel of a pass: `stride` bytes lie between the source pixels it is made of.
uint8_t filtered(const uint8_t* from, size_t stride, const std::vector<int32_t>& weights) {
  int32_t sum = 1 << (kWeightBits - 1);
  for (const int32_t w : weights) {
    sum += w * *from;
    from += stride;
  }
  return static_cast<uint8_t>(std::clamp(sum >> kWeightBits, 0, 255));
}

Image resize_columns(const Image& image, int width) {
  if (width == image.width) return image;
  const auto taps = lanczos_taps(image.width, width);
  Image out{width, image.height, image.channels, {}};
  out.pixels.reserve(static_cast<size_t>(width) * image.height * kColors);
  const size_t row_bytes = static_cast<size_t>(image.width) * kColors;
  for (size_t row = 0; row < image.pixels.size(); row += row_bytes)
    for (const Taps& tap : taps)
      for (size_t c = 0; c < kColors; ++c)
        out.pixels.push_back(filtered(&image.pixels[row + static_cast<size_t>(tap.first) * kColors + c], kColors, tap.weights));
  return out;
}

Image resize_rows(const Image& image, int height) {
  if (height == image.height) return image;
  Image out{image.width, height, image.channels, {}};
  const size_t row_bytes = static_cast<size_t>(image.width) * kColors;
  out.pixels.reserve(row_bytes * static_cast<size_t>(height));
  for (const Taps& tap : lanczos_taps(image.height, height))
    for (size_t x = 0; x < row_bytes; ++x)
      out.pixels.push_back(filtered(&image.pixels[static_cast<size_t>(tap.first) * row_bytes + x], row_bytes, tap.weights));
  return out;
}

}  // namespace

Image to_image(std::span<const float> values, int width, int height, Layout layout, Range range) {
  const size_t pixels = static_cast<size_t>(width) * static_cast<size_t>(height);
  invariant(values.size() == pixels * kColors, "{} values for a picture of {} x {}", values.size(), width, height);
  if (const auto bad = std::count_if(values.begin(), values.end(), [](float v) { return !std::isfinite(v); }); bad > 0)
    throw fail(Code::device,
               "{} of {} values of the picture are not finite numbers; try --precision f32, and see with "
               "cudream inspect --check whether the model is whole",
               bad, values.size());
  Image image{width, height, static_cast<int>(kColors), {}};
  image.pixels.resize(values.size());
  const float scale = range == Range::zero_one ? 1.0f : 0.5f, shift = range == Range::zero_one ? 0.0f : 0.5f;
  if (layout == Layout::hwc)
    std::ranges::transform(values, image.pixels.begin(), [=](float v) { return rounded_byte(v * scale + shift); });
  else
    for (size_t c = 0; c < kColors; ++c)
      for (size_t at = 0; at < pixels; ++at)
        image.pixels[at * kColors + c] = rounded_byte(values[c * pixels + at] * scale + shift);
  return image;
}

std::vector<float> to_floats(const Image& image, Layout layout, Range range) {
  invariant(image.channels == 3, "a picture of 3 channels is needed, not {}", image.channels);
  const size_t pixels = image.pixels.size() / kColors;
  std::vector<float> values(image.pixels.size());
  for (size_t at = 0; at < pixels; ++at) {
    for (size_t c = 0; c < kColors; ++c) {
      const float unit = static_cast<float>(image.pixels[at * kColors + c]) / 255;
      values[index_of(layout, pixels, at, c)] = range == Range::zero_one ? unit : 2 * unit - 1;
    }
  }
  return values;
}

Image over_white(const Image& image) {
  if (image.channels == 3) return image;
  Image out{image.width, image.height, 3, {}};
  out.pixels.reserve(image.pixels.size() / 4 * kColors);
  for (size_t at = 0; at < image.pixels.size(); at += 4) {
    const int alpha = image.pixels[at + 3];
    for (size_t c = 0; c < kColors; ++c)
      out.pixels.push_back(static_cast<uint8_t>((image.pixels[at + c] * alpha + 255 * (255 - alpha) + 127) / 255));
  }
  return out;
}

Image resize(const Image& image, int width, int height) {
  invariant(image.channels == 3 && width > 0 && height > 0, "resize to {} x {} with {} channels", width, height, image.channels);
  return resize_rows(resize_columns(image, width), height);
}

// 2 to 4 mirror or turn by half; from 5 on rows become columns.
Image upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const bool swap = orientation >= 5;
  const bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool from_below = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  Image out{swap ? image.height : image.width, swap ? image.width : image.height, image.channels, {}};
  out.pixels.resize(image.pixels.size());
  auto to = out.pixels.begin();
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      const int column = swap ? y : x, row = swap ? x : y;
      const size_t source_x = from_right ? image.width - 1 - column : column;
      const size_t source_y = from_below ? image.height - 1 - row : row;
      const auto from = (source_y * static_cast<size_t>(image.width) + source_x) * static_cast<size_t>(image.channels);
      to = std::copy_n(image.pixels.begin() + static_cast<std::ptrdiff_t>(from), image.channels, to);
    }
  }
  return out;
}

}  // namespace cudream
