// Filling, copying, and who waits for whom.
#include "kernels/cuda/upload_ring.h"

#include <algorithm>
#include <future>
#include <vector>

#include "core/error.h"

namespace cudream {
namespace {

constexpr int64_t kPiece = int64_t{2} << 20;  // what one thread fills: several pieces stay in the caches on their way

void fill_in_pieces(std::span<std::byte> slot, const std::function<void(std::span<std::byte>, int64_t)>& fill) {
  std::vector<std::future<void>> others;
  const auto size = static_cast<int64_t>(slot.size());
  for (int64_t from = kPiece; from < size; from += kPiece)
    others.push_back(std::async(std::launch::async, [=, &fill] {
      fill(slot.subspan(static_cast<size_t>(from), static_cast<size_t>(std::min(kPiece, size - from))), from);
    }));
  fill(slot.first(static_cast<size_t>(std::min(kPiece, size))), 0);
  for (std::future<void>& f : others) f.get();
}

}  // namespace

UploadRing::UploadRing(Gpu& gpu) : gpu_(gpu), stream_(gpu.make_stream()) {
  host_ = static_cast<std::byte*>(gpu.allocate_host(kBytes));
  device_ = static_cast<std::byte*>(gpu.allocate(kBytes));
  for (size_t i = 0; i < slots_.size(); i++) {
    const auto at = static_cast<int64_t>(i) * kSlotBytes;
    slots_[i] = {host_ + at, device_ + at, gpu.make_event(), gpu.make_event()};
  }
}

UploadRing::~UploadRing() {
  gpu_.release(device_);  // waits for the work that reads it, and so for the copies before that
  gpu_.release_host(host_);
}

const void* UploadRing::send(int64_t bytes, const std::function<void(std::span<std::byte>, int64_t)>& fill) {
  invariant(bytes <= kSlotBytes, "{} bytes for a slot", bytes);
  const Driver& driver = gpu_.driver();
  Slot& slot = slots_[next_];
  gpu_.use();
  // An event that was never recorded makes nobody wait.
  driver.check(driver.event_wait(slot.copied.get()), "waiting for a copy to {}", gpu_.name());
  fill_in_pieces({slot.host, static_cast<size_t>(bytes)}, fill);
  driver.check(driver.stream_wait_event(stream_.get(), slot.used.get(), 0), "queueing a copy to {}", gpu_.name());
  driver.check(
      driver.copy_to_device(reinterpret_cast<Driver::Pointer>(slot.device), slot.host, static_cast<size_t>(bytes), stream_.get()),
      "copying {} bytes to {}", bytes, gpu_.name());
  driver.check(driver.event_record(slot.copied.get(), stream_.get()), "queueing a copy to {}", gpu_.name());
  driver.check(driver.stream_wait_event(gpu_.stream(), slot.copied.get(), 0), "queueing a copy to {}", gpu_.name());
  return slot.device;
}

void UploadRing::used() {
  gpu_.driver().check(gpu_.driver().event_record(slots_[next_].used.get(), gpu_.stream()), "queueing work on {}", gpu_.name());
  next_ = (next_ + 1) % slots_.size();
}

}  // namespace cudream
