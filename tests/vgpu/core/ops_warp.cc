// Warp-wide instructions (PTX ISA 9.0, sections 9.7.9.6 and 9.7.13): shfl, vote, match, redux, activemask.
#include <fmt/format.h>

#include <cstring>

#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

enum class Shuffle : uint8_t { up, down, bfly, idx };
enum class Vote : uint8_t { all, any, uni, ballot };
enum class Reduce : uint8_t { add, min, max, bit_and, bit_or, bit_xor };
constexpr uint32_t kMembersSlot = 4;

uint32_t first_lane(uint32_t mask) {
  return static_cast<uint32_t>(__builtin_ctz(mask));
}

// Brings the lanes that the membermask names together; false while some are missing. Naming a mask without oneself is an
// error, as is a different mask in another lane.
bool assemble(Warp& w, const Inst& inst) {
  const uint32_t* members = w.at<uint32_t>(inst.reg[kMembersSlot]);
  const uint32_t lane = first_lane(w.mask), named = members[lane];
  if ((named >> lane & 1) == 0) fault(w, inst, lane, FaultKind::divergence, "the membermask does not name the lane itself");
  return w.synchronise(named, inst);
}

void shuffle(Warp& w, const Inst& inst) {
  if (!assemble(w, inst)) return;
  std::array<uint32_t, kLanes> from;
  std::memcpy(from.data(), w.at<uint32_t>(inst.reg[1]), sizeof from);
  const uint32_t *b = w.at<uint32_t>(inst.reg[2]), *c = w.at<uint32_t>(inst.reg[3]);
  uint32_t* out = w.at<uint32_t>(inst.reg[0]);
  uint32_t valid = 0;
  each_lane(w, [&](uint32_t lane) {
    const uint32_t step = b[lane] & 31, clamp = c[lane] & 31, segment = c[lane] >> 8 & 31;
    const uint32_t low = lane & segment, high = low | (clamp & ~segment);
    uint32_t source = 0;
    bool inside = false;
    switch (static_cast<Shuffle>(inst.mode)) {
      case Shuffle::up:
        source = lane - step;
        inside = static_cast<int32_t>(source) >= static_cast<int32_t>(high);
        break;
      case Shuffle::down:
        source = lane + step;
        inside = source <= high;
        break;
      case Shuffle::bfly:
        source = lane ^ step;
        inside = source <= high;
        break;
      case Shuffle::idx:
        source = low | (step & ~segment);
        inside = source <= high;
        break;
    }
    if (!inside) source = lane;
    if ((w.mask >> source & 1) == 0) {
      fault(w, inst, lane, FaultKind::divergence, fmt::format("shuffle from lane {}, which does not take part", source));
    }
    out[lane] = from[source];
    valid |= static_cast<uint32_t>(inside) << lane;
  });
  if ((inst.defs & (1u << 5)) != 0) w.set_predicate(inst.reg[5], valid);
}

void vote(Warp& w, const Inst& inst) {
  if (!assemble(w, inst)) return;
  const uint32_t yes = w.predicate(inst.reg[1]) & w.mask;
  const auto kind = static_cast<Vote>(inst.mode);
  if (kind == Vote::ballot) {
    each_lane(w, [&](uint32_t lane) { w.at<uint32_t>(inst.reg[0])[lane] = yes; });
    return;
  }
  const bool result = kind == Vote::any ? yes != 0 : kind == Vote::all ? yes == w.mask : yes == 0 || yes == w.mask;
  w.set_predicate(inst.reg[0], result ? kFull : 0);
}

