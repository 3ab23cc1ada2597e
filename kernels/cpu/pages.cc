// mmap, aligned to huge pages and advised so.
#include "kernels/cpu/pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "core/error.h"

namespace cudream {
namespace {

constexpr int64_t kHugePage = int64_t{2} << 20, kChunk = int64_t{64} << 20, kAlign = 256;

int64_t rounded(int64_t bytes, int64_t to) {
  return (bytes + to - 1) / to * to;
}

// `bytes` is a multiple of kHugePage. mmap aligns to 4 KiB only: map one huge page more, then give back both ends.
std::byte* map_pages(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes + kHugePage);
  void* at = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED)
    throw fail(Code::out_of_memory, "cannot get {} MiB of memory; close other programs or make a smaller picture", bytes >> 20);
  auto* base = static_cast<std::byte*>(at);
  const int64_t head = (kHugePage - static_cast<int64_t>(reinterpret_cast<uintptr_t>(base) % kHugePage)) % kHugePage;
  if (head > 0) munmap(base, static_cast<size_t>(head));
  if (head < kHugePage) munmap(base + head + bytes, static_cast<size_t>(kHugePage - head));
  madvise(base + head, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a hint: small pages work too
  return base + head;
}

void unmap_pages(std::byte* at, int64_t bytes) noexcept {
  munmap(at, static_cast<size_t>(bytes));
}

}  // namespace

PageBuffer::PageBuffer(PageBuffer&& other) noexcept
    : at_(std::exchange(other.at_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

PageBuffer::~PageBuffer() {
  if (at_ != nullptr) unmap_pages(at_, bytes_);
}

std::byte* PageBuffer::grown_to(int64_t bytes) {
  if (bytes <= bytes_ && at_ != nullptr) return at_;
  if (at_ != nullptr) unmap_pages(std::exchange(at_, nullptr), std::exchange(bytes_, 0));
  const int64_t size = rounded(std::max<int64_t>(bytes, 1), kHugePage);
  at_ = map_pages(size);
  bytes_ = size;
  return at_;
}

PagePool::~PagePool() {
  for (const auto& [at, chunk] : chunks_) unmap_pages(at, chunk.bytes);
}

std::byte* PagePool::take(int64_t bytes) {
  bytes = rounded(std::max<int64_t>(bytes, 1), kAlign);
  if (bytes >= kChunk / 2) {
    const int64_t size = rounded(bytes, kHugePage);
    std::byte* at = map_pages(size);
    chunks_[at] = {.bytes = size, .used = size, .blocks = 1};
    return at;
  }
  if (open_ == nullptr || chunks_[open_].bytes - chunks_[open_].used < bytes) {
    open_ = map_pages(kChunk);
    chunks_[open_] = {.bytes = kChunk};
  }
  Chunk& chunk = chunks_[open_];
  std::byte* at = open_ + chunk.used;
  chunk.used += bytes;
  chunk.blocks++;
  return at;
}

void PagePool::give(void* block) noexcept {
  const auto found = std::prev(chunks_.upper_bound(static_cast<std::byte*>(block)));
  if (--found->second.blocks > 0) return;
  if (found->first == open_) open_ = nullptr;
  unmap_pages(found->first, found->second.bytes);
  chunks_.erase(found);
}

}  // namespace cudream
