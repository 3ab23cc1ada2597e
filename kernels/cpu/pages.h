// Memory in huge pages. Products read weights and activations with long strides: with 4 KiB pages the address translation
// misses take as long as the arithmetic (measured: half the speed in oneDNN's AMX convolutions).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>

namespace cudream {

// One growing buffer.
class PageBuffer {
 public:
  PageBuffer() = default;
  PageBuffer(PageBuffer&& other) noexcept;
  PageBuffer& operator=(PageBuffer&&) = delete;
  ~PageBuffer();
  std::byte* grown_to(int64_t bytes);  // contents are lost when it grows; Error(out_of_memory)

 private:
  std::byte* at_ = nullptr;
  int64_t bytes_ = 0;
};

// Blocks for slabs and weights. Small blocks share a chunk, so that a model's hundreds of weights fill whole huge pages;
// a chunk goes back to the system with its last block.
class PagePool {
 public:
  PagePool() = default;
  PagePool(const PagePool&) = delete;
  PagePool& operator=(const PagePool&) = delete;
  ~PagePool();
  std::byte* take(int64_t bytes);  // aligned to 256 bytes; Error(out_of_memory)
  void give(void* block) noexcept;

 private:
  struct Chunk {
    int64_t bytes = 0, used = 0, blocks = 0;
  };
  std::map<std::byte*, Chunk> chunks_;  // by address
  std::byte* open_ = nullptr;           // the chunk that small blocks come from
};

}  // namespace cudream
