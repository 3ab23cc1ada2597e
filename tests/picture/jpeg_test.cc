// JPEG: decoding of grey, colour and progressive files, orientation, damage, and files that lie.
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>

// jpeglib.h needs <cstdio> before it.
#include <jpeglib.h>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using testing::Each;
using testing::Le;

// A JPEG that libjpeg writes after `set` has changed its defaults.
Bytes make_jpeg(const Image& image, J_COLOR_SPACE space, const std::function<void(jpeg_compress_struct&)>& set = {}) {
  jpeg_compress_struct jpeg{};
  jpeg_error_mgr errors{};
  jpeg.err = jpeg_std_error(&errors);
  jpeg_create_compress(&jpeg);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&jpeg, &buffer, &size);
  jpeg.image_width = static_cast<JDIMENSION>(image.width);
  jpeg.image_height = static_cast<JDIMENSION>(image.height);
  jpeg.input_components = image.channels;
  jpeg.in_color_space = space;
  jpeg_set_defaults(&jpeg);
  jpeg_set_quality(&jpeg, 95, TRUE);
  if (set) set(jpeg);
  jpeg_start_compress(&jpeg, TRUE);
  while (jpeg.next_scanline < jpeg.image_height) {
    auto* row = const_cast<JSAMPROW>(image.pixels.data()) +
                static_cast<size_t>(jpeg.next_scanline) * static_cast<size_t>(image.width * image.channels);
    jpeg_write_scanlines(&jpeg, &row, 1);
  }
  jpeg_finish_compress(&jpeg);
  jpeg_destroy_compress(&jpeg);
  Bytes bytes(buffer, buffer + size);
  std::free(buffer);
  return bytes;
}

std::vector<int> differences(const Image& a, const Image& b) {
  EXPECT_EQ(a.width, b.width);
  EXPECT_EQ(a.height, b.height);
  std::vector<int> out;
  for (size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i) out.push_back(std::abs(a.pixels[i] - b.pixels[i]));
  return out;
}

// `payload` as an APP1 segment, put first.
Bytes with_app1(const Bytes& jpeg, const Bytes& payload) {
  Bytes bytes = {
      0xff, 0xd8, 0xff, 0xe1, static_cast<uint8_t>((payload.size() + 2) >> 8), static_cast<uint8_t>(payload.size() + 2)};
  bytes.insert(bytes.end(), payload.begin(), payload.end());
  bytes.insert(bytes.end(), jpeg.begin() + 2, jpeg.end());
  return bytes;
}

Bytes orientation_block(int orientation) {
  return {'E', 'x', 'i', 'f',  0,    0, 'M', 'M', 0, 42, 0, 0, 0,
          8,   0,   1,   0x01, 0x12, 0, 3,   0,   0, 0,  1, 0, static_cast<uint8_t>(orientation),
          0,   0,   0,   0,    0,    0};
}

TEST(Jpeg, RoundTripIsClose) {
  for (const auto& [w, h] : {std::pair{1, 1}, {17, 9}, {64, 48}, {200, 3}}) {
    const Image image = gradient(w, h);
    EXPECT_THAT(differences(decode_image(encode_jpeg(image, {}), "a.jpg"), image), Each(Le(12))) << w << " x " << h;
  }
  EXPECT_EQ(encode_jpeg(gradient(64, 48), {}), encode_jpeg(gradient(64, 48), {}));
  EXPECT_LT(encode_jpeg(gradient(64, 48), {}, 30).size(), encode_jpeg(gradient(64, 48), {}, 95).size());
}

TEST(Jpeg, GreyBecomesRgb) {
  Image grey{8, 8, 1, Bytes(64, 77)};
  const Image image = decode_image(make_jpeg(grey, JCS_GRAYSCALE), "grey.jpg");
  EXPECT_EQ(image.channels, 3);
  EXPECT_THAT(image.pixels, Each(77));
}

