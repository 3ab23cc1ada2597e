// Checked accesses to the state spaces.
#include "tests/vgpu/core/access.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/vgpu/core/decoding.h"

namespace cudream::vgpu {
namespace {

Space space_of(uint64_t address) {
  if (address - kSharedWindow < kWindowBytes) return Space::shared;
  if (address - kLocalWindow < kWindowBytes) return Space::local;
  if (address - kParamWindow < kWindowBytes) return Space::param;
  return Space::global;
}

std::string_view verb(Access access) {
  return access == Access::write ? "write" : access == Access::atomic ? "atomic" : "read";
}

[[noreturn]] void misaligned(Warp& w, const Inst& inst, uint32_t lane, std::string_view space, uint64_t address, uint32_t bytes) {
  fault(w, inst, lane, FaultKind::misaligned, fmt::format("misaligned {} access of {} bytes at {:#x}", space, bytes, address));
}

void count_global(Warp& w, const std::array<uint64_t, kLanes>& address, uint32_t bytes, Access access) {
  Counters& c = w.block->counters;
  const uint64_t asked = uint64_t{bytes} * static_cast<uint32_t>(__builtin_popcount(w.mask)),
                 sectors = count_sectors(address.data(), w.mask);
  if (access != Access::write) {
    c.global_read_bytes += asked;
    c.global_read_sectors += sectors;
  }
  if (access == Access::write || access == Access::atomic) {
    c.global_write_bytes += asked;
    c.global_write_sectors += sectors;
  }
}

// Notes the access of a block; a race with another one is a fault.
void check_order(Warp& w, const Inst& inst, uint32_t lane, const Allocation& a, uint64_t address, uint32_t bytes, Access access) {
  Block& b = *w.block;
  if (b.order == nullptr) return;
  if (access == Access::acquire) return b.order->acquire(b.index, address);
  if (access == Access::atomic) {
    const bool fenced = std::none_of(b.warps.begin(), b.warps.end(), [](const Warp& other) { return other.unfenced; });
    return b.order->atomic(b.index, address, fenced);
  }
  const bool write = access == Access::write;
  if (write) w.unfenced = true;
  if (write ? b.order->write(b.index, a, address, bytes) : b.order->read(b.index, a, address, bytes)) return;
  fault(
      w, inst, lane, FaultKind::race,
      fmt::format("race between blocks on global memory at {:#x}: another block's access is not ordered with this one", address));
}

// A whole warp on consecutive places of one allocation: one check. False where the lanes must go one by one.
bool resolve_consecutive(Warp& w, const Inst& inst, const std::array<uint64_t, kLanes>& address, uint32_t bytes, Access access,
                         Pointers& out) {
  if (w.mask != kFull || address[0] % bytes != 0) return false;
  for (uint32_t lane = 1; lane < kLanes; lane++) {
    if (address[lane] != address[0] + uint64_t{lane} * bytes) return false;
  }
  const Allocation* a = w.block->allocation(inst, address[0]);
  if (a == nullptr || a->freed || a->device != w.block->device || !a->holds(address[0], uint64_t{bytes} * kLanes)) return false;
  const uint64_t step = bytes > 8 ? 16 : 8;
  for (uint64_t at = address[0], end = at + uint64_t{bytes} * kLanes; at < end; at += step) {
    if (access == Access::write) {
      a->mark_written(at, static_cast<uint32_t>(step));
    } else if (!a->was_written(at, static_cast<uint32_t>(step))) {
      return false;
    }
  }
  if (access == Access::acquire || access == Access::atomic) return false;
  check_order(w, inst, 0, *a, address[0], bytes * kLanes, access);
  uint8_t* base = a->at(address[0]);
  for (uint32_t lane = 0; lane < kLanes; lane++) out.lane[lane] = base + lane * bytes;
  return true;
}

void resolve_global(Warp& w, const Inst& inst, const std::array<uint64_t, kLanes>& address, uint32_t bytes, Access access,
                    Pointers& out) {
  if (w.block->count_traffic) count_global(w, address, bytes, access);
  if (address[0] % 16 == 0 && resolve_consecutive(w, inst, address, bytes, access, out)) return;
  uint32_t last = kLanes;  // the lane checked last: neighbours often share an address
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    if ((w.mask >> lane & 1) == 0) continue;
    const bool again = last != kLanes && address[lane] == address[last];
    out.lane[lane] = again ? out.lane[last] : global_pointer(w, inst, lane, address[lane], bytes, access);
    last = lane;
  }
}

// All lanes of a warp at once, when nothing is wrong; false where they must go one by one.
bool read_shared_together(Warp& w, const std::array<uint64_t, kLanes>& address, uint32_t bytes, Pointers& out) {
  SharedMemory& shared = w.block->shared;
  const uint64_t spare = address[static_cast<uint32_t>(__builtin_ctz(w.mask))];
  std::array<uint32_t, kLanes> offsets;
  bool legal = true;
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    const uint64_t at = (w.mask >> lane & 1) != 0 ? address[lane] : spare;
    legal &= at + bytes <= shared.bytes() && at <= kWindowBytes && (at & (bytes - 1)) == 0;
    offsets[lane] = static_cast<uint32_t>(at);
  }
  if (!legal || !shared.read_warp(w.index, w.time, offsets, w.mask, bytes)) return false;
  for (uint32_t lane = 0; lane < kLanes; lane++) out.lane[lane] = shared.data() + offsets[lane];
  return true;
}

