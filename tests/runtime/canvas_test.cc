// Masks, regions, filling and joining, by property.
#include "runtime/canvas.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

Mask box(int width, int height, const Rect& r, uint8_t value = 255) {
  Mask mask{width, height, std::vector<uint8_t>(static_cast<size_t>(width * height))};
  for (int y = r.top; y < r.bottom(); y++)
    for (int x = r.left; x < r.right(); x++) mask.values[static_cast<size_t>(y * width + x)] = value;
  return mask;
}

Image plain(int width, int height, uint8_t value) {
  return {width, height, 3, std::vector<uint8_t>(static_cast<size_t>(width * height * 3), value)};
}

uint8_t red(const Image& image, int x, int y) {
  return image.pixels[static_cast<size_t>((y * image.width + x) * 3)];
}

TEST(Mask, BrightAndTransparentPartsAreMadeAnew) {
  Image picture{3, 1, 4, {255, 255, 255, 255, 0, 0, 0, 255, 0, 0, 0, 0}};
  EXPECT_EQ(mask_of_brightness(picture).values, (std::vector<uint8_t>{255, 0, 255}));
  EXPECT_EQ(mask_of_alpha(picture).values, (std::vector<uint8_t>{0, 0, 255}));
  EXPECT_EQ(inverted(mask_of_alpha(picture)).values, (std::vector<uint8_t>{255, 255, 0}));
}

TEST(Mask, BoundsHoldAllThatIsNotZero) {
  EXPECT_EQ(bounds(box(20, 10, {3, 4, 5, 2}, 1)), (Rect{3, 4, 5, 2}));
  EXPECT_EQ(bounds(box(20, 10, {})), Rect{});
  EXPECT_EQ(resize(box(20, 10, {5, 0, 10, 10}), 40, 5).values, box(40, 5, {10, 0, 20, 5}).values);
}

TEST(Mask, Spreads) {
  EXPECT_EQ(spread(box(20, 10, {8, 4, 3, 2}), 2), box(20, 10, {6, 2, 7, 6}));
  EXPECT_EQ(spread(box(20, 10, {0, 0, 1, 1}), 3), box(20, 10, {0, 0, 4, 4}));
}

TEST(Region, IsWithinTheCanvasAndOfTheShape) {
  const Rect inner{100, 50, 20, 40};
  const Rect r = widened(inner, 10, 512, 512, 400, 300);
  EXPECT_EQ(r, (Rect{80, 40, 60, 60}));
  for (const Rect& rect : {Rect{0, 0, 10, 10}, Rect{390, 290, 10, 10}, Rect{0, 100, 400, 20}}) {
    const Rect w = widened(rect, 32, 512, 768, 400, 300);
    EXPECT_TRUE(w.left >= 0 && w.top >= 0 && w.right() <= 400 && w.bottom() <= 300);
    EXPECT_TRUE(w.left <= rect.left && w.top <= rect.top && w.right() >= rect.right() && w.bottom() >= rect.bottom());
  }
}

TEST(Filled, TakesTheColorsAround) {
  Image picture = plain(32, 32, 50);
  for (int y = 0; y < 32; y++)
    for (int x = 16; x < 32; x++) picture.pixels[static_cast<size_t>((y * 32 + x) * 3)] = 150;
  for (int y = 8; y < 24; y++)
    for (int x = 8; x < 24; x++) picture.pixels[static_cast<size_t>((y * 32 + x) * 3)] = 255;  // what is to go
  const Image out = filled(picture, box(32, 32, {8, 8, 16, 16}));
  EXPECT_LT(red(out, 8, 16), 80);
  EXPECT_GT(red(out, 23, 16), 120);
  for (int y = 0; y < 32; y++)
    for (int x = 0; x < 32; x++) EXPECT_LE(red(out, x, y), 150);
  EXPECT_EQ(red(out, 3, 3), 50);
}

TEST(Composite, MeetsTheKeptPartAtTheEdge) {
  const Rect hole{20, 20, 40, 40};
  const Image kept = plain(80, 80, 100), made = plain(80, 80, 110);  // everything came back ten too bright
  const Image out = composite(kept, made, box(80, 80, hole), 8);
  EXPECT_EQ(red(out, 19, 40), 100);
  for (int x = 20; x < 60; x++) EXPECT_LE(std::abs(red(out, x, 40) - red(out, x - 1, 40)), 2) << x;
  EXPECT_EQ(red(out, 40, 40), 110);
  EXPECT_EQ(composite(kept, made, box(80, 80, hole), 0).pixels[(40 * 80 + 20) * 3], 110);
}

TEST(Composite, NothingReplacedShinesThrough) {
  Image kept = plain(64, 64, 100);
  const Rect hole{16, 16, 32, 32};
  for (int y = hole.top; y < hole.bottom(); y++)
    for (int x = hole.left; x < hole.right(); x++) kept.pixels[static_cast<size_t>((y * 64 + x) * 3)] = 255;
  const Image out = composite(kept, plain(64, 64, 100), box(64, 64, hole), 6);
  for (int y = 0; y < 64; y++)
    for (int x = 0; x < 64; x++) EXPECT_EQ(red(out, x, y), 100);
}

TEST(Composite, GreyOfTheMaskMixes) {
  const Image out = composite(plain(8, 8, 0), plain(8, 8, 200), box(8, 8, {0, 0, 8, 8}, 51), 4);
  EXPECT_EQ(red(out, 4, 4), 40);
}

TEST(Padded, RepeatsTheEdge) {
  const Image picture = gradient(5, 4), out = padded(picture, 8, 8);
  EXPECT_EQ(crop(out, {0, 0, 5, 4}), picture);
  EXPECT_EQ(red(out, 7, 2), red(picture, 4, 2));
  EXPECT_EQ(padded(box(5, 4, {0, 0, 5, 4}), 8, 8), box(8, 8, {0, 0, 5, 4}));
}

}  // namespace
}  // namespace cudream
