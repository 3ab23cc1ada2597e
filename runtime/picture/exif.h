// The two things of an EXIF block (a TIFF structure in memory; CIPA DC-008-2019, section 4.6) that pictures here need.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace cudream {

struct Exif {
  int orientation = 1;  // 1 to 8: where the first row and column lie when the picture is upright
  std::string comment;  // UserComment, UTF-8
};

// `tiff` begins with "II*\0" or "MM\0*". Never fails: what is damaged or points outside the block counts as not there.
Exif read_exif(std::span<const uint8_t> tiff);

// A block that holds UserComment alone, in UTF-16 and of the byte order "MM": then both readings of the specification, the
// block's own order and the big-endian one of piexif (which A1111 uses), see the same text.
std::vector<uint8_t> write_exif(std::string_view comment);

}  // namespace cudream
