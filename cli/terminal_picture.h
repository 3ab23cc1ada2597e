// Pictures as text that terminals show.
#pragma once

#include <string>
#include <string_view>

#include "runtime/picture/image.h"

namespace cudream {

// Ways to show a picture: kitty's graphics protocol, iTerm2's inline images (also WezTerm, mintty), sixels (xterm -ti vt340,
// foot, mlterm), and half blocks in 24-bit color, which nearly every terminal knows.
enum class TerminalPictures { kitty, iterm, sixel, blocks };

struct Cells {
  int columns = 0, rows = 0;
};
// The largest that a picture of this shape takes within `most`; a cell is twice as high as wide.
Cells cells_of(const Image&, Cells most);

// What draws the picture from the cursor on, over `cells`; where the cursor is afterwards depends on the terminal.
std::string terminal_picture(const Image&, TerminalPictures, Cells cells);

}  // namespace cudream
