// How the bytes of a weight file are read: from a mapping, by pread, or past the page cache.
//
// Warm and local files are read fastest from a mapping. A single thread that faults pages in one by one is slow on a cold
// file and very slow on remote file systems, where pread with a hint to read ahead is not.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/file.h"
#include "loader/pieces.h"

namespace cudream {

enum class Reading : uint8_t { automatic, mmap, pread, direct };
std::string_view name_of(Reading);
Reading reading_named(std::string_view);  // Error(usage): "auto", "mmap", "pread" or "direct"

class WeightFile {
 public:
  // `map` must outlive this. automatic: pread on remote file systems and for files that are not in the page cache.
  // Throws Error(io | unsupported): direct needs a file system that has O_DIRECT.
  WeightFile(const MappedFile& map, Reading);
  ~WeightFile();
  WeightFile(WeightFile&&) noexcept;
  WeightFile& operator=(WeightFile&&) = delete;
  WeightFile(const WeightFile&) = delete;

  Reading reading() const { return reading_; }
  // May be called by several threads. Throws Error(bad_file) when the file has become shorter, Error(io).
  void read(std::span<std::byte> to, uint64_t offset) const;
  // All before `offset` is done with, and what follows will be read soon.
  void move_on(uint64_t offset);
  // Whose bytes pass through here once, for a digest to be made of them; null: not with direct reads.
  PieceReader* pieces() const { return pieces_.get(); }

 private:
  const MappedFile* map_;
  Reading reading_;
  int fd_ = -1;
  uint64_t done_ = 0, ahead_ = 0;        // bytes from the start
  std::unique_ptr<PieceReader> pieces_;  // of direct reads
};

}  // namespace cudream
