// The entries of a ZIP archive that are stored as they are: where in the file their bytes lie. What PyTorch writes, and no more:
// nothing compressed, encrypted, linked, doubled or outside, and nothing before or after the archive (APPNOTE.TXT 6.3.10).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>

namespace cudream {

// A file, or what stands for one.
struct ByteSource {
  std::string name;  // for messages
  uint64_t size = 0;
  std::function<void(std::span<std::byte> to, uint64_t offset)> read;  // within the size
};

struct ByteRange {
  uint64_t offset = 0, bytes = 0;
};

// Throws Error(bad_file) for what is not such an archive, naming the entry and the rule.
std::map<std::string, ByteRange> stored_entries(const ByteSource& file);

}  // namespace cudream
