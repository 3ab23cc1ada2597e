// The escape sequences. kitty: "Terminal graphics protocol" of kitty's documentation; iTerm2: "Inline Images Protocol" of its
// documentation.
#include "cli/terminal_picture.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <sixel.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "core/error.h"
#include "runtime/picture/convert.h"

namespace cudream {
namespace {

std::string base64(const std::vector<uint8_t>& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // it ends with a zero
  text.resize(static_cast<size_t>(
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), bytes.data(), static_cast<int>(bytes.size()))));
  return text;
}

// In pieces of 4096 bytes at most. Image 1 takes the place of the one before; the cursor stays, and nothing is answered.
std::string kitty(std::string_view data, Cells cells) {
  constexpr size_t kPiece = 4096;
  std::string text, keys = fmt::format("a=T,f=100,i=1,q=2,C=1,c={},r={},", cells.columns, cells.rows);
  while (!data.empty()) {
    const std::string_view piece = data.substr(0, kPiece);
    data.remove_prefix(piece.size());
    text += fmt::format("\x1b_G{}m={};{}\x1b\\", keys, data.empty() ? 0 : 1, piece);
    keys.clear();
  }
  return text;
}

std::string iterm(std::string_view data, size_t bytes, Cells cells) {
  return fmt::format("\x1b]1337;File=inline=1;size={};width={};height={}:{}\a", bytes, cells.columns, cells.rows, data);
}

// A cell is counted as the VT340 has it, 10 by 20 pixels.
std::string sixel(const Image& picture, Cells cells) {
  Image small = resize(picture, 10 * cells.columns, 20 * cells.rows);
  std::string text;
  const auto append = [](char* data, int size, void* to) {
    static_cast<std::string*>(to)->append(data, static_cast<size_t>(size));
    return size;
  };
  const auto check = [](SIXELSTATUS status) {
    if (SIXEL_FAILED(status)) throw fail(Code::internal, "libsixel: {}", sixel_helper_format_error(status));
  };
  sixel_output_t* output = nullptr;
  sixel_dither_t* dither = nullptr;
  check(sixel_output_new(&output, append, &text, nullptr));
  const std::unique_ptr<sixel_output_t, void (*)(sixel_output_t*)> owned_output(output, sixel_output_unref);
  check(sixel_dither_new(&dither, SIXEL_PALETTE_MAX, nullptr));
  const std::unique_ptr<sixel_dither_t, void (*)(sixel_dither_t*)> owned_dither(dither, sixel_dither_unref);
  check(sixel_dither_initialize(dither, small.pixels.data(), small.width, small.height, SIXEL_PIXELFORMAT_RGB888,
                                SIXEL_LARGE_AUTO, SIXEL_REP_AUTO, SIXEL_QUALITY_AUTO));
  check(sixel_encode(small.pixels.data(), small.width, small.height, 0, dither, output));
  return text;
}

// The upper half of a cell in the color of the character, the lower half in that of its background.
std::string blocks(const Image& picture, Cells cells) {
  const Image small = resize(picture, cells.columns, 2 * cells.rows);
  const auto color = [&](int x, int y) {
    const uint8_t* p = &small.pixels[static_cast<size_t>(y * small.width + x) * 3];
    return fmt::format("2;{};{};{}", p[0], p[1], p[2]);
  };
  std::string text;
  for (int row = 0; row < cells.rows; row++) {
    if (row > 0) text += "\r\n";
    for (int x = 0; x < cells.columns; x++) text += fmt::format("\x1b[38;{};48;{}m▀", color(x, 2 * row), color(x, 2 * row + 1));
    text += "\x1b[0m";
  }
  return text;
}

}  // namespace

Cells cells_of(const Image& picture, Cells most) {
  const double shape = 2.0 * picture.width / picture.height;  // columns to rows
  const double rows = std::min<double>(most.rows, most.columns / shape);
  return {std::max(1, static_cast<int>(std::lround(rows * shape))), std::max(1, static_cast<int>(rows))};
}

std::string terminal_picture(const Image& picture, TerminalPictures how, Cells cells) {
  if (how == TerminalPictures::blocks) return blocks(picture, cells);
  if (how == TerminalPictures::sixel) return sixel(picture, cells);
  const std::vector<uint8_t> png = encode_png(picture, {});
  return how == TerminalPictures::kitty ? kitty(base64(png), cells) : iterm(base64(png), png.size(), cells);
}

}  // namespace cudream
