// Recording lives, placing blocks, and following a layout.
#include "kernels/arena.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"

namespace cudream {
namespace {

int64_t padded(int64_t bytes) {
  return std::max<int64_t>(1, (bytes + kBlockAlign - 1) / kBlockAlign) * kBlockAlign;
}

}  // namespace

void Arena::rehearse() {
  invariant(empty(), "arena {} still holds blocks", name_);
  layout_ = nullptr;
  slab_ = nullptr;
  next_ = clock_ = 0;
  fake_bytes_ = 0;
  lives_.clear();
}

void Arena::follow(const ArenaLayout* layout, void* slab) {
  invariant(empty(), "arena {} still holds blocks", name_);
  layout_ = layout;
  slab_ = static_cast<std::byte*>(slab);
  next_ = clock_ = 0;
  lives_.clear();
}

size_t Arena::take(int64_t bytes) {
  bytes = padded(bytes);
  if (layout_ != nullptr) {
    invariant(next_ < layout_->blocks.size() && layout_->blocks[next_].bytes == bytes,
              "arena {} strays from its rehearsal at block {}: {} bytes", name_, next_, bytes);
  } else {
    lives_.push_back({.bytes = bytes, .fake = fake_bytes_, .born = clock_++, .dead = 0});
    fake_bytes_ += bytes;
  }
  alive_++;
  return next_++;
}

void* Arena::address(size_t block) const {
  if (layout_ != nullptr) return slab_ + layout_->blocks[block].offset;
  return reinterpret_cast<void*>(fake_ + static_cast<uintptr_t>(lives_[block].fake));  // NOLINT(performance-no-int-to-ptr)
}

bool Arena::rehearsed(const void* at) const {
  const auto address = reinterpret_cast<uintptr_t>(at);
  return address >= fake_ && address < fake_ + static_cast<uintptr_t>(fake_bytes_);
}

void Arena::give(size_t block) noexcept {
  alive_--;
  if (layout_ == nullptr && block < lives_.size()) lives_[block].dead = clock_++;
}

ArenaLayout Arena::plan() const {
  ArenaLayout layout;
  layout.blocks.resize(lives_.size());
  const auto dead = [&](size_t i) { return lives_[i].dead == 0 ? clock_ : lives_[i].dead; };

  // The lower bound: walk the births and deaths in time.
  std::vector<int64_t> change(clock_ + 1, 0);
  for (size_t i = 0; i < lives_.size(); i++) {
    change[lives_[i].born] += lives_[i].bytes;
    change[dead(i)] -= lives_[i].bytes;
  }
  int64_t now = 0;
  for (const int64_t delta : change) layout.lower_bound = std::max(layout.lower_bound, now += delta);

  // Largest first, each at the lowest gap between the placed blocks that live at the same time.
  std::vector<size_t> order(lives_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return lives_[a].bytes > lives_[b].bytes; });
  std::vector<size_t> placed;  // by offset
  for (const size_t i : order) {
    int64_t offset = 0;
    for (const size_t j : placed) {
      if (lives_[j].born >= dead(i) || lives_[i].born >= dead(j)) continue;
      if (layout.blocks[j].offset >= offset + lives_[i].bytes) break;
      offset = std::max(offset, layout.blocks[j].offset + lives_[j].bytes);
    }
    layout.blocks[i] = {.bytes = lives_[i].bytes, .offset = offset};
    layout.bytes = std::max(layout.bytes, offset + lives_[i].bytes);
    const auto at = std::upper_bound(placed.begin(), placed.end(), i,
                                     [&](size_t a, size_t b) { return layout.blocks[a].offset < layout.blocks[b].offset; });
    placed.insert(at, i);
  }
  return layout;
}

Tensor::Tensor(Arena& arena, DType type, const Shape& shape) : arena_(&arena) {
  block_ = arena.take(shape.size() * size_of(type));
  view_ = View(arena.address(block_), type, shape);
}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  if (this == &other) return *this;
  reset();
  arena_ = std::exchange(other.arena_, nullptr);
  block_ = other.block_;
  view_ = std::exchange(other.view_, View{});
  return *this;
}

void Tensor::reset() noexcept {
  if (arena_ != nullptr) std::exchange(arena_, nullptr)->give(block_);
  view_ = View{};
}

Tensor Tensor::reshape(const Shape& shape) && {
  Tensor t = std::move(*this);
  t.view_ = t.view_.reshape(shape);
  return t;
}

}  // namespace cudream