void resolve_shared(Warp& w, const Inst& inst, const std::array<uint64_t, kLanes>& address, uint32_t bytes, Access access,
                    Pointers& out) {
  if (access == Access::acquire) access = Access::read;  // shared memory is ordered by barriers alone
  SharedMemory& shared = w.block->shared;
  if (w.block->count_traffic) {
    const Wavefronts n = count_wavefronts(address.data(), w.mask, bytes);
    w.block->counters.shared_wavefronts += n.needed;
    w.block->counters.shared_ideal += n.ideal;
  }
  if (access == Access::read && read_shared_together(w, address, bytes, out)) return;
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    if ((w.mask >> lane & 1) == 0) continue;
    const uint32_t offset = check_shared(w, inst, lane, address[lane], bytes);
    const Accessor who = w.accessor(lane);
    const Conflict c = access == Access::read    ? shared.read(who, offset, bytes)
                       : access == Access::write ? shared.write(who, offset, bytes)
                                                 : shared.atomic(who, offset, bytes);
    if (c == Conflict::write_write) {
      out.write_conflicts |= 1u << lane;
    } else if (c != Conflict::none) {
      report(w, inst, lane, c, offset);
    }
    out.lane[lane] = shared.data() + offset;
  }
}

void resolve_local(Warp& w, const Inst& inst, const std::array<uint64_t, kLanes>& address, uint32_t bytes, Pointers& out) {
  const uint32_t size = w.block->program->local_bytes;
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    if ((w.mask >> lane & 1) == 0) continue;
    const uint64_t offset = address[lane];
    if (offset > size || size - offset < bytes) {
      fault(w, inst, lane, FaultKind::illegal_address,
            fmt::format("local access of {} bytes at {} of {}", bytes, static_cast<int64_t>(offset), size));
    }
    if (offset % bytes != 0) misaligned(w, inst, lane, "local", offset, bytes);
    out.lane[lane] = w.local + uint64_t{lane} * size + offset;
  }
}

void resolve_param(Warp& w, const Inst& inst, const std::array<uint64_t, kLanes>& address, uint32_t bytes, Access access,
                   Pointers& out) {
  const uint32_t size = w.block->program->kernel->parameter_bytes;
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    if ((w.mask >> lane & 1) == 0) continue;
    const uint64_t offset = address[lane];
    if (access != Access::read || offset > size || size - offset < bytes) {
      fault(w, inst, lane, FaultKind::illegal_address,
            fmt::format("{} of {} bytes at {} of {} bytes of parameters", verb(access), bytes, offset, size));
    }
    out.lane[lane] = const_cast<uint8_t*>(w.block->parameters) + offset;
  }
}

void resolve_in(Space space, Warp& w, const Inst& inst, const std::array<uint64_t, kLanes>& address, uint32_t bytes,
                Access access, Pointers& out) {
  switch (space) {
    case Space::shared: return resolve_shared(w, inst, address, bytes, access, out);
    case Space::local: return resolve_local(w, inst, address, bytes, out);
    case Space::param: return resolve_param(w, inst, address, bytes, access, out);
    default: return resolve_global(w, inst, address, bytes, access, out);
  }
}

