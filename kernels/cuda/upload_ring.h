// A ring of pinned memory through which stored weights go to the device: while one slot is copied, on a stream of its own, the
// host fills the next. Pageable memory would make every copy wait for a buffer of the driver's.
#pragma once

#include <array>
#include <functional>
#include <span>

#include "kernels/cuda/gpu.h"

namespace cudream {

class UploadRing {
 public:
  static constexpr int64_t kSlotBytes = int64_t{8} << 20, kSlots = 4, kBytes = kSlots * kSlotBytes;

  explicit UploadRing(Gpu&);
  ~UploadRing();
  UploadRing(const UploadRing&) = delete;
  UploadRing& operator=(const UploadRing&) = delete;

  // Fills the next slot with `bytes` and starts its copy, which later work of the GPU's own stream waits for; returns where the
  // bytes will lie there. `fill` is called for pieces of the slot, by several threads at once. used() comes after the work that
  // reads the bytes was queued.
  const void* send(int64_t bytes, const std::function<void(std::span<std::byte> to, int64_t offset)>& fill);
  void used();

 private:
  struct Slot {
    std::byte* host = nullptr;
    std::byte* device = nullptr;
    Owned<Driver::Event> copied, used;
  };
  Gpu& gpu_;
  Owned<Driver::Stream> stream_;
  std::byte *host_ = nullptr, *device_ = nullptr;
  std::array<Slot, kSlots> slots_;
  size_t next_ = 0;
};

}  // namespace cudream