// match.any: the lanes whose value is mine. flag (match.all): all of them, or none.
template <typename T>
void match(Warp& w, const Inst& inst) {
  if (!assemble(w, inst)) return;
  std::array<T, kLanes> value;
  std::memcpy(value.data(), w.at<T>(inst.reg[1]), sizeof value);
  uint32_t agreeing = 0;
  each_lane(w, [&](uint32_t lane) {
    uint32_t same = 0;
    each_lane(w, [&](uint32_t other) { same |= static_cast<uint32_t>(value[other] == value[lane]) << other; });
    const bool all = same == w.mask;
    agreeing |= static_cast<uint32_t>(all) << lane;
    w.at<uint32_t>(inst.reg[0])[lane] = inst.flag != 0 && !all ? 0 : same;
  });
  if ((inst.defs & (1u << 5)) != 0) w.set_predicate(inst.reg[5], agreeing);
}

template <typename T>
void reduce(Warp& w, const Inst& inst) {
  if (!assemble(w, inst)) return;
  const T* in = w.at<T>(inst.reg[1]);
  const auto op = static_cast<Reduce>(inst.mode);
  T sum = in[first_lane(w.mask)];
  for (uint32_t lane = first_lane(w.mask) + 1; lane < kLanes; lane++) {
    if ((w.mask >> lane & 1) == 0) continue;
    const T v = in[lane];
    switch (op) {
      case Reduce::add: sum = static_cast<T>(static_cast<uint32_t>(sum) + static_cast<uint32_t>(v)); break;
      case Reduce::min: sum = std::min(sum, v); break;
      case Reduce::max: sum = std::max(sum, v); break;
      case Reduce::bit_and: sum &= v; break;
      case Reduce::bit_or: sum |= v; break;
      case Reduce::bit_xor: sum ^= v; break;
    }
  }
  each_lane(w, [&](uint32_t lane) { w.at<T>(inst.reg[0])[lane] = sum; });
}

void active_mask(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) { w.at<uint32_t>(inst.reg[0])[lane] = w.mask; });
}

// Result, possibly with a predicate beside it: d|p.
void def_with_predicate(Decoding& d) {
  const auto results = d.elements(0);
  d.def(0, results[0], Type::b32);
  if (results.size() > 1) d.def(5, results[1], Type::pred);
}

}  // namespace

void decode_shfl(Decoding& d) {
  if (!d.take("sync")) d.refuse("only the .sync form is known");
  d.inst.mode = d.take_one({"up", "down", "bfly", "idx"});
  if (d.take_type() != Type::b32) d.refuse("shfl is of .b32");
  def_with_predicate(d);
  for (uint32_t i = 1; i <= 4; i++) d.use(i, i, Type::b32);
  d.emit(&shuffle);
}

void decode_vote(Decoding& d) {
  if (!d.take("sync")) d.refuse("only the .sync form is known");
  d.inst.mode = d.take_one({"all", "any", "uni", "ballot"});
  d.def(0, 0, d.take_type());
  d.use(1, 1, Type::pred);
  d.use(kMembersSlot, 2, Type::b32);
  d.emit(&vote);
}

void decode_match(Decoding& d) {
  d.inst.flag = d.take_one({"any", "all"});
  if (!d.take("sync")) d.refuse("only the .sync form is known");
  const Type type = d.take_type();
  def_with_predicate(d);
  d.use(1, 1, type);
  d.use(kMembersSlot, 2, Type::b32);
  d.emit(size_of(type) == 8 ? &match<uint64_t> : &match<uint32_t>);
}

void decode_redux(Decoding& d) {
  if (!d.take("sync")) d.refuse("only the .sync form is known");
  d.inst.mode = d.take_one({"add", "min", "max", "and", "or", "xor"});
  const Type type = d.take_type();
  d.def(0, 0, type);
  d.use(1, 1, type);
  d.use(kMembersSlot, 2, Type::b32);
  d.emit(type == Type::s32 ? &reduce<int32_t> : size_of(type) == 4 && !is_float(type) ? &reduce<uint32_t> : nullptr);
}

void decode_activemask(Decoding& d) {
  d.def(0, 0, d.take_type());
  d.emit(&active_mask);
}

}  // namespace cudream::vgpu
