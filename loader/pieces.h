// A file read in whole pieces, of which the last used are kept: what is asked for in nearly the order of the file, weight by
// weight, is read once, with its digest if that is wanted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "core/background.h"
#include "loader/hash.h"

namespace cudream {

class PieceReader {
 public:
  static constexpr uint64_t kSector = 4096;  // pieces lie on whole sectors, in the file and in memory: direct reads need that

  // Reads a piece that starts at byte `offset` of the file. At least the first `least` bytes; the last piece goes on behind the
  // end of the file.
  using ReadPiece = std::function<void(std::span<std::byte> piece, uint64_t offset, uint64_t least)>;

  // `file_bytes` in all, in pieces of `piece_bytes` (whole sectors), of which `most_kept` stay in memory.
  PieceReader(uint64_t file_bytes, ReadPiece, uint64_t piece_bytes = uint64_t{4} << 20, size_t most_kept = 16);

  uint64_t size() const { return size_; }
  // May be called by several threads; they take turns. What lies in the file must be asked for: see size().
  void read(std::span<std::byte> to, uint64_t offset);

  // From now on, before anything is read: a thread of its own hashes each piece while the next are read. A piece whose turn has
  // not come waits among those kept; when it must leave, what lies before it is read for the digest alone. `between` is called
  // before each such read; what it throws ends the read.
  void hash_along(std::function<void()> between);
  // The digest of the whole file, after hash_along, once. Reads what nobody asked for.
  std::string digest();

 private:
  using Bytes = std::shared_ptr<std::byte>;
  struct Piece {
    uint64_t index = 0;
    Bytes bytes;
  };
  uint64_t bytes_of(uint64_t index) const;
  std::deque<Piece>::iterator find(uint64_t index);
  Bytes from_file(uint64_t index) const;
  Bytes piece(uint64_t index);
  void hash_to(uint64_t end);

  const uint64_t size_, piece_bytes_;
  const size_t most_kept_;
  const ReadPiece read_piece_;
  std::mutex lock_;
  std::deque<Piece> kept_;  // the last used at the end

  // Null, unless the digest is made along: `next_` is the piece whose turn it is.
  std::function<void()> between_;
  uint64_t next_ = 0;
  Sha256 sha_;
  std::unique_ptr<Background> hashing_;  // the last: it uses sha_
};

}  // namespace cudream
