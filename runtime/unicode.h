// The few facts about Unicode that prompts and texts of pictures need. Any bytes are accepted: what is not UTF-8 reads as U+FFFD,
// byte by byte.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace cudream {

struct CodePoint {
  int32_t value = 0;
  size_t bytes = 0;  // that it takes in the text
};

CodePoint code_point_at(std::string_view text, size_t at);      // `at` is inside the text
CodePoint code_point_before(std::string_view text, size_t at);  // `at` is not 0
bool is_utf8(std::string_view text);
void append_utf8(std::string& text, int32_t code_point);

// The text as it is when it is UTF-8, else taken for Latin-1. PNG's tEXt is Latin-1 by the specification and EXIF has an ASCII
// kind, but some programs put UTF-8 into both. Ours write ASCII there and nothing else.
std::string utf8_of(std::string text);

bool is_space(int32_t code_point);   // the White_Space property
bool is_letter(int32_t code_point);  // general category L
bool is_number(int32_t code_point);  // general category N

// Canonical composition (NFC) of valid UTF-8, then each code point in lower case by itself.
std::string to_lower_nfc(std::string_view text);

}  // namespace cudream
