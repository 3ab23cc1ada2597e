// EXIF blocks: the round trip of a comment, both byte orders, and blocks that point outside themselves.
#include "runtime/picture/exif.h"

#include <random>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using namespace std::string_literals;

Bytes bytes_of(const std::string& text) {
  return {text.begin(), text.end()};
}

// A little-endian block whose UserComment is `value`.
Bytes little_endian(const std::string& value) {
  const std::string block =
      "II*\0\x08\0\0\0"s
      "\x01\0"
      "\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0"
      "\0\0\0\0"
      "\x01\0"
      "\x86\x92\x07\0"s +
      static_cast<char>(value.size()) +
      "\0\0\0\x2c\0\0\0"
      "\0\0\0\0"s +
      value;
  return bytes_of(block);
}

TEST(Exif, CommentsComeBack) {
  for (const std::string comment : {"", "plain", "line\nSteps: 1", "h\u00e9 \u4e00\u4e8c \u0100\u0200", "moon \U0001F319 end"})
    EXPECT_EQ(read_exif(write_exif(comment)).comment, comment);
  EXPECT_EQ(read_exif(write_exif("bad \xff byte")).comment, "bad \ufffd byte");
}

TEST(Exif, Utf16OfEitherOrder) {
  EXPECT_EQ(read_exif(little_endian("UNICODE\0a\0 \0h\0\xe9\0"s)).comment, "a h\u00e9");
  EXPECT_EQ(read_exif(little_endian("UNICODE\0\0a\0 \0h\0\xe9"s)).comment, "a h\u00e9");
  EXPECT_EQ(read_exif(little_endian("UNICODE\0\x3c\xd8\x19\xdf!\0"s)).comment, "\U0001F319!");
  EXPECT_EQ(read_exif(little_endian("UNICODE\0\x3c\xd8!\0"s)).comment, "\ufffd!");  // half a pair
  EXPECT_EQ(read_exif(little_endian("UNICODE\0a\0b\0\0\0\0\0"s)).comment, "ab");    // padded
}

TEST(Exif, OtherCharacterSets) {
  EXPECT_EQ(read_exif(little_endian("ASCII\0\0\0hello\0\0"s)).comment, "hello");
  EXPECT_EQ(read_exif(little_endian("\0\0\0\0\0\0\0\0hello"s)).comment, "hello");
  EXPECT_EQ(read_exif(little_endian("ASCII\0\0\0h\xc3\xa9"s)).comment, "h\u00e9");  // UTF-8 all the same
  EXPECT_EQ(read_exif(little_endian("ASCII\0\0\0h\xe9"s)).comment, "h\u00e9");      // Latin-1 all the same
  EXPECT_EQ(read_exif(little_endian("JIS\0\0\0\0\0hello"s)).comment, "");
  EXPECT_EQ(read_exif(little_endian("short"s)).comment, "");
}

TEST(Exif, CutShortAnywhereIsNoComment) {
  const Bytes whole = write_exif("a comment");
  for (size_t size = 0; size < whole.size(); ++size) EXPECT_EQ(read_exif(std::span(whole).first(size)).comment, "") << size;
}

TEST(Exif, DamageNeverFails) {
  const Bytes whole = little_endian("UNICODE\0a\0 \0h\0\xe9\0"s);
  std::mt19937 random(3);
  for (int i = 0; i < 100000; ++i) {
    Bytes damaged = whole;
    for (int n = 0; n < 2; ++n) damaged[random() % whole.size()] = static_cast<uint8_t>(random() % 3 == 0 ? 0xff : random());
    const Exif exif = read_exif(damaged);
    EXPECT_TRUE(exif.orientation >= 1 && exif.orientation <= 8);
    EXPECT_LE(exif.comment.size(), 3 * whole.size());
  }
}

}  // namespace
}  // namespace cudream
