// The state of a running block: warps of 32 lanes whose registers lie lane by lane, and what they share.
//
// Lanes that take different ways form groups. The group with the lowest program counter runs; at a jump target the groups
// there join. A group that comes to a warp-wide instruction before all the lanes it names waits parked for them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/vgpu/check/block_order.h"
#include "tests/vgpu/check/counters.h"
#include "tests/vgpu/check/device_memory.h"
#include "tests/vgpu/check/fault.h"
#include "tests/vgpu/check/shared_memory.h"
#include "tests/vgpu/core/program.h"

namespace cudream::vgpu {

constexpr uint32_t kLanes = 32, kFull = ~0u;

struct Block;

// A copy that a cp.async began: performed when its group is waited for, the latest legal moment.
struct AsyncCopy {
  uint64_t source;
  uint32_t to, lane, group;
  uint16_t bytes, source_bytes;  // the rest is zero-filled
};

struct Group {
  uint32_t pc, mask;
  bool parked;
};

struct Warp {
  uint8_t* registers = nullptr;
  uint8_t* local = nullptr;  // 32 times the local bytes of a thread
  Block* block = nullptr;
  uint32_t index = 0;
  uint32_t pc = 0;
  uint32_t active = 0;  // lanes at pc
  uint32_t live = 0;    // lanes that have not returned
  uint32_t mask = 0;    // lanes that carry out the current instruction: active and its guard
  uint32_t time = 0;    // of the last warp synchronisation, for the race check
  uint32_t laps = 0;    // visits to a jump target while others wait: a spin loop must let them run
  bool done = false, at_barrier = false, stop = false;
  bool unfenced = false;  // wrote to global memory since its last fence
  uint32_t barrier_pc = 0, barrier_id = 0, barrier_vote = 0;
  std::vector<Group> groups;
  std::array<uint32_t, kLanes> async_group{};  // the open cp.async group of each lane
  std::vector<AsyncCopy> copies;

  template <typename T>
  T* at(uint32_t reg) {
    return reinterpret_cast<T*>(registers + reg);
  }
  uint32_t& predicate(uint32_t reg) { return *at<uint32_t>(reg); }
  void set_predicate(uint32_t reg, uint32_t value) {
    uint32_t& p = predicate(reg);
    p = (p & ~mask) | (value & mask);
  }
  Accessor accessor(uint32_t lane) const { return {index * kLanes + lane, time}; }

  // Divergence.
  void jump(uint32_t target);
  void meet();
  void retire();
  // For an instruction that the lanes of `members` execute together: true when all of them are here (and then `mask` holds
  // them), false when this group was parked. Counts as a warp synchronisation.
  bool synchronise(uint32_t members, const Inst& inst);

 private:
  void join();
  void pick();
  void park();
  void gather(uint32_t at_pc);
};

struct Dim {
  uint32_t x = 1, y = 1, z = 1;
  uint64_t size() const { return uint64_t{x} * y * z; }
};

struct Block {
  const Program* program = nullptr;
  const DeviceMemory* memory = nullptr;
  const uint8_t* parameters = nullptr;
  int device = 0;
  Dim grid, threads, id;
  uint32_t dynamic_shared = 0;
  SharedMemory shared;
  std::vector<Warp> warps;
  Counters counters;
  bool count_traffic = false;
  BlockOrder* order = nullptr;                 // null: races between blocks are not looked for
  uint64_t index = 0;                          // of this block in the grid
  uint64_t events = 0;                         // see Worker::events
  std::array<const Allocation*, 64> recent{};  // last allocation touched, by instruction

  const Allocation* allocation(const Inst& inst, uint64_t address) {
    const Allocation*& slot = recent[(&inst - program->code.data()) % recent.size()];
    if (slot == nullptr || address - slot->address >= slot->bytes) slot = memory->find(address);
    return slot;
  }
};

// Throws Fault: what, then kernel, PTX line and text, the source line where known, thread and block.
[[noreturn]] void fault(const Warp& warp, const Inst& inst, uint32_t lane, FaultKind kind, const std::string& what);

}  // namespace cudream::vgpu
