// Asynchronous copies to shared memory (PTX ISA 9.0, section 9.7.9.25): cp.async and its groups.
// A copy is performed when its group is waited for, the latest legal moment; until then its bytes may not be touched.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tests/vgpu/core/access.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

constexpr uint32_t kToSlot = 12, kFromSlot = 11, kSizeSlot = 10;

// count: bytes. flag: the source size is in a register, the rest is filled with zeros.
void copy_async(Warp& w, const Inst& inst) {
  std::array<uint64_t, kLanes> to;
  gather_addresses(w, inst, inst.reg[kToSlot], inst.imm, to);
  const uint64_t* from = w.at<uint64_t>(inst.reg[kFromSlot]);
  const uint32_t bytes = inst.count;
  SharedMemory& shared = w.block->shared;
  Counters& counters = w.block->counters;
  std::array<uint64_t, kLanes> sources{};
  uint32_t reading = 0;
  each_lane(w, [&](uint32_t lane) {
    const uint32_t source_bytes = inst.flag != 0 ? w.at<uint32_t>(inst.reg[kSizeSlot])[lane] : bytes;
    if (source_bytes > bytes) {
      fault(w, inst, lane, FaultKind::illegal_instruction,
            fmt::format("cp.async of {} bytes with a source of {}", bytes, source_bytes));
    }
    const uint64_t source = from[lane] + static_cast<uint64_t>(inst.imm2);
    const uint32_t offset = check_shared(w, inst, lane, to[lane], bytes);
    if (source_bytes == bytes) {
      global_pointer(w, inst, lane, source, bytes, Access::read);
    } else {
      for (uint32_t i = 0; i < source_bytes; i++) global_pointer(w, inst, lane, source + i, 1, Access::read);
      if (source % bytes != 0)
        fault(w, inst, lane, FaultKind::misaligned, fmt::format("misaligned cp.async of {} bytes from {:#x}", bytes, source));
    }
    report(w, inst, lane, shared.begin_async(w.accessor(lane), offset, bytes), offset);
    w.copies.push_back(
        {source, offset, lane, w.async_group[lane], static_cast<uint16_t>(bytes), static_cast<uint16_t>(source_bytes)});
    if (source_bytes == 0) return;
    sources[lane] = source;
    reading |= 1u << lane;
    counters.global_read_bytes += source_bytes;
  });
  if (!w.block->count_traffic) return;
  counters.global_read_sectors += count_sectors(sources.data(), reading);
  const Wavefronts n = count_wavefronts(to.data(), w.mask, bytes);
  counters.shared_wavefronts += n.needed;
  counters.shared_ideal += n.ideal;
}

void commit_group(Warp& w, const Inst&) {
  each_lane(w, [&](uint32_t lane) { w.async_group[lane]++; });
}

// Waits until at most imm groups are pending; all of them, the open one included, for imm < 0.
void wait_group(Warp& w, const Inst& inst) {
  SharedMemory& shared = w.block->shared;
  std::erase_if(w.copies, [&](const AsyncCopy& c) {
    const bool due =
        (w.mask >> c.lane & 1) != 0 && (inst.imm < 0 || c.group + static_cast<uint64_t>(inst.imm) < w.async_group[c.lane]);
    if (!due) return false;
    uint8_t* place = shared.data() + c.to;
    if (c.source_bytes > 0) std::memcpy(place, w.block->allocation(inst, c.source)->at(c.source), c.source_bytes);
    std::memset(place + c.source_bytes, 0, c.bytes - c.source_bytes);
    shared.deliver(w.accessor(c.lane), c.to, c.bytes);
    return true;
  });
}

}  // namespace

void decode_cp(Decoding& d) {
  if (!d.take("async")) d.refuse("only cp.async is known");
  if (d.take("commit_group")) return d.emit(&commit_group);
  if (d.take("wait_group")) {
    d.inst.imm = d.immediate(0);
    return d.emit(&wait_group);
  }
  if (d.take("wait_all")) {
    d.inst.imm = -1;
    return d.emit(&wait_group);
  }
  const bool to_l2 = d.take_one({"ca", "cg"}) == 1;
  if ((!d.take("shared") && !d.take("shared::cta")) || !d.take("global")) d.refuse("only .shared.global is known");
  d.ignore({"L2::64B", "L2::128B", "L2::256B"});
  const int64_t bytes = d.immediate(2);
  if (bytes != 16 && (to_l2 || (bytes != 4 && bytes != 8))) d.refuse("the size must be 4, 8 or 16; 16 with .cg");
  d.inst.count = static_cast<uint8_t>(bytes);
  d.inst.imm2 = d.address(kFromSlot, 1);
  if (!d.inst.wide_address) d.refuse("global addresses have 64 bits");
  d.inst.imm = d.address(kToSlot, 0);
  if (d.operands() > 3) {
    d.inst.flag = 1;
    d.use(kSizeSlot, 3, Type::u32);
  }
  d.emit(&copy_async);
}

}  // namespace cudream::vgpu
