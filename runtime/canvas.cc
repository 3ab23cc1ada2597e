// Masks, regions, filling and joining.
#include "runtime/canvas.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "core/error.h"
#include "runtime/picture/convert.h"

namespace cudream {
namespace {

constexpr int kColors = 3;

size_t at(int width, int x, int y) {
  return static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x);
}

// Colors [H,W,3] and how much of each pixel is known, [H,W].
struct Field {
  int width = 0, height = 0;
  std::vector<float> colors, known;
  Field(int w, int h) : width(w), height(h), colors(at(w, 0, h) * kColors), known(at(w, 0, h)) {}
};

// Half the size: the mean of what is known in each block of four.
Field pulled(const Field& f) {
  Field half((f.width + 1) / 2, (f.height + 1) / 2);
  for (int y = 0; y < f.height; y++)
    for (int x = 0; x < f.width; x++) {
      const size_t from = at(f.width, x, y), to = at(half.width, x / 2, y / 2);
      half.known[to] += f.known[from];
      for (size_t c = 0; c < kColors; c++) half.colors[to * kColors + c] += f.known[from] * f.colors[from * kColors + c];
    }
  for (size_t i = 0; i < half.known.size(); i++) {
    if (half.known[i] == 0) continue;
    for (size_t c = 0; c < kColors; c++) half.colors[i * kColors + c] /= half.known[i];
    half.known[i] = std::min(half.known[i], 1.f);
  }
  return half;
}

// Fills what is not known with the half-sized field's colors, interpolated between its pixels.
void push(Field& f, const Field& half) {
  const auto neighbors = [](int i, int last) {  // the two nearest centers: 3/4 of the one, 1/4 of the other
    const int mine = i / 2, other = std::clamp(i % 2 == 0 ? mine - 1 : mine + 1, 0, last);
    return std::pair{mine, other};
  };
  for (int y = 0; y < f.height; y++)
    for (int x = 0; x < f.width; x++) {
      const size_t i = at(f.width, x, y);
      if (f.known[i] >= 1) continue;
      const auto [x0, x1] = neighbors(x, half.width - 1);
      const auto [y0, y1] = neighbors(y, half.height - 1);
      for (size_t c = 0; c < kColors; c++) {
        const auto value = [&](int hx, int hy) { return half.colors[at(half.width, hx, hy) * kColors + c]; };
        const float guess = (9 * value(x0, y0) + 3 * value(x1, y0) + 3 * value(x0, y1) + value(x1, y1)) / 16;
        float& color = f.colors[i * kColors + c];
        color = f.known[i] * color + (1 - f.known[i]) * guess;
      }
    }
}

void fill(Field& f) {
  if (f.width == 1 && f.height == 1) return;
  Field half = pulled(f);
  fill(half);
  push(f, half);
}

uint8_t to_byte(float value) {
  return static_cast<uint8_t>(std::clamp(std::nearbyint(value), 0.f, 255.f));
}

// Distance of every pixel to the nearest one that is kept, up to `most`: along rows first, then over rows.
std::vector<float> distance_to_kept(const Mask& mask, int most) {
  const auto far = static_cast<float>(most);
  std::vector<float> row(mask.values.size(), far), all(mask.values.size(), far);
  for (int y = 0; y < mask.height; y++) {
    const auto sweep = [&](int from, int to, int step) {
      float d = far;
      for (int x = from; x != to; x += step) {
        const size_t i = at(mask.width, x, y);
        d = mask.values[i] == 0 ? 0 : std::min(d + 1, far);
        row[i] = std::min(row[i], d);
      }
    };
    sweep(0, mask.width, 1);
    sweep(mask.width - 1, -1, -1);
  }
  for (int y = 0; y < mask.height; y++)
    for (int other = std::max(0, y - most); other <= std::min(mask.height - 1, y + most); other++)
      for (int x = 0; x < mask.width; x++) {
        float& d = all[at(mask.width, x, y)];
        if (d == 0) continue;
        const float along = row[at(mask.width, x, other)];
        if (along < far) d = std::min(d, std::hypot(along, static_cast<float>(other - y)));
      }
  return all;
}

}  // namespace