TEST(Jpeg, ProgressiveIsRead) {
  const Image image = gradient(64, 48);
  const Bytes bytes = make_jpeg(image, JCS_RGB, [](jpeg_compress_struct& jpeg) { jpeg_simple_progression(&jpeg); });
  EXPECT_THAT(differences(decode_image(bytes, "p.jpg"), image), Each(Le(12)));
  const Bytes large = make_jpeg(gradient(512, 512), JCS_RGB, [](jpeg_compress_struct& jpeg) { jpeg_simple_progression(&jpeg); });
  expect_error([&] { decode_image(large, "p.jpg", {.decoder_bytes = 100'000}); }, Code::bad_file, "p.jpg");
}

TEST(Jpeg, ManyScansAreRefused) {
  std::vector<jpeg_scan_info> scans = {{3, {0, 1, 2}, 0, 0, 0, 0}};
  for (int component = 0; component < 3; ++component)
    for (int coefficient = 1; coefficient < 64; ++coefficient) scans.push_back({1, {component}, coefficient, coefficient, 0, 0});
  const Bytes bytes = make_jpeg(gradient(16, 16), JCS_RGB, [&](jpeg_compress_struct& jpeg) {
    jpeg.scan_info = scans.data();
    jpeg.num_scans = static_cast<int>(scans.size());
  });
  expect_error([&] { decode_image(bytes, "scans.jpg"); }, Code::bad_file, "more than 100 scans");
}

TEST(Jpeg, CmykIsRefused) {
  const Image ink{8, 8, 4, Bytes(256, 100)};
  expect_error([&] { decode_image(make_jpeg(ink, JCS_CMYK), "ink.jpg"); }, Code::unsupported,
               "ink.jpg is a JPEG of 4 colour components");
}

// The stored pixel (row, column) shows the upright pixel that the standard's table gives: the row counts from the side named
// first, the column from the one named second.
TEST(Jpeg, OrientationIsApplied) {
  const Image upright = gradient(24, 16);
  const auto place = [&](int orientation, int r, int c) -> std::pair<int, int> {
    const int right = upright.width - 1, bottom = upright.height - 1;
    switch (orientation) {
      case 1: return {c, r};                   // top, left
      case 2: return {right - c, r};           // top, right
      case 3: return {right - c, bottom - r};  // bottom, right
      case 4: return {c, bottom - r};          // bottom, left
      case 5: return {r, c};                   // left, top
      case 6: return {right - r, c};           // right, top
      case 7: return {right - r, bottom - c};  // right, bottom
      default: return {r, bottom - c};         // left, bottom
    }
  };
  for (int orientation = 1; orientation <= 8; ++orientation) {
    Image stored{orientation < 5 ? 24 : 16, orientation < 5 ? 16 : 24, 3, {}};
    for (int r = 0; r < stored.height; ++r)
      for (int c = 0; c < stored.width; ++c) {
        const auto [x, y] = place(orientation, r, c);
        for (int k = 0; k < 3; ++k) stored.pixels.push_back(upright.pixels[(y * upright.width + x) * 3 + k]);
      }
    const Bytes file = with_app1(encode_jpeg(stored, {}), orientation_block(orientation));
    EXPECT_THAT(differences(decode_image(file, "turned.jpg"), upright), Each(Le(12))) << orientation;
  }
}

TEST(Jpeg, CutShortAnywhereIsAnError) {
  const Bytes whole = encode_jpeg(gradient(24, 16), {.parameters = "x", .job = "{}"});
  for (size_t size = 0; size < whole.size(); ++size)
    expect_error([&] { decode_image(std::span(whole).first(size), "cut.jpg"); }, Code::bad_file, "cut.jpg");
}

TEST(Jpeg, ChangedBytesAreAnErrorOrAPicture) {
  const Bytes whole = encode_jpeg(gradient(24, 16), {.parameters = "x", .job = "{}"});
  std::mt19937 random(7);
  for (int i = 0; i < 5000; ++i) {
    Bytes damaged = whole;
    for (int n = 0; n < 3; ++n) damaged[random() % whole.size()] = static_cast<uint8_t>(random());
    try {
      const Image image = decode_image(damaged, "damaged.jpg", {.pixels = 1 << 20});
      EXPECT_EQ(image.pixels.size(), static_cast<size_t>(image.width) * image.height * 3);
    } catch (const Error& error) {
      EXPECT_NE(error.code(), Code::internal) << error.what();
    }
  }
}

TEST(Jpeg, HugeClaimsAreRefused) {
  Bytes bytes = encode_jpeg(gradient(16, 16), {});
  const Bytes frame = {0xff, 0xc0};
  auto at = std::search(bytes.begin(), bytes.end(), frame.begin(), frame.end());
  ASSERT_NE(at, bytes.end());
  std::fill(at + 5, at + 9, uint8_t{0xfd});
  expect_error([&] { decode_image(bytes, "bomb.jpg"); }, Code::bad_file, "bomb.jpg claims 65021 x 65021 pixels");
}

TEST(Jpeg, TextsThatDoNotFitAreRefused) {
  const std::string longest(32000, 'x'), too_long(33000, 'x'), job(70000, 'x');
  EXPECT_EQ(decode_metadata(encode_jpeg(gradient(8, 8), {.parameters = longest}), "a.jpg").parameters, longest);
  expect_error([&] { encode_jpeg(gradient(8, 8), {.parameters = too_long}); }, Code::unsupported, "write a PNG instead");
  expect_error([&] { encode_jpeg(gradient(8, 8), {.job = job}); }, Code::unsupported, "write a PNG instead");
}

}  // namespace
}  // namespace cudream
