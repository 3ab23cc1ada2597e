// Divergence: groups of lanes, lowest program counter first.
#include "tests/vgpu/core/warp.h"

#include <fmt/format.h>

#include <bit>

namespace cudream::vgpu {
namespace {

constexpr uint32_t kLapLimit = 10'000;  // after so many visits another group gets its turn

}  // namespace

// Takes over the lanes of every group that waits at pc.
void Warp::gather(uint32_t at_pc) {
  std::erase_if(groups, [&](const Group& g) {
    if (g.pc != at_pc) return false;
    active |= g.mask;
    return true;
  });
}

void Warp::join() {
  gather(pc);
}

// Runs the group with the lowest pc that is not parked.
void Warp::pick() {
  size_t best = groups.size();
  for (size_t i = 0; i < groups.size(); i++) {
    if (!groups[i].parked && (best == groups.size() || groups[i].pc < groups[best].pc)) best = i;
  }
  if (best == groups.size()) {
    const Inst& waiting = block->program->code[groups[0].pc];
    fault(*this, waiting, static_cast<uint32_t>(std::countr_zero(groups[0].mask)), FaultKind::divergence,
          fmt::format("lanes of a warp wait at different warp-wide instructions: only {:#010x} of {:#010x} came to this one",
                      groups[0].mask, live));
  }
  pc = groups[best].pc;
  active = groups[best].mask;
  groups.erase(groups.begin() + static_cast<ptrdiff_t>(best));
  join();
}

// At a jump target, with other groups about.
void Warp::meet() {
  join();
  if (groups.empty()) return;
  bool lower = false;
  const Group* other = nullptr;
  for (const Group& g : groups) {
    if (g.parked) continue;
    lower |= g.pc < pc;
    other = &g;
  }
  const bool take_turns = other != nullptr && ++laps > kLapLimit;
  if (!lower && !take_turns) return;
  laps = 0;
  if (lower) {
    groups.push_back({pc, active, false});
    pick();
    return;
  }
  const Group turn = *other;
  std::erase_if(groups, [&](const Group& g) { return g.pc == turn.pc; });
  groups.push_back({pc, active, false});
  pc = turn.pc;
  active = turn.mask;
}

// A branch taken by the lanes of `mask`.
void Warp::jump(uint32_t target) {
  const uint32_t stay = active & ~mask;
  if (stay != 0) {
    block->counters.divergences++;
    groups.push_back({pc, stay, false});
    active = mask;
  }
  pc = target;
  if (!groups.empty()) meet();
}

void Warp::retire() {
  live &= ~mask;
  active &= ~mask;
  for (Group& g : groups) g.parked = false;  // who waited for these lanes looks again
  if (active != 0) return;
  if (groups.empty()) {
    done = stop = true;
    block->events++;
    return;
  }
  pick();
}

void Warp::park() {
  groups.push_back({pc - 1, active, true});
  active = 0;
  pick();
}

bool Warp::synchronise(uint32_t members, const Inst& inst) {
  members &= live;
  if ((members & ~active) != 0) {
    gather(pc - 1);
    mask = active;
    if (inst.guard != Inst::kAlways) mask &= inst.guard_inverted ? ~predicate(inst.guard) : predicate(inst.guard);
    if ((members & ~active) != 0) {
      park();
      return false;
    }
  }
  if ((members & ~mask) != 0) {
    fault(
        *this, inst, static_cast<uint32_t>(std::countr_zero(members & ~mask)), FaultKind::divergence,
        fmt::format("a warp-wide instruction is skipped by lanes that it names: {:#010x} of {:#010x} take part", mask, members));
  }
  time = block->shared.tick();
  if (time == SharedMemory::kNever) {
    fault(*this, inst, 0, FaultKind::illegal_instruction,
          "too many warp synchronisations between two barriers for the race check");
  }
  return true;
}

void fault(const Warp& warp, const Inst& inst, uint32_t lane, FaultKind kind, const std::string& what) {
  const Block& b = *warp.block;
  const uint32_t t = warp.index * kLanes + lane;
  const auto& origin = *inst.origin;
  const ptx::Module& module = *b.program->module;
  const ptx::SourceLine& at = origin.source;
  std::string source;
  if (at.line != 0) source = fmt::format(", {}:{}", module.file(at.file), at.line);
  if (at.caller_line != 0) source += fmt::format(" inlined at {}:{}", module.file(at.caller_file), at.caller_line);
  throw Fault(kind, fmt::format("{}\n  in kernel {}, PTX line {}{}: {}\n  thread ({}, {}, {}) of block ({}, {}, {})", what,
                                b.program->name(), origin.line, source, origin.text, t % b.threads.x,
                                t / b.threads.x % b.threads.y, t / b.threads.x / b.threads.y, b.id.x, b.id.y, b.id.z));
}

}  // namespace cudream::vgpu
