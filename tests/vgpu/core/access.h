// Memory accesses of a warp: addresses to checked host pointers, with traffic counted.
#pragma once

#include <array>
#include <cstdint>

#include "tests/vgpu/core/warp.h"

namespace cudream::vgpu {

// acquire: a read by which the block sees what others published there.
enum class Access : uint8_t { read, acquire, write, atomic };

struct Pointers {
  std::array<uint8_t*, kLanes> lane;
  uint32_t write_conflicts = 0;  // lanes whose write is a race unless it stores what is there already
};

// Checks the access of `bytes` at [reg + imm] by each lane of the mask: bounds, alignment, never written, races. Throws Fault.
void resolve(Warp& w, const Inst& inst, uint32_t reg, int64_t offset, uint32_t bytes, Access access, Pointers& out);

// The addresses alone.
void gather_addresses(Warp& w, const Inst& inst, uint32_t reg, int64_t offset, std::array<uint64_t, kLanes>& out);

// One lane's global access; the host pointer.
uint8_t* global_pointer(Warp& w, const Inst& inst, uint32_t lane, uint64_t address, uint32_t bytes, Access access);
// Throws for what the shadow of shared memory found.
[[noreturn]] void shared_fault(Warp& w, const Inst& inst, uint32_t lane, Conflict conflict, uint64_t offset);
// Throws for a shared access that lies outside or is misaligned.
[[noreturn]] void shared_fault(Warp& w, const Inst& inst, uint32_t lane, uint64_t offset, uint32_t bytes);

inline void report(Warp& w, const Inst& inst, uint32_t lane, Conflict conflict, uint64_t offset) {
  if (conflict != Conflict::none) shared_fault(w, inst, lane, conflict, offset);
}
// Bounds and alignment of a shared access; the offset.
inline uint32_t check_shared(Warp& w, const Inst& inst, uint32_t lane, uint64_t offset, uint32_t bytes) {
  if (offset + bytes > w.block->shared.bytes() || offset > kWindowBytes || (offset & (bytes - 1)) != 0)
    shared_fault(w, inst, lane, offset, bytes);
  return static_cast<uint32_t>(offset);
}

// Takes the state space among the modifiers of a load, store or atomic; generic where none is named.
Space take_space(class Decoding& d);

}  // namespace cudream::vgpu
