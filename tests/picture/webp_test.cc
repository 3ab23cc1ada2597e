// WebP: our own files to the pixel, those of other programs, and damaged ones; and what all formats say of their origin.
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using testing::HasSubstr;
using testing::Not;

std::string text_of(const Bytes& bytes) {
  return {bytes.begin(), bytes.end()};
}

TEST(Webp, KeepsEveryPixel) {
  for (const int channels : {3, 4})
    for (const auto& [width, height] : {std::pair(2, 1), {33, 7}, {64, 48}}) {
      const Image image = gradient(width, height, channels);
      EXPECT_EQ(decode_image(encode_webp(image, {}), "a.webp"), image) << width << " " << channels;
      EXPECT_EQ(decode_image(encode_webp(image, {.parameters = "p", .job = "j", .generated = true}), "a.webp"), image);
    }
}

TEST(Webp, KeepsColoursThatNobodySees) {
  Image image = gradient(8, 8, 4);
  for (size_t i = 3; i < image.pixels.size(); i += 4) image.pixels[i] = 0;
  EXPECT_EQ(decode_image(encode_webp(image, {}), "a.webp"), image);
}

TEST(Webp, OfAnotherProgramIsReadUprightWithItsTexts) {
  const std::string path = std::string(kData) + "pillow_lossy.webp";  // 12 x 8: blue left, red right, to be turned by a quarter
  const Image image = read_image(path);
  ASSERT_EQ(image.width, 8);
  ASSERT_EQ(image.height, 12);
  const auto channel = [&](size_t row, size_t c) { return image.pixels[(row * 8 + 4) * 3 + c]; };
  EXPECT_GT(channel(1, 2), channel(1, 0));
  EXPECT_GT(channel(10, 0), channel(10, 2));
  EXPECT_THAT(read_metadata(path).parameters, HasSubstr("a caf\u00e9, (red:1.2) \U0001F319\nNegative prompt: blurry"));
  EXPECT_FALSE(read_metadata(path).generated);
}

TEST(Webp, OfAnAnimationTheFirstPictureIsRead) {
  const Image image = read_image(std::string(kData) + "pillow_animated.webp");
  ASSERT_EQ(image.width, 10);
  ASSERT_EQ(image.channels, 4);
  EXPECT_EQ((Bytes{image.pixels.begin(), image.pixels.begin() + 4}), (Bytes{0, 255, 0, 255}));
}

TEST(Webp, DamagedAndCutOnesAreRefused) {
  const Bytes whole = encode_webp(gradient(64, 64), {.parameters = "p", .job = "j"});
  for (const size_t size : {size_t{12}, size_t{20}, size_t{40}, whole.size() / 2})
    expect_error([&] { decode_image({whole.data(), size}, "cut.webp"); }, Code::bad_file, "cut.webp is a damaged WebP");
  expect_error([&] { decode_image(whole, "large.webp", {.pixels = 64 * 63}); }, Code::bad_file, "claims 64 x 64 pixels");
  expect_error([&] { encode_webp(gradient(16384, 1), {}); }, Code::unsupported, "at most 16383 pixels");
}

TEST(Webp, TheSamePictureHasTheSameBytes) {
  const Metadata metadata{.parameters = "p", .job = "j", .generated = true};
  EXPECT_EQ(encode_webp(gradient(40, 30), metadata), encode_webp(gradient(40, 30), metadata));
}

TEST(Origin, IsSaidInEveryFormatWhereItIsKnown) {
  constexpr const char* kType = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia";
  for (const auto encode : {+[](const Metadata& m) { return encode_png(gradient(8, 8), m); },
                            +[](const Metadata& m) { return encode_jpeg(gradient(8, 8), m); },
                            +[](const Metadata& m) { return encode_webp(gradient(8, 8), m); }}) {
    const Bytes said = encode({.parameters = "p", .job = "j", .generated = true}),
                unsaid = encode({.parameters = "p", .job = "j"});
    EXPECT_THAT(text_of(said), HasSubstr(std::string("Iptc4xmpExt:DigitalSourceType=\"") + kType + "\""));
    EXPECT_THAT(text_of(unsaid), Not(HasSubstr(kType)));
    EXPECT_TRUE(decode_metadata(said, "a").generated);
    EXPECT_FALSE(decode_metadata(unsaid, "a").generated);
    EXPECT_EQ(decode_metadata(said, "a").job, "j");
    EXPECT_THAT(text_of(encode({})),
                Not(testing::AnyOf(HasSubstr("xmp"), HasSubstr("XMP"), HasSubstr("Exif"), HasSubstr("cudream"))));
  }
}

}  // namespace
}  // namespace cudream
