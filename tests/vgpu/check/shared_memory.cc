// The shared memory of one block and its shadow.
#include "tests/vgpu/check/shared_memory.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace cudream::vgpu {
namespace {

constexpr uint32_t kNoWarp = ~0u;
constexpr uint32_t kClockLimit = 1u << 19;

uint32_t entry(uint32_t time, uint32_t code) {
  return time << 12 | code;
}
uint32_t code_of(uint32_t e) {
  return e & 4095;
}
uint32_t time_of(uint32_t e) {
  return e >> 12;
}

}  // namespace

uint32_t SharedMemory::warp_of(uint32_t code) {
  if (code >= kAtomics) return kNoWarp;
  if (code >= kThreadAtomic) return (code - kThreadAtomic) / 32;
  if (code >= kWarpAtomic) return code - kWarpAtomic;
  return code >= kWarpLanes ? code - kWarpLanes : (code - kThread) / 32;
}

void SharedMemory::begin_launch(uint32_t bytes, uint32_t grain) {
  bytes_ = bytes;
  shift_ = static_cast<uint32_t>(std::countr_zero(grain));
  bytes_storage_.assign(bytes + 16, 0xff);
  shadow_.assign((bytes >> shift_) + 1, {});
  clock_ = block_start_ = last_barrier_ = 0;
}

void SharedMemory::begin_block() {
  if (clock_ > kClockLimit) {
    shadow_.assign(shadow_.size(), {});
    clock_ = 0;
  }
  // Copies that the last block never waited for.
  if (copies_pending_ > 0) {
    for (Shadow& s : shadow_) s.write = s.write == kInFlight ? 0 : s.write;
  }
  copies_pending_ = 0;
  block_start_ = last_barrier_ = ++clock_;
}

uint32_t SharedMemory::barrier() {
  if (clock_ > kClockLimit) renumber();
  return last_barrier_ = ++clock_;
}

// The clock has run far in one block. All that lies before this barrier is ordered, so one time serves for it.
void SharedMemory::renumber() {
  for (Shadow& s : shadow_) {
    s.read = 0;
    if (s.write != kInFlight) s.write = time_of(s.write) < block_start_ ? 0 : entry(1, kThread);
  }
  block_start_ = clock_ = 1;
}

// Whether an earlier access by someone else is unordered with one by `who` now.
bool SharedMemory::races(uint32_t e, Accessor who) const {
  const uint32_t code = code_of(e), time = time_of(e);
  if (time < block_start_ || code == kThread + who.thread || code == kThreadAtomic + who.thread) return false;
  return time >= (warp_of(code) == who.thread / 32 ? who.warp_time : last_barrier_);
}

Conflict SharedMemory::find_read_conflict(Accessor who, uint32_t first, uint32_t last) const {
  for (uint32_t i = first; i <= last; i++) {
    const uint32_t write = shadow_[i].write;
    if (write == kInFlight) return Conflict::async_in_flight;
    if (time_of(write) < block_start_) return Conflict::uninitialised;
    if (races(write, who)) return Conflict::race;
  }
  return Conflict::none;
}

// The entry for the readers so far, since the last barrier, and one more.
uint32_t SharedMemory::merge_readers(uint32_t e, Accessor who) const {
  const uint32_t warp = who.thread / 32;
  uint32_t code = kThread + who.thread;
  if (races(e, who)) code = warp_of(code_of(e)) == warp ? kWarpLanes + warp : kSeveral;
  return entry(who.warp_time, code);
}

Conflict SharedMemory::may_write(const Shadow& s, Accessor who) const {
  if (s.write == kInFlight) return Conflict::async_in_flight;
  if (races(s.read, who)) return Conflict::race;
  return races(s.write, who) ? Conflict::write_write : Conflict::none;
}

bool SharedMemory::read_warp(uint32_t warp, uint32_t warp_time, const std::array<uint32_t, 32>& offsets, uint32_t mask,
                             uint32_t n) {
  const uint32_t begin = block_start_ << kCodeBits, end = last_barrier_ << kCodeBits;
  const uint32_t warp_mark = entry(warp_time, kWarpLanes + warp);
  const uint32_t grains = std::max(n >> shift_, 1u);
  uint32_t last = ~0u;  // where the lane before read: neighbours often read one place
  bool shared = false;  // and whether that is noted already
  for (uint32_t left = mask; left != 0; left &= left - 1) {
    const auto lane = static_cast<uint32_t>(std::countr_zero(left));
    const uint32_t offset = offsets[lane];
    if (offset == last && shared) continue;
    Shadow* shadow = shadow_.data() + (offset >> shift_);
    const Accessor who{warp * 32 + lane, warp_time};
    for (uint32_t g = 0; g < grains; g++) {
      Shadow& s = shadow[g];
      if (s.write - begin >= end - begin) return false;
      if (offset != last) {
        note_reader(s.read, entry(warp_time, kThread + who.thread), end, who);
      } else if ((s.read & kCodeMask) != kSeveral) {
        s.read = warp_mark;
      }
    }
    shared = offset == last;
    last = offset;
  }
  return true;
}

Conflict SharedMemory::write_slowly(Accessor who, uint32_t first, uint32_t last) {
  Conflict worst = Conflict::none;
  for (uint32_t i = first; i <= last; i++) {
    const Conflict c = may_write(shadow_[i], who);
    if (c == Conflict::async_in_flight || c == Conflict::race) return c;
    if (c == Conflict::write_write) worst = c;
    shadow_[i].write = entry(who.warp_time, kThread + who.thread);
  }
  return worst;
}

Conflict SharedMemory::atomic(Accessor who, uint32_t offset, uint32_t n) {
  const uint32_t warp = who.thread / 32;
  for (uint32_t i = offset >> shift_, end = (offset + n - 1) >> shift_; i <= end; i++) {
    Shadow& s = shadow_[i];
    if (time_of(s.write) < block_start_) return Conflict::uninitialised;
    const Conflict c = may_write(s, who);
    if (c == Conflict::async_in_flight || c == Conflict::race) return c;
    const uint32_t before = code_of(s.write);
    if (c == Conflict::write_write && (before < kWarpAtomic || before == kSeveral)) return Conflict::race;
    uint32_t code = kThreadAtomic + who.thread;
    if (c == Conflict::write_write) code = warp_of(before) == warp ? kWarpAtomic + warp : kAtomics;
    s.write = entry(who.warp_time, code);
  }
  return Conflict::none;
}

Conflict SharedMemory::begin_async(Accessor who, uint32_t offset, uint32_t n) {
  for (uint32_t i = offset >> shift_, end = (offset + n - 1) >> shift_; i <= end; i++) {
    const Conflict c = may_write(shadow_[i], who);
    if (c != Conflict::none) return c == Conflict::write_write ? Conflict::race : c;
    shadow_[i].write = kInFlight;
  }
  copies_pending_++;
  return Conflict::none;
}

void SharedMemory::deliver(Accessor who, uint32_t offset, uint32_t n) {
  copies_pending_--;
  for (uint32_t i = offset >> shift_, end = (offset + n - 1) >> shift_; i <= end; i++) {
    shadow_[i].write = entry(who.warp_time, kThread + who.thread);
  }
}

}  // namespace cudream::vgpu
