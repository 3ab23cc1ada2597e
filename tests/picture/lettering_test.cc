// Lines of text in pictures: where the ink is, and what is too long.
#include "runtime/picture/lettering.h"

#include <gtest/gtest.h>

namespace cudream {
namespace {

Image white(int width, int height) {
  Image image{width, height, 3, {}};
  image.pixels.assign(static_cast<size_t>(width) * static_cast<size_t>(height) * 3, 255);
  return image;
}

// The columns from the first to the last with ink.
std::pair<int, int> ink(const Image& image) {
  std::pair<int, int> found{image.width, -1};
  for (size_t i = 0; i < image.pixels.size(); i++)
    if (image.pixels[i] < 128) {
      const int x = static_cast<int>(i / 3 % static_cast<size_t>(image.width));
      found = {std::min(found.first, x), std::max(found.second, x)};
    }
  return found;
}

Image drawn(std::string_view text, int width) {
  Image image = white(200, 20);
  Lettering(12).draw(image, 10, 2, width, text);
  return image;
}

TEST(Lettering, DrawsWithinItsPlace) {
  const auto [first, last] = ink(drawn("seed 7", 150));
  EXPECT_GE(first, 10);
  EXPECT_GT(last, 30);
  EXPECT_LT(last, 80);
  EXPECT_NE(drawn("seed 7", 150), drawn("seed 8", 150));
  EXPECT_EQ(drawn("", 150), white(200, 20));
  EXPECT_EQ(drawn("a\nb", 150), drawn("a b", 150));
}

TEST(Lettering, CutsWhatIsLonger) {
  const std::string longer(100, 'm');
  EXPECT_LE(ink(drawn(longer, 60)).second, 10 + 60);
  EXPECT_EQ(drawn(longer, 60), drawn(longer + "more", 60));
  EXPECT_GT(ink(drawn("\xe4\xb8\xad\xc3\xa9\xff", 60)).second, 10) << "other scripts and broken UTF-8";
}

}  // namespace
}  // namespace cudream
