// One block: its warps, in turns.
#include "tests/vgpu/core/worker.h"

#include <algorithm>
#include <cstring>

#include "tests/vgpu/core/handlers.h"

namespace cudream::vgpu {
namespace {

constexpr uint32_t kTurn = 100'000;  // steps before another warp has its turn: one may wait for what another does

void fill(Warp& w, const Program::Constant& c) {
  switch (c.bytes) {
    case 1: w.predicate(c.reg) = c.value != 0 ? kFull : 0; break;
    case 2: std::fill_n(w.at<uint16_t>(c.reg), kLanes, static_cast<uint16_t>(c.value)); break;
    case 4: std::fill_n(w.at<uint32_t>(c.reg), kLanes, static_cast<uint32_t>(c.value)); break;
    default: std::fill_n(w.at<uint64_t>(c.reg), kLanes, c.value);
  }
}

}  // namespace

Worker::Worker(const Launch& launch, const DeviceMemory& memory, const LaunchOptions& options, BlockOrder* order) {
  const Program& p = *launch.program;
  block_.program = &p;
  block_.memory = &memory;
  block_.parameters = launch.parameters.data();
  block_.device = launch.device;
  block_.grid = launch.grid;
  block_.threads = launch.threads;
  block_.dynamic_shared = launch.dynamic_shared;
  block_.count_traffic = options.count_traffic;
  block_.order = order;
  block_.shared.begin_launch(launch.dynamic_shared > 0 ? p.dynamic_offset + launch.dynamic_shared : p.shared_bytes,
                             p.shared_grain);
  threads_ = static_cast<uint32_t>(launch.threads.size());
  const uint32_t warps = (threads_ + kLanes - 1) / kLanes;
  const size_t stride = (p.register_bytes + 63) / 64 * 64;
  registers_.reset(new (std::align_val_t{64}) uint8_t[std::max<size_t>(stride * warps, 64)]);
  local_.resize(size_t{p.local_bytes} * kLanes * warps);
  executed_.resize(p.code.size());
  block_.warps.resize(warps);
  for (uint32_t i = 0; i < warps; i++) {
    Warp& w = block_.warps[i];
    w.registers = registers_.get() + stride * i;
    w.local = local_.data() + size_t{p.local_bytes} * kLanes * i;
    w.block = &block_;
    w.index = i;
    std::memset(w.registers, 0xff, stride);
    for (const Program::Constant& c : p.constants) fill(w, c);
  }
}

void Worker::begin_block(uint64_t index) {
  const Dim& g = block_.grid;
  block_.id = {static_cast<uint32_t>(index % g.x), static_cast<uint32_t>(index / g.x % g.y),
               static_cast<uint32_t>(index / g.x / g.y)};
  block_.index = index;
  block_.shared.begin_block();
  std::fill(local_.begin(), local_.end(), uint8_t{0xff});
  for (Warp& w : block_.warps) begin(w);
}

Counters Worker::finish() {
  for (size_t i = 0; i < executed_.size(); i++)
    block_.counters.instructions[static_cast<size_t>(block_.program->code[i].cls)] += executed_[i];
  return block_.counters;
}

void Worker::begin(Warp& w) {
  const uint32_t lanes = std::min(threads_ - w.index * kLanes, kLanes);
  w.live = w.active = lanes == kLanes ? kFull : (1u << lanes) - 1;
  w.pc = w.laps = 0;
  w.done = w.at_barrier = w.stop = w.unfenced = false;
  w.groups.clear();
  w.copies.clear();
  w.async_group = {};
  w.time = block_.shared.tick();
  for (const Program::SpecialRegister& s : block_.program->specials) {
    uint32_t* reg = w.at<uint32_t>(s.reg);
    for (uint32_t lane = 0; lane < kLanes; lane++) reg[lane] = special(s.which, w.index * kLanes + lane, lane);
  }
}

uint32_t Worker::special(Special which, uint32_t thread, uint32_t lane) const {
  const Dim &t = block_.threads, &g = block_.grid;
  switch (which) {
    case Special::tid_x: return thread % t.x;
    case Special::tid_y: return thread / t.x % t.y;
    case Special::tid_z: return thread / t.x / t.y;
    case Special::ntid_x: return t.x;
    case Special::ntid_y: return t.y;
    case Special::ntid_z: return t.z;
    case Special::ctaid_x: return block_.id.x;
    case Special::ctaid_y: return block_.id.y;
    case Special::ctaid_z: return block_.id.z;
    case Special::nctaid_x: return g.x;
    case Special::nctaid_y: return g.y;
    case Special::nctaid_z: return g.z;
    case Special::laneid: return lane;
    case Special::warpid: return thread / kLanes;
    case Special::nwarpid: return static_cast<uint32_t>(block_.warps.size());
    case Special::smid: return 0;
    case Special::nsmid: return 1;
    case Special::lanemask_eq: return 1u << lane;
    case Special::lanemask_lt: return (1u << lane) - 1;
    case Special::lanemask_le: return (2u << lane) - 1;
    case Special::lanemask_gt: return ~((2u << lane) - 1);
    case Special::lanemask_ge: return ~((1u << lane) - 1);
    case Special::dynamic_smem_size: return block_.dynamic_shared;
  }
  return 0;
}

// Runs a warp until it stops at a barrier, ends, or has had its turn.
void Worker::run_warp(Warp& w) {
  const Inst* code = block_.program->code.data();
  w.stop = false;
  for (uint32_t steps = 0; !w.stop && steps < kTurn; steps++) {
    const Inst& inst = code[w.pc];
    if (inst.leader && !w.groups.empty()) {
      const uint32_t before = w.pc;
      w.meet();
      if (w.pc != before) continue;
    }
    w.pc++;
    w.mask = w.active;
    executed_[static_cast<size_t>(&inst - code)]++;  // skipped under its guard, it is issued all the same
    if (inst.guard != Inst::kAlways) {
      const uint32_t guard = w.predicate(inst.guard);
      w.mask &= inst.guard_inverted ? ~guard : guard;
      if (w.mask == 0) continue;
    }
    inst.run(w, inst);
  }
}

bool Worker::turn() {
  for (;;) {
    bool ended = true, stands = true;
    for (Warp& w : block_.warps) {
      if (!w.done && !w.at_barrier) run_warp(w);
      ended &= w.done;
      stands &= w.done || w.at_barrier;
    }
    if (ended) return false;
    if (!stands) return true;
    pass_barrier();
  }
}

void Worker::refuse_to_wait(const std::string& why) {
  Warp& w = *std::find_if(block_.warps.begin(), block_.warps.end(), [](const Warp& x) { return !x.done && !x.at_barrier; });
  fault(w, block_.program->code[w.pc], static_cast<uint32_t>(__builtin_ctz(w.active)), FaultKind::deadlock, why);
}

// All warps that live must have come to the same barrier: __syncthreads() in code that only some of them reach is an error.
void Worker::pass_barrier() {
  const Warp* first = nullptr;
  for (Warp& w : block_.warps) {
    if (w.done) continue;
    if (first == nullptr) first = &w;
    if (w.barrier_pc != first->barrier_pc) {
      fault(w, block_.program->code[w.barrier_pc], static_cast<uint32_t>(__builtin_ctz(w.active)), FaultKind::divergence,
            "the warps of a block wait at different barriers");
    }
  }
  block_.events++;
  finish_reduction(block_);
  const uint32_t time = block_.shared.barrier();
  for (Warp& w : block_.warps) {
    w.time = time;
    w.at_barrier = false;
  }
}

}  // namespace cudream::vgpu
