// PNG: every colour type and depth, round trips, and files that are damaged, cut short or lie.
#include <png.h>
#include <sys/resource.h>
#include <zlib.h>

#include <functional>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using namespace std::string_literals;

struct Kind {
  int color, depth, interlace = PNG_INTERLACE_NONE;
};

// Samples of 16 bits, packed to `depth`, written by libpng. `extra` may set palettes and transparency.
Bytes make_png(int width, int height, Kind kind, const std::function<unsigned(int x, int y, int c)>& sample,
               const std::function<void(png_structp, png_infop)>& extra = {}) {
  Bytes bytes;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  const auto give = [](png_structp p, png_bytep data, size_t size) {
    auto& to = *static_cast<Bytes*>(png_get_io_ptr(p));
    to.insert(to.end(), data, data + size);
  };
  png_set_write_fn(png, &bytes, give, nullptr);
  png_set_IHDR(png, info, width, height, kind.depth, kind.color, kind.interlace, PNG_COMPRESSION_TYPE_BASE, PNG_FILTER_TYPE_BASE);
  if (extra) extra(png, info);
  png_write_info(png, info);
  const int channels = png_get_channels(png, info);
  std::vector<Bytes> rows(height, Bytes(png_get_rowbytes(png, info)));
  std::vector<png_bytep> pointers;
  for (int y = 0; y < height; ++y) {
    for (int i = 0; i < width * channels; ++i) {
      const unsigned value = sample(i / channels, y, i % channels);
      Bytes& row = rows[y];
      if (kind.depth == 16) {
        row[2 * i] = static_cast<uint8_t>(value >> 8);
        row[2 * i + 1] = static_cast<uint8_t>(value);
      } else {
        const int bit = i * kind.depth;
        row[bit / 8] = static_cast<uint8_t>(row[bit / 8] | value << (8 - kind.depth - bit % 8));
      }
    }
    pointers.push_back(rows[y].data());
  }
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return bytes;
}

std::string big_endian(size_t v) {
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(v >> shift);
  return out;
}

uint32_t checksum(std::string_view data) {
  return static_cast<uint32_t>(crc32(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<unsigned>(data.size())));
}

// A chunk with its checksum, right for what it holds.
std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(data.size()) + type + data + big_endian(checksum(type + data));
}

// `extra` put after the signature and IHDR.
Bytes with_chunk(const Bytes& png, const std::string& extra) {
  std::string bytes(png.begin(), png.end());
  return bytes_of(bytes.insert(33, extra));
}

Bytes header_only(uint32_t width, uint32_t height) {
  const std::string ihdr = big_endian(width) + big_endian(height) + "\x08\x06\0\0\0"s;
  return bytes_of("\x89PNG\r\n\x1a\n" + chunk("IHDR", ihdr) + chunk("IDAT", "\x78\x01") + chunk("IEND", ""));
}

int64_t peak_kib() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

TEST(Png, RoundTripKeepsEveryPixel) {
  for (const int channels : {3, 4})
    for (const auto& [w, h] : {std::pair{1, 1}, {7, 3}, {64, 48}, {300, 1}, {1, 300}}) {
      const Image image = gradient(w, h, channels);
      EXPECT_EQ(decode_image(encode_png(image, {}), "a.png"), image) << w << " x " << h << " x " << channels;
    }
}

TEST(Png, SamePixelsGiveTheSameBytes) {
  const Bytes bytes = encode_png(gradient(96, 64), {.parameters = "a\nSteps: 1", .job = "{}"});
  EXPECT_EQ(bytes, encode_png(gradient(96, 64), {.parameters = "a\nSteps: 1", .job = "{}"}));
  // The choice of level, strategy and filter is part of the format: changing it changes every file ever hashed.
  EXPECT_EQ(checksum({reinterpret_cast<const char*>(bytes.data()), bytes.size()}), 4200729189u);
}

