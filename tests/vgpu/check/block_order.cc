// Who of the blocks touched what, and whom each has seen.
#include "tests/vgpu/check/block_order.h"

namespace cudream::vgpu {

BlockOrder::Touched* BlockOrder::touched(const Allocation& a, uint64_t address) {
  auto& places = touched_[a.address];
  // calloc takes zeros from the system a page at a time: a launch touches little of a slab of weights.
  if (places == nullptr) places.reset(static_cast<Touched*>(std::calloc(a.bytes / 2 + 1, sizeof(Touched))));
  return &places[(address - a.address) / 2];
}

bool BlockOrder::ordered(uint32_t earlier, uint64_t block) const {
  return earlier == 0 || earlier == block + 1 || (earlier != kMany && sees_[block].contains(earlier - 1));
}

bool BlockOrder::read(uint64_t block, const Allocation& a, uint64_t address, uint32_t bytes) {
  const std::lock_guard lock(mutex_);
  const auto self = static_cast<uint32_t>(block + 1);
  Touched* t = touched(a, address);
  for (uint32_t i = 0; i < bytes / 2; i++) {
    if (!ordered(t[i].writer, block)) return false;
    t[i].reader = t[i].reader == 0 || t[i].reader == self ? self : kMany;
  }
  return true;
}

bool BlockOrder::write(uint64_t block, const Allocation& a, uint64_t address, uint32_t bytes) {
  const std::lock_guard lock(mutex_);
  Touched* t = touched(a, address);
  for (uint32_t i = 0; i < bytes / 2; i++) {
    if (!ordered(t[i].writer, block) || !ordered(t[i].reader, block)) return false;
    t[i] = {static_cast<uint32_t>(block + 1), 0};
  }
  return true;
}

void BlockOrder::atomic(uint64_t block, uint64_t address, bool fenced) {
  const std::lock_guard lock(mutex_);
  std::set<uint64_t>& published = published_[address];
  sees_[block].insert(published.begin(), published.end());
  if (!fenced) return;
  published.insert(block);
  published.insert(sees_[block].begin(), sees_[block].end());  // what it saw is seen with it
}

void BlockOrder::acquire(uint64_t block, uint64_t address) {
  const std::lock_guard lock(mutex_);
  const std::set<uint64_t>& published = published_[address];
  sees_[block].insert(published.begin(), published.end());
}

}  // namespace cudream::vgpu
