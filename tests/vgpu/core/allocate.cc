// Linear scan over the lives of virtual registers, by width.
#include <algorithm>
#include <queue>

#include "tests/vgpu/core/handlers.h"
#include "tests/vgpu/core/program.h"

namespace cudream::vgpu {
namespace {

// Bytes of a whole warp: predicates are one 32-bit mask.
uint32_t warp_bytes(uint32_t lane_bytes) {
  return lane_bytes == 1 ? 64 : lane_bytes * 32;
}

class Liveness {
 public:
  Liveness(const std::vector<Inst>& code, size_t registers)
      : code_(code), words_((registers + 63) / 64), first_(registers, ~0u), last_(registers, 0) {
    split();
    solve();
    for (const BasicBlock& b : blocks_) extend(b);
  }
  // Instructions from and to which the register holds a value; first > last: never used.
  uint32_t first(uint32_t reg) const { return first_[reg]; }
  uint32_t last(uint32_t reg) const { return last_[reg]; }

 private:
  using Set = std::vector<uint64_t>;
  struct BasicBlock {
    uint32_t begin, end;
    std::vector<uint32_t> next;
    Set in, out, made, needed;
  };

  static void insert(Set& s, uint32_t reg) { s[reg / 64] |= uint64_t{1} << reg % 64; }
  static bool contains(const Set& s, uint32_t reg) { return (s[reg / 64] >> reg % 64 & 1) != 0; }

  // A definition under a guard keeps the old value in the other lanes, so it is a use as well. Lanes in different groups need
  // no more care: each follows a path of the control flow, and places are shared lane by lane.
  template <typename Function>
  void each_use(const Inst& inst, Function f) const {
    if (inst.guard != Inst::kAlways) f(inst.guard);
    const uint32_t used = inst.uses | (inst.guard != Inst::kAlways ? inst.defs : 0);
    for (uint32_t slot = 0; slot < Inst::kSlots; slot++) {
      if ((used >> slot & 1) != 0) f(inst.reg[slot]);
    }
  }
  template <typename Function>
  void each_def(const Inst& inst, Function f) const {
    for (uint32_t slot = 0; slot < Inst::kSlots; slot++) {
      if ((inst.defs >> slot & 1) != 0) f(inst.reg[slot]);
    }
  }

  void split() {
    const auto n = static_cast<uint32_t>(code_.size());
    std::vector<uint32_t> block_of(n);
    for (uint32_t i = 0; i < n; i++) {
      if (i == 0 || code_[i].leader || code_[i - 1].cls == Class::control) {
        blocks_.push_back({i, i, {}, Set(words_), Set(words_), Set(words_), Set(words_)});
      }
      block_of[i] = static_cast<uint32_t>(blocks_.size() - 1);
      blocks_.back().end = i + 1;
    }
    for (uint32_t b = 0; b < blocks_.size(); b++) {
      BasicBlock& block = blocks_[b];
      const Inst& last = code_[block.end - 1];
      const bool jumps = is_jump(last);
      const bool falls_through = last.cls != Class::control || last.guard != Inst::kAlways;
      if (jumps) block.next.push_back(block_of[static_cast<size_t>(last.imm)]);
      if (falls_through && b + 1 < blocks_.size()) block.next.push_back(b + 1);
      for (uint32_t i = block.begin; i < block.end; i++) {
        each_use(code_[i], [&](uint32_t reg) {
          if (!contains(block.made, reg)) insert(block.needed, reg);
        });
        each_def(code_[i], [&](uint32_t reg) { insert(block.made, reg); });
      }
    }
  }

  void solve() {
    for (bool changed = true; changed;) {
      changed = false;
      for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
        for (size_t i = 0; i < words_; i++) {
          for (const uint32_t next : block->next) block->out[i] |= blocks_[next].in[i];
          const uint64_t in = block->needed[i] | (block->out[i] & ~block->made[i]);
          changed |= in != block->in[i];
          block->in[i] = in;
        }
      }
    }
  }

  void touch(uint32_t reg, uint32_t at) {
    first_[reg] = std::min(first_[reg], at);
    last_[reg] = std::max(last_[reg], at);
  }

  void extend(const BasicBlock& block) {
    for (uint32_t i = block.begin; i < block.end; i++) {
      each_use(code_[i], [&](uint32_t reg) { touch(reg, i); });
      each_def(code_[i], [&](uint32_t reg) { touch(reg, i); });
    }
    for (uint32_t reg = 0; reg < first_.size(); reg++) {
      if (contains(block.in, reg)) touch(reg, block.begin);
      if (contains(block.out, reg)) touch(reg, block.end);
    }
  }

  const std::vector<Inst>& code_;
  size_t words_;
  std::vector<BasicBlock> blocks_;
  std::vector<uint32_t> first_, last_;
};

}  // namespace

std::vector<uint32_t> allocate_registers(Program& program, const std::vector<uint8_t>& sizes, const std::vector<bool>& pinned) {
  const Liveness lives(program.code, sizes.size());
  std::vector<uint32_t> place(sizes.size(), 0), order;
  uint32_t top = 0;
  for (uint32_t reg = 0; reg < sizes.size(); reg++) {
    if (pinned[reg]) {
      place[reg] = top;
      top += warp_bytes(sizes[reg]);
    } else if (lives.first(reg) <= lives.last(reg)) {
      order.push_back(reg);
    }
  }
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return lives.first(a) < lives.first(b); });
  const auto ends_later = [&](uint32_t a, uint32_t b) { return lives.last(a) > lives.last(b); };
  std::priority_queue<uint32_t, std::vector<uint32_t>, decltype(ends_later)> active(ends_later);
  std::array<std::vector<uint32_t>, 257> free_places;  // by bytes of a warp
  for (const uint32_t reg : order) {
    for (; !active.empty() && lives.last(active.top()) < lives.first(reg); active.pop()) {
      free_places[warp_bytes(sizes[active.top()])].push_back(place[active.top()]);
    }
    const uint32_t bytes = warp_bytes(sizes[reg]);
    auto& free = free_places[bytes];
    if (free.empty()) {
      place[reg] = top;
      top += bytes;
    } else {
      place[reg] = free.back();
      free.pop_back();
    }
    active.push(reg);
  }
  program.register_bytes = top;
  return place;
}

}  // namespace cudream::vgpu