Mask mask_of_brightness(const Image& picture) {
  const Image flat = over_white(picture);
  Mask mask{flat.width, flat.height, {}};
  for (size_t i = 0; i < flat.pixels.size(); i += kColors)  // the luma of Rec. 601, as Pillow's "L" rounds it
    mask.values.push_back(
        static_cast<uint8_t>((flat.pixels[i] * 19595 + flat.pixels[i + 1] * 38470 + flat.pixels[i + 2] * 7471 + 0x8000) >> 16));
  return mask;
}

Mask mask_of_alpha(const Image& picture) {
  Mask mask{picture.width, picture.height, std::vector<uint8_t>(at(picture.width, 0, picture.height))};
  if (picture.channels == 4)
    for (size_t i = 0; i < mask.values.size(); i++) mask.values[i] = static_cast<uint8_t>(255 - picture.pixels[i * 4 + 3]);
  return mask;
}

Mask inverted(Mask mask) {
  for (uint8_t& v : mask.values) v = static_cast<uint8_t>(255 - v);
  return mask;
}

Rect bounds(const Mask& mask) {
  int left = mask.width, right = 0, top = mask.height, bottom = 0;
  for (int y = 0; y < mask.height; y++)
    for (int x = 0; x < mask.width; x++) {
      if (mask.values[at(mask.width, x, y)] == 0) continue;
      left = std::min(left, x);
      right = std::max(right, x + 1);
      top = std::min(top, y);
      bottom = std::max(bottom, y + 1);
    }
  return right == 0 ? Rect{} : Rect{left, top, right - left, bottom - top};
}

Rect widened(const Rect& rect, int padding, int width, int height, int canvas_width, int canvas_height) {
  const int left = std::max(0, rect.left - padding), top = std::max(0, rect.top - padding);
  const int right = std::min(canvas_width, rect.right() + padding), bottom = std::min(canvas_height, rect.bottom() + padding);
  int w = right - left, h = bottom - top;
  const double shape = static_cast<double>(width) / height;
  if (w < h * shape)
    w = std::min(canvas_width, static_cast<int>(std::lround(h * shape)));
  else
    h = std::min(canvas_height, static_cast<int>(std::lround(w / shape)));
  const auto begin = [](int from, int to, int size, int most) { return std::clamp((from + to - size) / 2, 0, most - size); };
  return {begin(left, right, w, canvas_width), begin(top, bottom, h, canvas_height), w, h};
}

void cover(Mask& mask, const Rect& r) {
  for (int y = r.top; y < r.bottom(); y++)
    std::fill_n(mask.values.begin() + static_cast<std::ptrdiff_t>(at(mask.width, r.left, y)), r.width, uint8_t{0});
}

Mask spread(const Mask& mask, int pixels) {
  Mask along = mask, all = mask;
  for (int y = 0; y < mask.height; y++)
    for (int x = 0; x < mask.width; x++)
      for (int near = std::max(0, x - pixels); near <= std::min(mask.width - 1, x + pixels); near++)
        along.values[at(mask.width, x, y)] = std::max(along.values[at(mask.width, x, y)], mask.values[at(mask.width, near, y)]);
  for (int y = 0; y < mask.height; y++)
    for (int near = std::max(0, y - pixels); near <= std::min(mask.height - 1, y + pixels); near++)
      for (int x = 0; x < mask.width; x++)
        all.values[at(mask.width, x, y)] = std::max(all.values[at(mask.width, x, y)], along.values[at(mask.width, x, near)]);
  return all;
}

Image crop(const Image& image, const Rect& r) {
  Image out{r.width, r.height, image.channels, {}};
  const auto channels = static_cast<size_t>(image.channels);
  for (int y = r.top; y < r.bottom(); y++) {
    const auto from = image.pixels.begin() + static_cast<std::ptrdiff_t>(at(image.width, r.left, y) * channels);
    out.pixels.insert(out.pixels.end(), from, from + static_cast<std::ptrdiff_t>(static_cast<size_t>(r.width) * channels));
  }
  return out;
}

