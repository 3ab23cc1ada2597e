// What all devices share: counting slabs, plain host memory, packing from memory.
#include "kernels/device.h"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <new>

#include "core/error.h"

namespace cudream {

void* Device::allocate(int64_t bytes) {
  void* slab = take(bytes);
  held_ += bytes;
  most_ = std::max(most_, held_);
  return slab;
}

void Device::release(void* slab, int64_t bytes) noexcept {
  held_ -= bytes;
  give(slab);
}

// What programs can still get before the machine swaps, by the kernel's own estimate, plus free swap ("/proc/meminfo", proc(5)).
int64_t Device::free_bytes() const {
  std::ifstream info("/proc/meminfo");
  std::string name, unit;
  int64_t kibibytes = 0, sum = 0;
  for (; info >> name >> kibibytes; info.ignore(std::numeric_limits<std::streamsize>::max(), '\n'))
    if (name == "MemAvailable:" || name == "SwapFree:") sum += kibibytes << 10;
  return sum;
}

void* Device::allocate_host(int64_t bytes) {
  return ::operator new(static_cast<size_t>(bytes), std::align_val_t(kBlockAlign));
}

void Device::release_host(void* at) noexcept {
  ::operator delete(at, std::align_val_t(kBlockAlign));
}

Weight Device::prepack(Use use, DType stored, const Shape& shape, std::span<const std::byte> raw) {
  const auto copy = [&](std::span<std::byte> to, int64_t offset) { std::memcpy(to.data(), raw.data() + offset, to.size()); };
  return prepack(use, stored, shape, copy, allocate(packed_bytes(use, stored, shape)));
}

}  // namespace cudream
