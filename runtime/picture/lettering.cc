// Code points to glyphs, glyphs onto pixels.
#include "runtime/picture/lettering.h"

#include <ft2build.h>
#include FT_FREETYPE_H

#include <algorithm>
#include <string>

#include "core/error.h"
#include "runtime/unicode.h"

extern "C" const char dejavu_sans[], dejavu_sans_end[];

namespace cudream {

struct Lettering::Font {
  explicit Font(int pixels) {
    const bool failed = FT_Init_FreeType(&library) != 0 ||
                        FT_New_Memory_Face(library, reinterpret_cast<const FT_Byte*>(dejavu_sans), dejavu_sans_end - dejavu_sans,
                                           0, &face) != 0 ||
                        FT_Set_Pixel_Sizes(face, 0, static_cast<FT_UInt>(pixels)) != 0;
    invariant(!failed, "the font of {} pixels cannot be opened", pixels);
  }
  ~Font() { FT_Done_FreeType(library); }  // with its faces
  Font(const Font&) = delete;
  Font& operator=(const Font&) = delete;

  // The glyph of a code point, drawn; its place is relative to the pen, which then moves on by advance.x / 64.
  const FT_GlyphSlotRec_& glyph(int32_t code_point) const {
    const auto shown = static_cast<FT_ULong>(code_point < 0x20 ? ' ' : code_point);
    invariant(FT_Load_Char(face, shown, FT_LOAD_RENDER) == 0, "no glyph for U+{:04X}", code_point);
    return *face->glyph;
  }

  FT_Library library = nullptr;
  FT_Face face = nullptr;
};

namespace {

// Black ink over white-ish pixels, as much of it as the glyph's coverage says.
void blend(Image& picture, const FT_Bitmap& glyph, int left, int top) {
  for (int y = 0; y < static_cast<int>(glyph.rows); y++)
    for (int x = 0; x < static_cast<int>(glyph.width); x++) {
      if (top + y < 0 || top + y >= picture.height || left + x < 0 || left + x >= picture.width) continue;
      const int ink = glyph.buffer[y * glyph.pitch + x];
      const auto at = (static_cast<size_t>(top + y) * static_cast<size_t>(picture.width) + static_cast<size_t>(left + x)) * 3;
      for (size_t c = at; c < at + 3; c++) picture.pixels[c] = static_cast<uint8_t>(picture.pixels[c] * (255 - ink) / 255);
    }
}

}  // namespace

Lettering::Lettering(int pixels) : font_(std::make_unique<Font>(pixels)) {}
Lettering::~Lettering() = default;

int Lettering::line_height() const {
  return static_cast<int>(font_->face->size->metrics.height / 64);
}

int Lettering::width_of(std::string_view utf8) {
  int64_t width = 0;
  for (size_t at = 0; at < utf8.size();) {
    const CodePoint c = code_point_at(utf8, at);
    width += font_->glyph(c.value).advance.x;
    at += c.bytes;
  }
  return static_cast<int>(width / 64);
}

void Lettering::draw(Image& picture, int left, int top, int width, std::string_view utf8) {
  std::string text(utf8);
  for (std::string_view kept = utf8; width_of(text) > width && !kept.empty(); text = std::string(kept) + "...")
    kept.remove_suffix(code_point_before(kept, kept.size()).bytes);
  const int base = top + static_cast<int>(font_->face->size->metrics.ascender / 64);
  int64_t pen = 0;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    const FT_GlyphSlotRec_& glyph = font_->glyph(c.value);
    blend(picture, glyph.bitmap, left + static_cast<int>(pen / 64) + glyph.bitmap_left, base - glyph.bitmap_top);
    pen += glyph.advance.x;
    at += c.bytes;
  }
}

}  // namespace cudream
