// Loads and stores (PTX ISA 9.0, section 9.7.9).
#include <cstring>

#include "tests/vgpu/core/access.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

constexpr uint32_t kAddressSlot = 12;

// Elements of type T in memory; registers of type R.
template <typename T, typename R>
void load(Warp& w, const Inst& inst) {
  Pointers from;
  const Access access = inst.flag != 0 ? Access::acquire : Access::read;
  resolve(w, inst, inst.reg[kAddressSlot], inst.imm, sizeof(T) * inst.count, access, from);
  for (uint32_t i = 0; i < inst.count; i++) {
    R* out = w.at<R>(inst.reg[i]);
    each_lane(w, [&](uint32_t lane) {
      T value;
      std::memcpy(&value, from.lane[lane] + i * sizeof(T), sizeof(T));
      out[lane] = static_cast<R>(value);  // NOLINT(bugprone-signed-char-misuse): signed types extend their sign
    });
  }
}

template <typename T, typename R>
void store(Warp& w, const Inst& inst) {
  Pointers to;
  resolve(w, inst, inst.reg[kAddressSlot], inst.imm, sizeof(T) * inst.count, Access::write, to);
  for (uint32_t i = 0; i < inst.count; i++) {
    const R* in = w.at<R>(inst.reg[i]);
    each_lane(w, [&](uint32_t lane) {
      const T value = static_cast<T>(in[lane]);
      uint8_t* place = to.lane[lane] + i * sizeof(T);
      if ((to.write_conflicts >> lane & 1) != 0 && std::memcmp(place, &value, sizeof(T)) != 0) {
        report(w, inst, lane, Conflict::write_write, static_cast<uint64_t>(place - w.block->shared.data()));
      }
      std::memcpy(place, &value, sizeof(T));
    });
  }
}

// A kernel parameter at a known place: the same for all lanes.
template <typename T, typename R>
void load_parameter(Warp& w, const Inst& inst) {
  for (uint32_t i = 0; i < inst.count; i++) {
    T value;
    std::memcpy(&value, w.block->parameters + inst.imm + i * sizeof(T), sizeof(T));
    R* out = w.at<R>(inst.reg[i]);
    each_lane(w, [&](uint32_t lane) {
      out[lane] = static_cast<R>(value);  // NOLINT(bugprone-signed-char-misuse): signed types extend their sign
    });
  }
}

enum class Action : uint8_t { load, store, load_parameter };

template <typename T, typename R>
Handler action_handler(Action action) {
  switch (action) {
    case Action::load: return &load<T, R>;
    case Action::store: return &store<T, R>;
    case Action::load_parameter: return &load_parameter<T, R>;
  }
  return nullptr;
}

// A register may be wider than the element, never narrower.
template <typename T>
Handler element_handler(uint32_t register_bytes, Action action) {
  using Unsigned2 = std::conditional_t<std::is_signed_v<T>, int16_t, uint16_t>;
  using Unsigned4 = std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>;
  using Unsigned8 = std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>;
  if (register_bytes < sizeof(T)) return nullptr;
  if (register_bytes == 8) return action_handler<T, Unsigned8>(action);
  if constexpr (sizeof(T) <= 4) {
    if (register_bytes == 4) return action_handler<T, Unsigned4>(action);
  }
  if constexpr (sizeof(T) <= 2) {
    if (register_bytes == 2) return action_handler<T, Unsigned2>(action);
  }
  return nullptr;
}

Handler handler_for(Type type, uint32_t register_bytes, Action action) {
  switch (type) {
    case Type::s8: return element_handler<int8_t>(register_bytes, action);
    case Type::s16: return element_handler<int16_t>(register_bytes, action);
    case Type::s32: return element_handler<int32_t>(register_bytes, action);
    default: break;
  }
  switch (size_of(type)) {
    case 1: return type == Type::pred ? nullptr : element_handler<uint8_t>(register_bytes, action);
    case 2: return element_handler<uint16_t>(register_bytes, action);
    case 4: return element_handler<uint32_t>(register_bytes, action);
    default: return element_handler<uint64_t>(register_bytes, action);
  }
}

