// What is safe to print.
#include "core/log.h"

#include <gtest/gtest.h>

namespace cudream {
namespace {

TEST(Printable, ControlsAreEscaped) {
  EXPECT_EQ(printable("a\n\033[31m\x7f"), "a\\x0a\\x1b[31m\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            "\\u009b31m");  // C1: the one-byte form of ESC [
  EXPECT_EQ(printable("\xe2\x80\xae"
                      "gnp.exe"),
            "\\u202egnp.exe");  // right-to-left override
  EXPECT_EQ(printable("\xd8\x9c\xe2\x81\xa6\xe2\x80\xa8"), "\\u061c\\u2066\\u2028");
}

TEST(Printable, BytesThatAreNotUtf8AreEscaped) {
  EXPECT_EQ(printable("caf\xe9"), "caf\\xe9");
  EXPECT_EQ(printable("\xc0\x8a"), "\\xc0\\x8a");                    // an overlong newline
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // a surrogate
  EXPECT_EQ(printable("\xe2\x82"), "\\xe2\\x82");                    // cut short
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
}

TEST(Printable, OtherTextIsAsItIs) {
  for (const std::string text : {"a red house", "Füchse, 狐, 🦊, שועל", ""}) EXPECT_EQ(printable(text), text);
}

}  // namespace
}  // namespace cudream
