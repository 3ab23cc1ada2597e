// The memory of the virtual devices: every allocation, what of it was ever written, and what was freed.
// Device addresses are numbers above the range of user space: a host program that follows one crashes, as it would with a
// real device. They are never used twice, and a red zone lies between any two allocations.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace cudream::vgpu {

struct Allocation {
  uint64_t address = 0, bytes = 0;
  int device = 0;
  bool freed = false;
  std::unique_ptr<uint8_t[]> data;     // poisoned with 0xff
  std::unique_ptr<uint8_t[]> written;  // a bit per byte

  bool holds(uint64_t at, uint64_t n) const { return at >= address && n <= bytes && at - address <= bytes - n; }
  uint8_t* at(uint64_t place) const { return data.get() + (place - address); }

  // For aligned accesses of 1, 2, 4, 8 or 16 bytes, from any thread.
  bool was_written(uint64_t place, uint32_t n) const;
  void mark_written(uint64_t place, uint32_t n) const;
  // For any range, from the one thread that holds the driver.
  void mark_range(uint64_t place, uint64_t n) const;
  void copy_marks(uint64_t place, const Allocation& from, uint64_t from_place, uint64_t n) const;
};

class DeviceMemory {
 public:
  // A new allocation of `bytes` > 0, aligned to 512 bytes; the address stays unique for the life of the process.
  Allocation& allocate(uint64_t bytes, int device);
  // False when `address` is not the start of a live allocation.
  bool release(uint64_t address);
  // Releases what is left on a device; how many bytes that was.
  uint64_t release_all(int device);
  // The live or freed allocation in which `address` lies; null in a red zone or outside.
  const Allocation* find(uint64_t address) const;
  // Where `address` lies, for a message: "16 bytes past the end of the 4096-byte allocation at 0x...".
  std::string describe(uint64_t address) const;
  uint64_t used(int device) const;

 private:
  std::map<uint64_t, Allocation> allocations_;  // by address; freed ones stay, without their data
  uint64_t next_ = uint64_t{1} << 49;
};

}  // namespace cudream::vgpu
