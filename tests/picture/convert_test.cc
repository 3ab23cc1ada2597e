// Rounding as the reference does it, and resizing with the same bytes as Pillow.
#include "runtime/picture/convert.h"

#include <cmath>
#include <limits>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

// The picture that Pillow resized for data/lanczos_*.png.
Image pattern() {
  Image image{37, 23, 3, {}};
  for (int y = 0; y < 23; ++y)
    for (int x = 0; x < 37; ++x)
      for (const int v : {x * 7 + y * 3, x * x + y * 11, x * y * 5}) image.pixels.push_back(static_cast<uint8_t>(v % 256));
  return image;
}

TEST(Convert, RoundsHalvesToEvenAndClamps) {
  const std::vector<float> values = {0.0f,       1.0f,         0.5f, -3.0f, 2.0f, 0.5f / 255,
                                     1.5f / 255, 254.5f / 255, 0.3f, 0.1f,  0.7f, 0.999f};
  EXPECT_THAT(to_image(values, 2, 2, Layout::hwc, Range::zero_one).pixels,
              testing::ElementsAre(0, 255, 128, 0, 255, 0, 2, 254, 76, 26, 178, 255));
  const std::vector<float> signed_values = {-1, 0, 1, -5, 0.5f, 5};
  EXPECT_THAT(to_image(signed_values, 2, 1, Layout::hwc, Range::minus_one_one).pixels,
              testing::ElementsAre(0, 128, 255, 0, 191, 255));
}

TEST(Convert, LayoutsAndRangesComeBack) {
  const Image image = gradient(13, 7);
  for (const Layout layout : {Layout::hwc, Layout::chw})
    for (const Range range : {Range::zero_one, Range::minus_one_one})
      EXPECT_EQ(to_image(to_floats(image, layout, range), 13, 7, layout, range), image);
  const auto planes = to_floats(image, Layout::chw, Range::zero_one);
  EXPECT_EQ(planes[0], 0);
  EXPECT_EQ(planes[13 * 7 + 13], static_cast<float>(image.pixels[13 * 3 + 1]) / 255);
}

TEST(Convert, ValuesThatAreNoNumbersAreAnError) {
  std::vector<float> values(12, 0.5f);
  values[3] = std::numeric_limits<float>::quiet_NaN();
  values[7] = std::numeric_limits<float>::infinity();
  expect_error([&] { to_image(values, 2, 2, Layout::chw, Range::zero_one); }, Code::device, "2 of 12 values");
}

TEST(Convert, AlphaIsLaidOverWhite) {
  const Image image{3, 1, 4, {10, 20, 30, 255, 10, 20, 30, 0, 100, 0, 255, 128}};
  EXPECT_THAT(over_white(image).pixels, testing::ElementsAre(10, 20, 30, 255, 255, 255, 177, 127, 255));
  EXPECT_EQ(over_white(gradient(4, 4)), gradient(4, 4));
}

TEST(Convert, ResizeGivesPillowsBytes) {
  for (const auto& [w, h] : {std::pair{16, 29}, {80, 50}, {5, 5}, {37, 7}})
    EXPECT_EQ(resize(pattern(), w, h), read_image(fmt::format("{}lanczos_{}x{}.png", kData, w, h))) << w << " x " << h;
  EXPECT_EQ(resize(pattern(), 37, 23), pattern());
}

}  // namespace
}  // namespace cudream
