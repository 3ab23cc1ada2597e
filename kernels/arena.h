// Planned memory: an arena hands out blocks of one slab, first while it watches (a rehearsal), then from a layout.
//
// A rehearsal records the size and the life of every block. plan() gives each an offset so that no two blocks alive at
// once overlap, largest first ("Efficient Memory Management for Deep Neural Net Inference", Pisarchyk and Lee 2020,
// greedy by size). The real run takes the same blocks in the same order and finds each at its planned place, so the
// need is known to the byte before anything runs and addresses never move between runs of one shape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/device.h"

namespace cudream {

// Offsets of the blocks in the order they are taken.
struct ArenaLayout {
  struct Block {
    int64_t bytes = 0, offset = 0;
  };
  std::vector<Block> blocks;
  int64_t bytes = 0;        // the slab this layout needs
  int64_t lower_bound = 0;  // the most bytes ever alive at once: no layout can need less
};

class Arena {
 public:
  // In a rehearsal the addresses of its blocks begin at `fake` and never overlap. They are never read.
  Arena(std::string name, uintptr_t fake) : name_(std::move(name)), fake_(fake) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void rehearse();                                     // from now on blocks have no memory; lives are recorded
  ArenaLayout plan() const;                            // of what the rehearsal saw
  void follow(const ArenaLayout* layout, void* slab);  // from now on the i-th take gets the i-th block of the slab
  size_t take(int64_t bytes);                          // the number of the block; Error(internal) if it strays
  void* address(size_t block) const;
  bool rehearsed(const void* at) const;  // whether the rehearsal gave out this address
  void give(size_t block) noexcept;
  bool empty() const { return alive_ == 0; }

 private:
  struct Life {
    int64_t bytes = 0, fake = 0;  // fake: its place in a slab that reuses nothing
    size_t born = 0, dead = 0;    // in takes and gives; dead 0: still alive
  };
  std::string name_;
  uintptr_t fake_;
  int64_t fake_bytes_ = 0;
  const ArenaLayout* layout_ = nullptr;  // null: rehearsing
  std::byte* slab_ = nullptr;
  size_t next_ = 0, alive_ = 0, clock_ = 0;
  std::vector<Life> lives_;
};

// An array in an arena: owns one block, moves, never copies.
class Tensor {
 public:
  Tensor() = default;
  Tensor(Arena& arena, DType type, const Shape& shape);
  Tensor(Tensor&& other) noexcept { *this = std::move(other); }
  Tensor& operator=(Tensor&& other) noexcept;
  ~Tensor() { reset(); }

  void reset() noexcept;
  const View& view() const& { return view_; }
  operator View() const& { return view_; }  // NOLINT: a tensor is used as the window onto it
  operator View() && = delete;              // the window would outlive the memory
  const Shape& shape() const { return view_.shape; }
  DType dtype() const { return view_.dtype; }
  explicit operator bool() const { return arena_ != nullptr; }
  View slice(int axis, int64_t from, int64_t to) const& { return view_.slice(axis, from, to); }
  Tensor reshape(const Shape& shape) &&;

 private:
  Arena* arena_ = nullptr;
  size_t block_ = 0;
  View view_;
};

}  // namespace cudream
