// Pictures on the way: as files, and as terminals draw them.
#include "cli/preview.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::StartsWith;

Image chessboard(int side) {
  Image image{side, side, 3, {}};
  for (int i = 0; i < side * side; i++)
    for (int c = 0; c < 3; c++) image.pixels.push_back((i % side + i / side) % 2 == 0 ? 255 : 0);
  return image;
}

TEST(TerminalPicture, TakesAsManyCellsAsItsShapeAllows) {
  const auto cells = [](int width, int height, Cells most) {
    const Cells c = cells_of({width, height, 3, {}}, most);
    return std::pair(c.columns, c.rows);
  };
  EXPECT_EQ(cells(64, 64, {80, 20}), std::pair(40, 20));
  EXPECT_EQ(cells(512, 128, {80, 20}), std::pair(80, 10));
  EXPECT_EQ(cells(64, 640, {80, 20}), std::pair(4, 20));
  EXPECT_EQ(cells(640, 1, {80, 20}).second, 1);
}

TEST(TerminalPicture, HalfBlocksHoldTwoPixelsACell) {
  EXPECT_EQ(terminal_picture(chessboard(2), TerminalPictures::blocks, {2, 1}),
            "\x1b[38;2;255;255;255;48;2;0;0;0m▀\x1b[38;2;0;0;0;48;2;255;255;255m▀\x1b[0m");
}

// What was sent, without the protocol around it.
std::string payload(std::string text) {
  std::string data;
  while (!text.empty()) {
    const size_t begin = text.find(';') + 1, end = text.find("\x1b\\");
    EXPECT_THAT(text, StartsWith("\x1b_G"));
    EXPECT_LE(end - begin, 4096u);
    data += text.substr(begin, end - begin);
    text.erase(0, end + 2);
  }
  return data;
}

TEST(TerminalPicture, KittyGetsAPngInPieces) {
  Image noise{64, 64, 3, {}};
  for (uint32_t i = 0, x = 1; i < 64 * 64 * 3; i++)
    noise.pixels.push_back(static_cast<uint8_t>((x = x * 1664525 + 1013904223) >> 24));
  const std::string text = terminal_picture(noise, TerminalPictures::kitty, {40, 20});
  EXPECT_THAT(text, StartsWith("\x1b_Ga=T,f=100,i=1,q=2,C=1,c=40,r=20,m=1;"));
  EXPECT_THAT(text, HasSubstr("\x1b_Gm=0;"));
  const std::string data = payload(text);
  EXPECT_THAT(data, StartsWith("iVBORw0KGgo"));  // the signature of a PNG
  const std::string iterm = terminal_picture(noise, TerminalPictures::iterm, {40, 20});
  EXPECT_EQ(iterm, "\x1b]1337;File=inline=1;size=" + std::to_string(encode_png(noise, {}).size()) +
                       ";width=40;height=20:" + data + "\a");
}

TEST(TerminalPicture, SixelsComeFromTheLibrary) {
  const std::string text = terminal_picture(chessboard(2), TerminalPictures::sixel, {2, 1});
  EXPECT_THAT(text, StartsWith("\x1bP"));
  EXPECT_THAT(text, testing::EndsWith("\x1b\\"));
  EXPECT_THAT(text, HasSubstr("\"1;1;20;20"));  // the size in pixels
}

TEST(Preview, IsAFileUntilThePictureIsThere) {
  TemporaryFolder folder;
  Progress progress({.style = ProgressStyle::quiet, .clock = [] { return 0.0; }});
  const auto file_of = [&](const std::string& output, const std::string& name) {
    {
      Preview preview({.every = 1}, folder.path() / output, Exists::refuse, progress);
      preview.show(chessboard(8));
      preview.show(chessboard(16));
      EXPECT_EQ(read_image(folder.path() / name).pixels, chessboard(16).pixels);
      EXPECT_TRUE(read_metadata(folder.path() / name).generated);
    }
    EXPECT_FALSE(fs::exists(folder.path() / name)) << name;
  };
  file_of("fox.png", "fox.preview.png");
  file_of("", "preview.png");
  file_of("{index}.png", "preview.png");
}

TEST(Preview, LeavesWhatIsNotItsOwn) {
  TemporaryFolder folder;
  Progress progress({.style = ProgressStyle::quiet, .clock = [] { return 0.0; }});
  const fs::path output = folder.path() / "other.png", file = folder.write("other.preview.png", "not ours");
  { const Preview silent({}, output, Exists::refuse, progress); }
  EXPECT_TRUE(fs::exists(file));
  EXPECT_THROW(Preview({.every = 1}, output, Exists::refuse, progress), Error);
  { const Preview replaces({.every = 1}, output, Exists::replace, progress); }
  EXPECT_TRUE(fs::exists(file));  // nothing was shown
}

// What was seen last of a run that ended early is all that there is of it.
TEST(Preview, StaysWhereTheRunEndedEarly) {
  TemporaryFolder folder;
  Progress progress({.style = ProgressStyle::quiet, .clock = [] { return 0.0; }});
  EXPECT_THROW(
      {
        Preview preview({.every = 1}, folder.path() / "fox.png", Exists::refuse, progress);
        preview.show(chessboard(8));
        throw fail(Code::cancelled, "cancelled");
      },
      Error);
  EXPECT_TRUE(fs::exists(folder.path() / "fox.preview.png"));
}

TEST(Preview, OnATerminalOnly) {
  Progress progress({.style = ProgressStyle::lines, .clock = [] { return 0.0; }});
  EXPECT_THROW(Preview({.every = 1, .as = "kitty"}, "x.png", Exists::refuse, progress), Error);
  EXPECT_NO_THROW(Preview({.every = 0, .as = "kitty"}, "x.png", Exists::refuse, progress));
}

}  // namespace
}  // namespace cudream