TEST(Png, GreyOfEveryDepthBecomesRgb) {
  for (const int interlace : {PNG_INTERLACE_NONE, PNG_INTERLACE_ADAM7})
    for (const int depth : {1, 2, 4, 8, 16}) {
      const unsigned top = (1u << depth) - 1;
      const auto sample = [&](int x, int y, int) {
        return (static_cast<unsigned>(x) * 2477u + static_cast<unsigned>(y) * 31u) % (top + 1);
      };
      const Image image = decode_image(make_png(19, 11, {PNG_COLOR_TYPE_GRAY, depth, interlace}, sample), "grey.png");
      ASSERT_EQ(image.channels, 3);
      for (int y = 0; y < 11; ++y)
        for (int x = 0; x < 19; ++x)
          for (int c = 0; c < 3; ++c)
            EXPECT_EQ(image.pixels[(y * 19 + x) * 3 + c], (sample(x, y, 0) * 255 + top / 2) / top) << "depth " << depth;
    }
}

TEST(Png, SixteenBitColourIsRounded) {
  for (const int color : {PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGBA}) {
    const auto sample = [](int x, int y, int c) { return static_cast<unsigned>(x * 4001 + y * 977 + c * 12345) % 65536u; };
    const Image image = decode_image(make_png(17, 9, {color, 16}, sample), "deep.png");
    const int channels = color == PNG_COLOR_TYPE_RGBA ? 4 : 3;
    ASSERT_EQ(image.channels, channels);
    for (int i = 0; i < 17 * 9 * channels; ++i) {
      const int at = i / channels;
      EXPECT_EQ(image.pixels[i], (sample(at % 17, at / 17, i % channels) * 255 + 32767) / 65535);
    }
  }
}

TEST(Png, GreyWithAlphaBecomesRgba) {
  const auto sample = [](int x, int, int c) { return c == 0 ? static_cast<unsigned>(x) : 200u; };
  const Image image = decode_image(make_png(4, 1, {PNG_COLOR_TYPE_GRAY_ALPHA, 8}, sample), "ga.png");
  ASSERT_EQ(image.channels, 4);
  EXPECT_THAT(std::vector(image.pixels.begin() + 8, image.pixels.begin() + 12), testing::ElementsAre(2, 2, 2, 200));
}

TEST(Png, PaletteAndItsTransparency) {
  const png_color palette[] = {{10, 20, 30}, {40, 50, 60}, {70, 80, 90}};
  const auto sample = [](int x, int, int) { return static_cast<unsigned>(x % 3); };
  const auto opaque = make_png(3, 1, {PNG_COLOR_TYPE_PALETTE, 2}, sample,
                               [&](png_structp png, png_infop info) { png_set_PLTE(png, info, palette, 3); });
  EXPECT_THAT(decode_image(opaque, "p.png").pixels, testing::ElementsAre(10, 20, 30, 40, 50, 60, 70, 80, 90));
  const auto clear = make_png(3, 1, {PNG_COLOR_TYPE_PALETTE, 8}, sample, [&](png_structp png, png_infop info) {
    const png_byte alpha[] = {0, 128};
    png_set_PLTE(png, info, palette, 3);
    png_set_tRNS(png, info, alpha, 2, nullptr);
  });
  EXPECT_THAT(decode_image(clear, "p.png").pixels, testing::ElementsAre(10, 20, 30, 0, 40, 50, 60, 128, 70, 80, 90, 255));
}

TEST(Png, GammaDoesNotMoveValues) {
  const auto sample = [](int x, int, int) { return static_cast<unsigned>(x * 60); };
  const auto png =
      make_png(4, 1, {PNG_COLOR_TYPE_RGB, 8}, sample, [](png_structp p, png_infop info) { png_set_gAMA(p, info, 1.0); });
  EXPECT_THAT(decode_image(png, "linear.png").pixels, testing::ElementsAre(0, 0, 0, 60, 60, 60, 120, 120, 120, 180, 180, 180));
}

TEST(Png, CutShortAnywhereIsAnError) {
  const Bytes whole = encode_png(gradient(16, 16), {.parameters = "x"});
  for (size_t size = 0; size < whole.size(); ++size)
    expect_error([&] { decode_image(std::span(whole).first(size), "cut.png"); }, Code::bad_file, "cut.png");
}

TEST(Png, AnyChangedByteIsAnError) {
  const Bytes whole = encode_png(gradient(16, 16), {.parameters = "x"});
  for (size_t i = 0; i < whole.size(); ++i) {
    Bytes damaged = whole;
    damaged[i] ^= 0x10;
    EXPECT_THROW(decode_image(damaged, "damaged.png"), Error) << "byte " << i;
  }
}

