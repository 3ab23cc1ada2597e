// Pictures with a part to be made anew: masks, regions, and joining what was made with what was kept. Pure, on 8-bit pictures.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "runtime/picture/image.h"

namespace cudream {

struct Rect {
  int left = 0, top = 0, width = 0, height = 0;
  int right() const { return left + width; }
  int bottom() const { return top + height; }
  bool operator==(const Rect&) const = default;
};

// How much of each pixel is made anew: [H,W], 0 keeps it, 255 replaces it.
struct Mask {
  int width = 0, height = 0;
  std::vector<uint8_t> values;
  bool operator==(const Mask&) const = default;
};

Mask mask_of_brightness(const Image&);  // white: anew. Transparent parts of a mask picture count as they look over white.
Mask mask_of_alpha(const Image&);       // transparent: anew; a picture without alpha gives zeros
Mask inverted(Mask);

// The smallest rectangle around what is not 0; empty (width 0) when there is nothing.
Rect bounds(const Mask&);

// `rect` with `padding` pixels around it, widened to the shape of width x height where the canvas allows, within the canvas.
Rect widened(const Rect& rect, int padding, int width, int height, int canvas_width, int canvas_height);

void cover(Mask&, const Rect&);        // what lies in it is kept from now on
Mask spread(const Mask&, int pixels);  // each value reaches that far, along rows and columns
Image crop(const Image&, const Rect&);
Mask crop(const Mask&, const Rect&);
void paste(Image& canvas, const Image& part, int left, int top);
// Grown to the right and below by repeating the last column and row; a mask grows by what is kept.
Image padded(const Image&, int width, int height);
Mask padded(const Mask&, int width, int height);
// The value of the pixel whose area holds the center: a hard mask stays hard.
Mask resize(const Mask&, int width, int height);

// The masked part replaced by the colors around it, smoothly: pull and push over halved sizes ("The Lumigraph", Gortler et
// al. 1996, section 3.4).
Image filled(const Image&, const Mask&);

// `made` where the mask says so, `kept` elsewhere: byte for byte where the mask is 0. Both are RGB of one size. An autoencoder
// gives colors back a little changed, so the edge would show: within `blur` pixels of the edge the made part is moved
// by the difference there, which fades with the distance. Nothing of what is replaced shines through.
Image composite(const Image& kept, const Image& made, const Mask&, int blur);

}  // namespace cudream
