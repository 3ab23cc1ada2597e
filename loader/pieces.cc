// Keeping and hashing pieces.
#include "loader/pieces.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/error.h"

namespace cudream {
namespace {

constexpr size_t kMostUnhashed = 2;  // pieces that wait for the thread that hashes, before reading waits for it

}  // namespace

PieceReader::PieceReader(uint64_t file_bytes, ReadPiece read_piece, uint64_t piece_bytes, size_t most_kept)
    : size_(file_bytes), piece_bytes_(piece_bytes), most_kept_(most_kept), read_piece_(std::move(read_piece)) {
  invariant(piece_bytes > 0 && piece_bytes % kSector == 0 && most_kept > 0, "pieces of {} bytes, {} kept", piece_bytes,
            most_kept);
}

void PieceReader::read(std::span<std::byte> to, uint64_t offset) {
  invariant(offset <= size_ && to.size() <= size_ - offset, "read past the end");
  const std::scoped_lock hold(lock_);
  while (!to.empty()) {
    const uint64_t skip = offset % piece_bytes_, bytes = std::min<uint64_t>(to.size(), piece_bytes_ - skip);
    std::copy_n(piece(offset / piece_bytes_).get() + skip, bytes, to.data());
    to = to.subspan(bytes);
    offset += bytes;
  }
}

void PieceReader::hash_along(std::function<void()> between) {
  between_ = std::move(between);
  hashing_ = std::make_unique<Background>(kMostUnhashed);
}

std::string PieceReader::digest() {
  const std::scoped_lock hold(lock_);
  hash_to((size_ + piece_bytes_ - 1) / piece_bytes_);
  hashing_->finish();
  return sha_.hex();
}

uint64_t PieceReader::bytes_of(uint64_t index) const {
  return std::min(piece_bytes_, size_ - index * piece_bytes_);
}

std::deque<PieceReader::Piece>::iterator PieceReader::find(uint64_t index) {
  return std::ranges::find(kept_, index, &Piece::index);
}

PieceReader::Bytes PieceReader::from_file(uint64_t index) const {
  Bytes bytes(static_cast<std::byte*>(std::aligned_alloc(kSector, piece_bytes_)), &std::free);
  if (bytes == nullptr) throw fail(Code::out_of_memory, "no memory to read weights: {} bytes", piece_bytes_);
  read_piece_({bytes.get(), piece_bytes_}, index * piece_bytes_, bytes_of(index));
  return bytes;
}

PieceReader::Bytes PieceReader::piece(uint64_t index) {
  if (const auto at = find(index); at != kept_.end()) {
    std::rotate(at, at + 1, kept_.end());
    return kept_.back().bytes;
  }
  Bytes bytes = from_file(index);
  kept_.push_back({index, bytes});
  const bool full = kept_.size() > most_kept_;
  if (hashing_) hash_to(full ? kept_.front().index + 1 : 0);
  if (full) kept_.pop_front();
  return bytes;
}

// Hashes the pieces before `end`, and those behind them that are kept already.
void PieceReader::hash_to(uint64_t end) {
  while (true) {
    const auto at = find(next_);
    if (at == kept_.end() && next_ >= end) return;
    if (at == kept_.end()) between_();
    const Bytes bytes = at != kept_.end() ? at->bytes : from_file(next_);
    hashing_->add([this, bytes, size = bytes_of(next_)] { sha_.add({bytes.get(), size}); });
    next_++;
  }
}

}  // namespace cudream
