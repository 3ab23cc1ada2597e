// Races between the blocks of one launch on global memory: two blocks touch one location, at least one writes, and nothing
// orders them. Blocks of a grid run in any order, so only atomics order them: what a block wrote before a memory fence is
// published by its next atomic, and a block that reads that location later, by an atomic of its own or a load that acquires,
// sees it (CUDA C++ Programming Guide, memory fence functions: the sum of an array by the block that arrives last; PTX ISA 9.0,
// section 8.8, release and acquire patterns). Other loads see nothing, also of a flag that one waits for.
//
// Locations are pairs of bytes; accesses of one byte are left out. Atomics themselves order and never race.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <unordered_map>
#include <vector>

#include "tests/vgpu/check/device_memory.h"

namespace cudream::vgpu {

class BlockOrder {
 public:
  explicit BlockOrder(uint64_t blocks) : sees_(blocks) {}

  // False: a race. `block` is its index in the grid.
  bool read(uint64_t block, const Allocation& a, uint64_t address, uint32_t bytes);
  bool write(uint64_t block, const Allocation& a, uint64_t address, uint32_t bytes);
  // An atomic on `address`: publishes this block if it has fenced all it wrote, and lets it see whom others published there.
  void atomic(uint64_t block, uint64_t address, bool fenced);
  // A load of `address` that acquires: lets the block see whom others published there.
  void acquire(uint64_t block, uint64_t address);

 private:
  struct Touched {
    uint32_t writer, reader;  // the last block's index + 1, or 0; reader may be kMany
  };
  static constexpr uint32_t kMany = ~0u;
  struct Free {
    void operator()(Touched* t) const { std::free(t); }
  };
  Touched* touched(const Allocation& a, uint64_t address);
  bool ordered(uint32_t earlier, uint64_t block) const;

  std::mutex mutex_;
  std::map<uint64_t, std::unique_ptr<Touched[], Free>> touched_;  // by allocation
  std::unordered_map<uint64_t, std::set<uint64_t>> published_;    // by location of the atomic
  std::vector<std::set<uint64_t>> sees_;                          // by block
};

}  // namespace cudream::vgpu
