// The memory of the virtual devices.
#include "tests/vgpu/check/device_memory.h"

#include <fmt/format.h>

#include <atomic>
#include <cstring>

namespace cudream::vgpu {
namespace {

constexpr uint64_t kAlign = 512, kRedZone = 64 * 1024;
constexpr uint8_t kPoison = 0xff;

uint32_t bits_for(uint32_t n) {
  return n >= 8 ? 0xffu : (1u << n) - 1;
}

}  // namespace

// An aligned access of up to 8 bytes lies within one byte of marks, one of 16 bytes fills two.
bool Allocation::was_written(uint64_t place, uint32_t n) const {
  const uint64_t offset = place - address;
  const uint32_t need = bits_for(n) << (offset & 7);
  uint8_t* marks = written.get() + offset / 8;
  const auto read = [](uint8_t& mark) { return std::atomic_ref<uint8_t>(mark).load(std::memory_order_relaxed); };
  return (read(marks[0]) & need) == need && (n <= 8 || read(marks[1]) == 0xff);
}

void Allocation::mark_written(uint64_t place, uint32_t n) const {
  const uint64_t offset = place - address;
  const auto bits = static_cast<uint8_t>(bits_for(n) << (offset & 7));
  for (uint32_t i = 0; i < (n > 8 ? 2u : 1u); i++) {
    const std::atomic_ref<uint8_t> marks(written[offset / 8 + i]);
    if ((marks.load(std::memory_order_relaxed) & bits) != bits) marks.fetch_or(bits, std::memory_order_relaxed);
  }
}

void Allocation::mark_range(uint64_t place, uint64_t n) const {
  const uint64_t begin = place - address, end = begin + n;
  uint64_t i = begin;
  for (; i < end && i % 8 != 0; i++) written[i / 8] = static_cast<uint8_t>(written[i / 8] | 1u << i % 8);
  const uint64_t whole = (end - i) / 8;
  std::memset(written.get() + i / 8, 0xff, whole);
  for (i += whole * 8; i < end; i++) written[i / 8] = static_cast<uint8_t>(written[i / 8] | 1u << i % 8);
}

void Allocation::copy_marks(uint64_t place, const Allocation& from, uint64_t from_place, uint64_t n) const {
  const uint64_t to = place - address, source = from_place - from.address;
  if (to % 8 == 0 && source % 8 == 0 && n % 8 == 0) {
    std::memmove(written.get() + to / 8, from.written.get() + source / 8, n / 8);
    return;
  }
  for (uint64_t i = 0; i < n; i++) {
    const uint32_t bit = from.written[(source + i) / 8] >> (source + i) % 8 & 1u;
    uint8_t& marks = written[(to + i) / 8];
    marks = static_cast<uint8_t>((marks & ~(1u << (to + i) % 8)) | bit << (to + i) % 8);
  }
}

Allocation& DeviceMemory::allocate(uint64_t bytes, int device) {
  Allocation a;
  a.address = next_;
  a.bytes = bytes;
  a.device = device;
  const uint64_t room = (bytes + kAlign - 1) / kAlign * kAlign;
  a.data.reset(new uint8_t[room]);
  std::memset(a.data.get(), kPoison, room);
  a.written = std::make_unique<uint8_t[]>(room / 8);
  next_ += (room + 2 * kRedZone - 1) / kRedZone * kRedZone;
  return allocations_.emplace(a.address, std::move(a)).first->second;
}

bool DeviceMemory::release(uint64_t address) {
  const auto found = allocations_.find(address);
  if (found == allocations_.end() || found->second.freed) return false;
  found->second.freed = true;
  found->second.data.reset();
  found->second.written.reset();
  return true;
}

uint64_t DeviceMemory::release_all(int device) {
  uint64_t bytes = 0;
  for (const auto& [address, a] : allocations_) {
    if (a.device != device || a.freed) continue;
    bytes += a.bytes;
    release(address);
  }
  return bytes;
}

const Allocation* DeviceMemory::find(uint64_t address) const {
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  const Allocation& a = std::prev(after)->second;
  return address - a.address < a.bytes ? &a : nullptr;
}

std::string DeviceMemory::describe(uint64_t address) const {
  const auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return address < uint64_t{1} << 47 ? "a host address or null" : "no allocation near";
  const Allocation& a = std::prev(after)->second;
  const uint64_t offset = address - a.address;
  const std::string which = fmt::format("the {}{}-byte allocation at {:#x}", a.freed ? "freed " : "", a.bytes, a.address);
  if (offset < a.bytes) return fmt::format("byte {} of {}", offset, which);
  if (after != allocations_.end() && after->first - address < offset - a.bytes) {
    return fmt::format("{} bytes before the {}-byte allocation at {:#x}", after->first - address, after->second.bytes,
                       after->first);
  }
  return fmt::format("{} bytes past the end of {}", offset - a.bytes, which);
}

uint64_t DeviceMemory::used(int device) const {
  uint64_t sum = 0;
  for (const auto& [address, a] : allocations_) sum += a.device == device && !a.freed ? a.bytes : 0;
  return sum;
}

}  // namespace cudream::vgpu
