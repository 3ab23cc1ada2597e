// Text in pictures: lines of DejaVu Sans, which is part of the program, drawn by FreeType.
#pragma once

#include <memory>
#include <string_view>

#include "runtime/picture/image.h"

namespace cudream {

class Lettering {
 public:
  explicit Lettering(int pixels);  // the size of the letters
  ~Lettering();

  int line_height() const;
  // Draws one line in black over an RGB picture, its upper left corner at (left, top), in at most `width` pixels: what is longer
  // ends in "...". Control characters read as blanks; what the font lacks as a box.
  void draw(Image&, int left, int top, int width, std::string_view utf8);

 private:
  struct Font;
  int width_of(std::string_view utf8);
  std::unique_ptr<Font> font_;
};

}  // namespace cudream
