// The shared memory of one block, with a shadow that knows who touched what last, and when.
//
// Time is a clock that ticks at each warp-wide synchronisation and at each barrier. Two accesses by different threads, at
// least one a write, race unless a tick that both took part in lies between them: a barrier for threads of different
// warps, a warp synchronisation for lanes of one warp. What the clock said before the block began counts as never written.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

namespace cudream::vgpu {

enum class Conflict : uint8_t { none, uninitialised, race, write_write, async_in_flight };

// Who accesses: thread of the block (0..1023) and the clock at its warp's last synchronisation.
struct Accessor {
  uint32_t thread;
  uint32_t warp_time;
};

class SharedMemory {
 public:
  // `grain`: bytes per shadow entry, the narrowest shared access of the kernel (1, 2 or 4).
  void begin_launch(uint32_t bytes, uint32_t grain);
  // A new block: nothing is written.
  void begin_block();
  // The next moment. kNever when the clock has run out: a million ticks without a barrier.
  static constexpr uint32_t kNever = (1u << 20) - 2;
  uint32_t tick() { return bytes_ == 0 || clock_ == kNever ? clock_ : ++clock_; }
  // All threads of the block have met: returns the new time.
  uint32_t barrier();

  uint32_t bytes() const { return bytes_; }
  uint8_t* data() { return bytes_storage_.data(); }

  // Inline for the common case: all of it written before the last barrier.
  Conflict read(Accessor who, uint32_t offset, uint32_t n) {
    const uint32_t first = offset >> shift_, last = (offset + n - 1) >> shift_;
    const uint32_t begin = block_start_ << kCodeBits, end = last_barrier_ << kCodeBits;
    bool ordered = true;
    for (uint32_t i = first; i <= last; i++) ordered &= shadow_[i].write - begin < end - begin;
    if (!ordered) {
      if (const Conflict c = find_read_conflict(who, first, last); c != Conflict::none) return c;
    }
    const uint32_t mark = who.warp_time << kCodeBits | (kThread + who.thread);
    for (uint32_t i = first; i <= last; i++) note_reader(shadow_[i].read, mark, end, who);
    return Conflict::none;
  }
  // The reads of a whole warp, of `n` bytes at the valid offsets of the lanes of `mask`. False when some lane may have a
  // conflict: then they go one by one, which finds it.
  bool read_warp(uint32_t warp, uint32_t warp_time, const std::array<uint32_t, 32>& offsets, uint32_t mask, uint32_t n);
  // write_write is only a fault if the values differ; the caller knows them.
  Conflict write(Accessor who, uint32_t offset, uint32_t n) {
    const uint32_t first = offset >> shift_, last = (offset + n - 1) >> shift_, end = last_barrier_ << kCodeBits;
    bool untouched = true;
    for (uint32_t i = first; i <= last; i++) untouched &= shadow_[i].write < end && shadow_[i].read < end;
    if (!untouched) return write_slowly(who, first, last);
    for (uint32_t i = first; i <= last; i++) shadow_[i].write = who.warp_time << kCodeBits | (kThread + who.thread);
    return Conflict::none;
  }
  Conflict atomic(Accessor who, uint32_t offset, uint32_t n);
  // A cp.async was issued: until `deliver`, nobody may touch the bytes.
  Conflict begin_async(Accessor who, uint32_t offset, uint32_t n);
  void deliver(Accessor who, uint32_t offset, uint32_t n);

 private:
  // Who made an access, in the low bits of an entry.
  static constexpr uint32_t kCodeBits = 12, kCodeMask = (1u << kCodeBits) - 1;
  static constexpr uint32_t kThread = 1;           // + thread: one thread
  static constexpr uint32_t kWarpLanes = 1025;     // + warp: several lanes of one warp read
  static constexpr uint32_t kWarpAtomic = 1057;    // + warp: atomics of several lanes of one warp
  static constexpr uint32_t kThreadAtomic = 1089;  // + thread: atomics of one thread
  static constexpr uint32_t kAtomics = 4094;       // atomics of several warps
  static constexpr uint32_t kSeveral = 4095;       // readers in several warps
  static constexpr uint32_t kInFlight = ~0u;       // the whole entry: a cp.async will write here, some day

  struct Shadow {
    uint32_t write = 0, read = 0;  // time << kCodeBits | who; 0: never
  };
  static uint32_t warp_of(uint32_t code);
  void note_reader(uint32_t& entry, uint32_t mark, uint32_t end, Accessor who) const {
    if (entry < end) {
      entry = mark;
    } else if ((entry & kCodeMask) != kSeveral) {
      entry = merge_readers(entry, who);
    }
  }
  Conflict write_slowly(Accessor who, uint32_t first, uint32_t last);
  Conflict find_read_conflict(Accessor who, uint32_t first, uint32_t last) const;
  uint32_t merge_readers(uint32_t entry, Accessor who) const;
  bool races(uint32_t entry, Accessor who) const;
  Conflict may_write(const Shadow& s, Accessor who) const;
  void renumber();

  std::vector<uint8_t> bytes_storage_;
  std::vector<Shadow> shadow_;
  uint32_t bytes_ = 0, shift_ = 2;
  uint64_t copies_pending_ = 0;
  uint32_t clock_ = 0, block_start_ = 0, last_barrier_ = 0;
};

}  // namespace cudream::vgpu
