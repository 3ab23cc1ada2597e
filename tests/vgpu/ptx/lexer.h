// PTX text to tokens. A word keeps its dots ("ld.global.v4.f32", "%tid.x", ".reg") and its "::" ("L2::128B").
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace cudream::vgpu::ptx {

struct Token {
  enum class Kind : uint8_t { word, number, string, punctuation, end };
  Kind kind = Kind::end;
  std::string_view text;  // into the source; a string without its quotes
  uint32_t line = 0;      // from 1

  bool is(std::string_view other) const { return text == other && kind != Kind::string && kind != Kind::end; }
};

// The last token is of kind end. Throws Error (bad_file) with the line at a character that PTX does not have.
std::vector<Token> tokenize(std::string_view source);

}  // namespace cudream::vgpu::ptx