Mask crop(const Mask& mask, const Rect& r) {
  Mask out{r.width, r.height, {}};
  for (int y = r.top; y < r.bottom(); y++) {
    const auto from = mask.values.begin() + static_cast<std::ptrdiff_t>(at(mask.width, r.left, y));
    out.values.insert(out.values.end(), from, from + r.width);
  }
  return out;
}

void paste(Image& canvas, const Image& part, int left, int top) {
  const auto row = static_cast<size_t>(part.width) * kColors;
  for (int y = 0; y < part.height; y++)
    std::copy_n(part.pixels.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(y) * row), row,
                canvas.pixels.begin() + static_cast<std::ptrdiff_t>(at(canvas.width, left, top + y) * kColors));
}

Image padded(const Image& image, int width, int height) {
  if (width == image.width && height == image.height) return image;
  Image out{width, height, kColors, {}};
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      const size_t from = at(image.width, std::min(x, image.width - 1), std::min(y, image.height - 1)) * kColors;
      out.pixels.insert(out.pixels.end(), {image.pixels[from], image.pixels[from + 1], image.pixels[from + 2]});
    }
  return out;
}

Mask padded(const Mask& mask, int width, int height) {
  Mask out{width, height, std::vector<uint8_t>(at(width, 0, height))};
  for (int y = 0; y < mask.height; y++)
    std::copy_n(mask.values.begin() + static_cast<std::ptrdiff_t>(at(mask.width, 0, y)), mask.width,
                out.values.begin() + static_cast<std::ptrdiff_t>(at(width, 0, y)));
  return out;
}

Mask resize(const Mask& mask, int width, int height) {
  Mask out{width, height, {}};
  const auto source = [](int i, int to, int from) { return std::min(from - 1, static_cast<int>((i + 0.5) * from / to)); };
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++)
      out.values.push_back(mask.values[at(mask.width, source(x, width, mask.width), source(y, height, mask.height))]);
  return out;
}

Image filled(const Image& image, const Mask& mask) {
  Field f(image.width, image.height);
  for (size_t i = 0; i < f.known.size(); i++) f.known[i] = 1 - static_cast<float>(mask.values[i]) / 255;
  std::copy(image.pixels.begin(), image.pixels.end(), f.colors.begin());
  fill(f);
  Image out = image;
  std::transform(f.colors.begin(), f.colors.end(), out.pixels.begin(), to_byte);
  return out;
}

Image composite(const Image& kept, const Image& made, const Mask& mask, int blur) {
  invariant(kept.pixels.size() == made.pixels.size() && mask.values.size() * kColors == kept.pixels.size(),
            "pictures and mask of one size are joined");
  Field offset(kept.width, kept.height);
  for (size_t i = 0; i < offset.known.size(); i++) {
    offset.known[i] = mask.values[i] == 0 ? 1 : 0;
    for (size_t c = i * kColors; c < (i + 1) * kColors; c++)
      offset.colors[c] = static_cast<float>(kept.pixels[c]) - static_cast<float>(made.pixels[c]);
  }
  fill(offset);
  const std::vector<float> distance = distance_to_kept(mask, blur + 1);
  Image out = kept;
  for (size_t i = 0; i < mask.values.size(); i++) {
    if (mask.values[i] == 0) continue;
    const float share = static_cast<float>(mask.values[i]) / 255, near = 1 - distance[i] / static_cast<float>(blur + 1);
    for (size_t c = i * kColors; c < (i + 1) * kColors; c++) {
      const float moved = static_cast<float>(made.pixels[c]) + near * offset.colors[c];
      out.pixels[c] = to_byte(std::lerp(static_cast<float>(kept.pixels[c]), moved, share));
    }
  }
  return out;
}

}  // namespace cudream
