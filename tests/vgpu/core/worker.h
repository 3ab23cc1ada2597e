// One block of a launch, and how its warps take turns.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "tests/vgpu/core/launch.h"

namespace cudream::vgpu {

// Runs blocks one after the other; its storage is kept from block to block. The launch must outlive it.
class Worker {
 public:
  Worker(const Launch& launch, const DeviceMemory& memory, const LaunchOptions& options, BlockOrder* order);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void begin_block(uint64_t index);
  // Lets the block run, from barrier to barrier, until a warp sleeps or has had its turn. False when the block has ended.
  bool turn();
  // Grows whenever a thread of the block may have changed what others wait for: a write, an atomic that changes its place, a
  // barrier passed, a warp ended.
  uint64_t events() const { return block_.events; }
  // Throws the fault of a block that waits for what nobody does.
  [[noreturn]] void refuse_to_wait(const std::string& why);

  // The counters, instructions added up from the visits of each.
  Counters finish();

 private:
  struct AlignedDelete {
    void operator()(uint8_t* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };

  void begin(Warp& w);
  uint32_t special(Special which, uint32_t thread, uint32_t lane) const;
  void run_warp(Warp& w);
  void pass_barrier();

  Block block_;
  uint32_t threads_ = 0;
  std::unique_ptr<uint8_t[], AlignedDelete> registers_;
  std::vector<uint8_t> local_;
  std::vector<uint64_t> executed_;
};

}  // namespace cudream::vgpu
