// A contact sheet: the pictures of a run side by side.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/file.h"

namespace cudream {

struct SheetCell {
  std::filesystem::path picture;
  std::vector<std::string> label;  // lines below it
};

// Reads the pictures and writes them as one, in rows of as many as make the sheet about square; each keeps its size, in
// cells as large as the largest. Throws as read_image and write_image do.
void write_sheet(const std::filesystem::path& sheet, const std::vector<SheetCell>& cells, Exists exists);

}  // namespace cudream
