// Atomics: atom and red (PTX ISA 9.0, section 9.7.13). The lanes of a warp go one after the other, lowest first.
#include <array>
#include <atomic>
#include <bit>

#include "tests/vgpu/core/access.h"
#include "tests/vgpu/core/floating.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

enum class Atomic : uint8_t { add, min, max, inc, dec, bit_and, bit_or, bit_xor, exch, cas };
constexpr uint32_t kAddressSlot = 12;

template <typename T>
T combine(Atomic op, T old, T b, T c) {
  switch (op) {
    case Atomic::add:
      if constexpr (std::is_floating_point_v<T>)
        return old + b;
      else
        return static_cast<T>(static_cast<std::make_unsigned_t<T>>(old) + static_cast<std::make_unsigned_t<T>>(b));
    case Atomic::min: return old < b ? old : b;
    case Atomic::max: return old > b ? old : b;
    case Atomic::inc: return old >= b ? T{0} : static_cast<T>(old + 1);
    case Atomic::dec: return old == 0 || old > b ? b : static_cast<T>(old - 1);
    case Atomic::exch: return b;
    case Atomic::cas: return old == b ? c : old;
    default: break;
  }
  if constexpr (std::is_integral_v<T>) {
    if (op == Atomic::bit_and) return old & b;
    return op == Atomic::bit_or ? old | b : old ^ b;
  }
  return old;
}

// Sums of the halves in a word of one or two.
template <typename Half, typename Lane>
Lane add_halves(Lane old, Lane b) {
  Lane out = 0;
  for (uint32_t shift = 0; shift < sizeof(Lane) * 8; shift += 16) {
    const double sum = double{Half::load(static_cast<uint16_t>(old >> shift))} + Half::load(static_cast<uint16_t>(b >> shift));
    out = static_cast<Lane>(out | static_cast<Lane>(Lane{Half::store(sum)} << shift));
  }
  return out;
}

// Replaces the value at `place` by f of it, atomically; the old one.
template <typename T, typename Function>
T exchange(uint8_t* place, Function f) {
  using Bits = std::conditional_t<sizeof(T) == 2, uint16_t, std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>>;
  std::atomic_ref<Bits> cell(*reinterpret_cast<Bits*>(place));
  Bits old = cell.load();
  while (!cell.compare_exchange_weak(old, std::bit_cast<Bits>(f(std::bit_cast<T>(old))))) {
  }
  return std::bit_cast<T>(old);
}

template <typename T, typename Function>
void each_atomic(Warp& w, const Inst& inst, Function f) {
  Pointers to;
  resolve(w, inst, inst.reg[kAddressSlot], inst.imm, sizeof(T), Access::atomic, to);
  each_lane(w, [&](uint32_t lane) {
    const T old = exchange<T>(to.lane[lane], [&](T value) { return f(value, lane); });
    if (f(old, lane) != old) w.block->events++;
    if (inst.defs != 0) w.at<T>(inst.reg[0])[lane] = old;
  });
}

template <typename T>
void atomic(Warp& w, const Inst& inst) {
  const auto op = static_cast<Atomic>(inst.mode);
  const T *b = w.at<T>(inst.reg[1]), *c = w.at<T>(inst.reg[2]);
  each_atomic<T>(w, inst, [&](T old, uint32_t lane) { return combine<T>(op, old, b[lane], op == Atomic::cas ? c[lane] : T{0}); });
}

template <typename Half, typename Lane>
void atomic_halves(Warp& w, const Inst& inst) {
  const Lane* b = w.at<Lane>(inst.reg[1]);
  each_atomic<Lane>(w, inst, [&](Lane old, uint32_t lane) { return add_halves<Half, Lane>(old, b[lane]); });
}

Handler handler_for(Type type, Atomic op) {
  const bool bitwise = op == Atomic::bit_and || op == Atomic::bit_or || op == Atomic::bit_xor;
  const bool counted = op == Atomic::inc || op == Atomic::dec;
  switch (type) {
    case Type::f32: return op == Atomic::add ? &atomic<float> : nullptr;
    case Type::f64: return op == Atomic::add ? &atomic<double> : nullptr;
    case Type::f16: return op == Atomic::add ? &atomic_halves<F16, uint16_t> : nullptr;
    case Type::bf16: return op == Atomic::add ? &atomic_halves<BF16, uint16_t> : nullptr;
    case Type::f16x2: return op == Atomic::add ? &atomic_halves<F16, uint32_t> : nullptr;
    case Type::bf16x2: return op == Atomic::add ? &atomic_halves<BF16, uint32_t> : nullptr;
    case Type::b16: return op == Atomic::exch || op == Atomic::cas ? &atomic<uint16_t> : nullptr;
    case Type::s32: return bitwise || counted ? nullptr : &atomic<int32_t>;
    case Type::s64: return bitwise || counted ? nullptr : &atomic<int64_t>;
    case Type::u32:
    case Type::b32: return &atomic<uint32_t>;
    case Type::u64:
    case Type::b64: return counted ? nullptr : &atomic<uint64_t>;
    default: return nullptr;
  }
}

void decode_atomic(Decoding& d, bool returns) {
  d.inst.space = take_space(d);
  if (d.inst.space == Space::local || d.inst.space == Space::param || d.inst.space == Space::constant)
    d.refuse("no atomics in this state space");
  d.ignore({"relaxed", "acquire", "release", "acq_rel", "cta", "cluster", "gpu", "sys", "noftz"});
  const auto op = static_cast<Atomic>(d.take_one({"add", "min", "max", "inc", "dec", "and", "or", "xor", "exch", "cas"}));
  const Type type = d.take_type();
  d.inst.mode = static_cast<uint8_t>(op);
  const size_t first = returns ? 1 : 0;
  if (returns) d.def(0, 0, type);
  d.inst.imm = d.address(kAddressSlot, first);
  d.use(1, first + 1, type);
  if (op == Atomic::cas) {
    d.use(2, first + 2, type);
  } else {
    d.inst.reg[2] = d.inst.reg[1];
    d.inst.uses |= 4;
  }
  if (d.inst.space != Space::global) d.builder().note_shared_access(size_of(type));
  d.emit(handler_for(type, op));
}

}  // namespace

void decode_atom(Decoding& d) {
  decode_atomic(d, true);
}
void decode_red(Decoding& d) {
  decode_atomic(d, false);
}

}  // namespace cudream::vgpu