// Lanes may point into different spaces: one pass for each.
void resolve_generic(Warp& w, const Inst& inst, std::array<uint64_t, kLanes>& address, uint32_t bytes, Access access,
                     Pointers& out) {
  const uint32_t mask = w.mask;
  for (uint32_t left = mask; left != 0;) {
    const Space space = space_of(address[static_cast<uint32_t>(__builtin_ctz(left))]);
    const uint64_t window = space == Space::shared  ? kSharedWindow
                            : space == Space::local ? kLocalWindow
                            : space == Space::param ? kParamWindow
                                                    : 0;
    uint32_t same = 0;
    for (uint32_t lane = 0; lane < kLanes; lane++) {
      if ((left >> lane & 1) == 0 || space_of(address[lane]) != space) continue;
      same |= 1u << lane;
      address[lane] -= window;
    }
    w.mask = same;
    resolve_in(space, w, inst, address, bytes, access, out);
    left &= ~same;
  }
  w.mask = mask;
}

}  // namespace

void gather_addresses(Warp& w, const Inst& inst, uint32_t reg, int64_t offset, std::array<uint64_t, kLanes>& out) {
  if (inst.wide_address) {
    const uint64_t* base = w.at<uint64_t>(reg);
    for (uint32_t lane = 0; lane < kLanes; lane++) out[lane] = base[lane] + static_cast<uint64_t>(offset);
  } else {
    const uint32_t* base = w.at<uint32_t>(reg);
    for (uint32_t lane = 0; lane < kLanes; lane++) out[lane] = base[lane] + static_cast<uint32_t>(offset);
  }
}

uint8_t* global_pointer(Warp& w, const Inst& inst, uint32_t lane, uint64_t address, uint32_t bytes, Access access) {
  const Allocation* a = w.block->allocation(inst, address);
  if (a == nullptr || a->freed || a->device != w.block->device || !a->holds(address, bytes)) {
    const std::string foreign = a != nullptr && a->device != w.block->device ? fmt::format(", on device {}", a->device) : "";
    fault(w, inst, lane, FaultKind::illegal_address,
          fmt::format("illegal global {} of {} bytes at {:#x}: {}{}", verb(access), bytes, address,
                      w.block->memory->describe(address), foreign));
  }
  if (address % bytes != 0) misaligned(w, inst, lane, "global", address, bytes);
  if (access == Access::write) {
    a->mark_written(address, bytes);
  } else if (!a->was_written(address, bytes)) {
    fault(w, inst, lane, FaultKind::uninitialised,
          fmt::format("read of {} bytes of global memory that was never written, at {:#x}: {}", bytes, address,
                      w.block->memory->describe(address)));
  }
  check_order(w, inst, lane, *a, address, bytes, access);
  return a->at(address);
}

void shared_fault(Warp& w, const Inst& inst, uint32_t lane, uint64_t offset, uint32_t bytes) {
  const uint32_t size = w.block->shared.bytes();
  if (offset > size || size - offset < bytes) {
    fault(w, inst, lane, FaultKind::illegal_address,
          fmt::format("shared access of {} bytes at {} of {}", bytes, static_cast<int64_t>(offset), size));
  }
  misaligned(w, inst, lane, "shared", offset, bytes);
}

void shared_fault(Warp& w, const Inst& inst, uint32_t lane, Conflict conflict, uint64_t offset) {
  switch (conflict) {
    case Conflict::uninitialised:
      fault(w, inst, lane, FaultKind::uninitialised, fmt::format("read of shared memory that was never written, at {}", offset));
    case Conflict::race:
    case Conflict::write_write:
      fault(w, inst, lane, FaultKind::race,
            fmt::format("race on shared memory at {}: another thread's access is not ordered with this one", offset));
    default:
      fault(w, inst, lane, FaultKind::async_in_flight,
            fmt::format("access to shared memory at {} before the cp.async that fills it was waited for", offset));
  }
}

void resolve(Warp& w, const Inst& inst, uint32_t reg, int64_t offset, uint32_t bytes, Access access, Pointers& out) {
  if (access == Access::write) w.block->events++;
  std::array<uint64_t, kLanes> address;
  gather_addresses(w, inst, reg, offset, address);
  if (inst.space == Space::generic) return resolve_generic(w, inst, address, bytes, access, out);
  resolve_in(inst.space, w, inst, address, bytes, access, out);
}

Space take_space(Decoding& d) {
  if (d.take("global")) return Space::global;
  if (d.take("shared") || d.take("shared::cta")) return Space::shared;
  if (d.take("local")) return Space::local;
  if (d.take("param") || d.take("param::entry")) return Space::param;
  return d.take("const") ? Space::constant : Space::generic;
}

}  // namespace cudream::vgpu