// Cache and ordering modifiers. Memory here is one and sequentially consistent, so they change nothing; but decode_ld looks
// for .acquire before, since such a load orders blocks.
void take_hints(Decoding& d) {
  d.ignore({"weak",
            "volatile",
            "relaxed",
            "acquire",
            "release",
            "cta",
            "cluster",
            "gpu",
            "sys",
            "nc",
            "ca",
            "cg",
            "cs",
            "lu",
            "cv",
            "wb",
            "wt",
            "L1::evict_normal",
            "L1::evict_unchanged",
            "L1::evict_first",
            "L1::evict_last",
            "L1::no_allocate",
            "L2::64B",
            "L2::128B",
            "L2::256B",
            "L2::evict_normal",
            "L2::evict_first",
            "L2::evict_last"});
}

void take_vector(Decoding& d, size_t elements) {
  const size_t named = d.take("v2") ? 2 : d.take("v4") ? 4 : 1;
  if (named != elements) d.refuse("the vector does not have as many registers as the modifier says");
  d.inst.count = static_cast<uint8_t>(named);
}

// How wide the elements' registers are: all alike. Constants take the element's own width.
uint32_t bind_elements(Decoding& d, const std::vector<ptx::Operand>& elements, Type type, bool defines) {
  uint32_t width = 0;
  for (const ptx::Operand& e : elements) width = std::max(width, d.register_bytes(e));
  if (width == 0) width = std::max(size_of(type), 2u);
  for (uint32_t i = 0; i < elements.size(); i++) {
    const Type as = width == 8 ? Type::b64 : width == 4 ? Type::b32 : Type::b16;
    if (defines) {
      d.def(i, elements[i], as);
    } else {
      d.use(i, elements[i], width == size_of(type) ? type : as);
    }
  }
  return width;
}

void note_grain(Decoding& d, Type type) {
  if (d.inst.space == Space::shared || d.inst.space == Space::generic) d.builder().note_shared_access(size_of(type));
}

}  // namespace

void decode_ld(Decoding& d) {
  d.inst.space = take_space(d);
  d.inst.flag = d.take("acquire") ? 1 : 0;
  take_hints(d);
  const Type type = d.take_type();
  const auto elements = d.elements(0);
  take_vector(d, elements.size());
  const uint32_t width = bind_elements(d, elements, type, true);
  if (d.inst.space == Space::param && d.is_parameter(d.operand(1))) {
    const ptx::Operand& place = d.operand(1);
    d.inst.imm = static_cast<int64_t>(*d.builder().find_symbol(place.text)) + place.offset;
    const int64_t end = d.inst.imm + static_cast<int64_t>(size_of(type) * elements.size());
    if (d.inst.imm < 0 || end > d.builder().kernel().parameter_bytes) d.refuse("the access lies outside the kernel's parameters");
    return d.emit(handler_for(type, width, Action::load_parameter));
  }
  d.inst.imm = d.address(kAddressSlot, 1);
  note_grain(d, type);
  d.emit(handler_for(type, width, Action::load));
}

void decode_st(Decoding& d) {
  d.inst.space = take_space(d);
  if (d.inst.space == Space::param || d.inst.space == Space::constant) d.refuse("calls are not known, nor stores to constants");
  take_hints(d);
  const Type type = d.take_type();
  const auto elements = d.elements(1);
  take_vector(d, elements.size());
  const uint32_t width = bind_elements(d, elements, type, false);
  d.inst.imm = d.address(kAddressSlot, 0);
  note_grain(d, type);
  d.emit(handler_for(type, width, Action::store));
}

void decode_hint(Decoding& d) {
  d.ignore({"u32", "global", "local", "L1", "L2", "L2::evict_last", "L2::evict_normal"});
  d.emit([](Warp&, const Inst&) {});
}

// Memory is sequential here; only the check of races between blocks asks whether a block fenced what it wrote. A fence within
// the block orders nothing for others.
void decode_fence(Decoding& d) {
  const bool within_block = d.take("cta");
  d.ignore({"gl", "sys", "gpu", "cluster", "sc", "acq_rel", "acquire", "release"});
  if (within_block)
    d.emit([](Warp&, const Inst&) {});
  else
    d.emit([](Warp& w, const Inst&) { w.unfenced = false; });
}

}  // namespace cudream::vgpu