TEST(Png, ChecksumErrorIsNamed) {
  Bytes damaged = encode_png(gradient(16, 16), {});
  damaged[damaged.size() - 20] ^= 1;
  expect_error([&] { decode_image(damaged, "crc.png"); }, Code::bad_file, "crc.png is a damaged PNG");
}

TEST(Png, HugeClaimsTakeNoMemory) {
  const int64_t before = peak_kib();
  const std::pair<uint32_t, uint32_t> sizes[] = {{0x7fffffff, 0x7fffffff}, {65535, 65535}, {65536, 1}, {1, 70000}, {8193, 8193}};
  for (const auto& size : sizes)
    expect_error([&] { decode_image(header_only(size.first, size.second), "bomb.png"); }, Code::bad_file, "bomb.png claims");
  expect_error([&] { decode_image(header_only(8000, 8000), "bomb.png"); }, Code::bad_file, "cannot come from");
  expect_error([&] { decode_image(header_only(0, 5), "bomb.png"); }, Code::bad_file, "bomb.png");
  EXPECT_LT(peak_kib() - before, 8 * 1024);
}

TEST(Png, CompressedTextBombIsNotUnpacked) {
  std::string packed(1 << 20, ' '), text(64 << 20, 'A');
  uLongf size = packed.size();
  ASSERT_EQ(compress(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<Bytef*>(text.data()), text.size()), Z_OK);
  packed.resize(size);
  const Bytes bomb = with_chunk(encode_png(gradient(8, 8), {}), chunk("zTXt", "parameters\0\0"s + packed));
  const int64_t before = peak_kib();
  EXPECT_EQ(decode_image(bomb, "text.png"), gradient(8, 8));
  EXPECT_EQ(decode_metadata(bomb, "text.png").parameters, "");
  EXPECT_LT(peak_kib() - before, 16 * 1024);
}

TEST(Png, UnknownAndColourChunksAreSkipped) {
  const Bytes plain = encode_png(gradient(8, 8), {});
  for (const auto& extra : {chunk("iCCP", "x\0\0\1\2\3"s), chunk("abCd", std::string(1000, 'x')), chunk("gAMA", "\0\0\0\0"s)})
    EXPECT_EQ(decode_image(with_chunk(plain, extra), "extra.png"), gradient(8, 8));
  expect_error([&] { decode_image(with_chunk(plain, chunk("ABCD", "x")), "critical.png"); }, Code::bad_file, "critical.png");
}

TEST(Image, OtherKindsAreNamed) {
  const std::tuple<std::string, Code, std::string> cases[] = {
      {"GIF89a...."s, Code::unsupported, "is a GIF picture; PNG, JPEG and WebP are read"},
      {"\0\0\0\x1c"
       "ftypavif"s,
       Code::unsupported, "is a AVIF picture"},
      {"II*\0........"s, Code::unsupported, "is a TIFF picture"},
      {"<!DOCTYPE html>"s, Code::bad_file, "is not a picture"},
      {""s, Code::bad_file, "is empty"}};
  for (const auto& [content, code, part] : cases) {
    const Bytes bytes(content.begin(), content.end());
    expect_error([&] { decode_image(bytes, "some.png"); }, code, "some.png " + part);
    expect_error([&] { decode_metadata(bytes, "some.png"); }, code, "some.png " + part);
  }
}

TEST(Image, FilesAreFoundAndLimited) {
  TempFolder folder;
  expect_error([&] { read_image(folder / "none.png"); }, Code::not_found, "none.png");
  expect_error([&] { read_image(folder.path()); }, Code::bad_file, "is not a regular file");
  expect_error([&] { read_image("http://example.org/a.png"); }, Code::not_found, "http:");  // a name like any other
  write_image(folder / "a.png", gradient(8, 8), {}, Exists::refuse);
  EXPECT_EQ(read_image(folder / "a.png"), gradient(8, 8));
  expect_error([&] { read_image(folder / "a.png", {.pixels = 63}); }, Code::bad_file, "claims 8 x 8 pixels");
  expect_error([&] { read_image(folder / "a.png", {.file_bytes = 20}); }, Code::bad_file, "MiB");
}

}  // namespace
}  // namespace cudream
