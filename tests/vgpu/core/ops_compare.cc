// Comparison and selection (PTX ISA 9.0, section 9.7.6).
#include <array>
#include <cmath>

#include "tests/vgpu/core/floating.h"
#include "tests/vgpu/core/lanes.h"
#include "tests/vgpu/core/opcodes.h"

namespace cudream::vgpu {
namespace {

enum class Compare : uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };
constexpr uint8_t kAnd = 1, kOr = 2, kXor = 3;  // how setp joins its third operand

// For floats eq..ge are false and equ..geu true when either side is NaN; for integers ne is plain.
template <typename T, Compare kOp>
bool compare(T a, T b) {
  if constexpr (kOp == Compare::eq) return a == b;
  if constexpr (kOp == Compare::ne) return a < b || a > b;
  if constexpr (kOp == Compare::lt) return a < b;
  if constexpr (kOp == Compare::le) return a <= b;
  if constexpr (kOp == Compare::gt) return a > b;
  if constexpr (kOp == Compare::ge) return a >= b;
  if constexpr (kOp == Compare::equ) return !(a < b || a > b);
  if constexpr (kOp == Compare::neu) return !(a == b);
  if constexpr (kOp == Compare::ltu) return !(a >= b);
  if constexpr (kOp == Compare::leu) return !(a > b);
  if constexpr (kOp == Compare::gtu) return !(a <= b);
  if constexpr (kOp == Compare::geu) return !(a < b);
  if constexpr (kOp == Compare::num) return a == a && b == b;
  if constexpr (kOp == Compare::nan) return a != a || b != b;
}

uint32_t join(uint32_t bits, const Inst& inst, Warp& w) {
  if (inst.flag == 0) return bits;
  const uint32_t c = w.predicate(inst.reg[4]);
  return inst.flag == kAnd ? bits & c : inst.flag == kOr ? bits | c : bits ^ c;
}

void store(Warp& w, const Inst& inst, uint32_t bits) {
  const uint32_t p = join(bits, inst, w);
  const uint32_t q = (inst.defs & 2) != 0 ? join(~bits, inst, w) : 0;
  w.set_predicate(inst.reg[0], p);
  if ((inst.defs & 2) != 0) w.set_predicate(inst.reg[1], q);
}

template <typename T, Compare kOp>
void set_predicate(Warp& w, const Inst& inst) {
  const T *a = w.at<T>(inst.reg[2]), *b = w.at<T>(inst.reg[3]);
  uint32_t bits = 0;
  for (uint32_t lane = 0; lane < kLanes; lane++) bits |= static_cast<uint32_t>(compare<T, kOp>(a[lane], b[lane])) << lane;
  store(w, inst, bits);
}

template <typename T, size_t... I>
constexpr std::array<Handler, sizeof...(I)> handlers_for(std::index_sequence<I...>) {
  return {&set_predicate<T, static_cast<Compare>(I)>...};
}
template <typename T>
Handler handler_for(Compare op) {
  if constexpr (std::is_integral_v<T>) {
    static constexpr auto kTable = handlers_for<T>(std::make_index_sequence<6>());
    return op <= Compare::ge ? kTable[static_cast<size_t>(op)] : nullptr;
  } else {
    static constexpr auto kTable = handlers_for<T>(std::make_index_sequence<14>());
    return kTable[static_cast<size_t>(op)];
  }
}

bool compare_at(Compare op, float a, float b) {
  const bool unordered = a != a || b != b;
  switch (op) {
    case Compare::eq: return a == b;
    case Compare::ne: return !unordered && a != b;
    case Compare::lt: return a < b;
    case Compare::le: return a <= b;
    case Compare::gt: return a > b;
    case Compare::ge: return a >= b;
    case Compare::equ: return unordered || a == b;
    case Compare::neu: return unordered || a != b;
    case Compare::ltu: return unordered || a < b;
    case Compare::leu: return unordered || a <= b;
    case Compare::gtu: return unordered || a > b;
    case Compare::geu: return unordered || a >= b;
    case Compare::num: return !unordered;
    case Compare::nan: return unordered;
  }
  return false;
}

template <typename Half>
void set_predicate_half(Warp& w, const Inst& inst) {
  uint32_t bits = 0;
  each_lane(w, [&](uint32_t lane) {
    const float a = Half::load(w.at<uint16_t>(inst.reg[2])[lane]), b = Half::load(w.at<uint16_t>(inst.reg[3])[lane]);
    bits |= static_cast<uint32_t>(compare_at(static_cast<Compare>(inst.mode), a, b)) << lane;
  });
  store(w, inst, bits);
}

Handler handler_for(Compare op, Type type) {
  switch (type) {
    case Type::f32: return handler_for<float>(op);
    case Type::f64: return handler_for<double>(op);
    case Type::f16: return &set_predicate_half<F16>;
    case Type::bf16: return &set_predicate_half<BF16>;
    default: return with_integer(type, [op]<typename T>() -> Handler { return handler_for<T>(op); });
  }
}

Compare take_comparison(Decoding& d) {
  if (d.take("lo")) return Compare::lt;
  if (d.take("ls")) return Compare::le;
  if (d.take("hi")) return Compare::gt;
  if (d.take("hs")) return Compare::ge;
  return static_cast<Compare>(
      d.take_one({"eq", "ne", "lt", "le", "gt", "ge", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"}));
}

// A predicate to the values of `set`: all ones for integers, 1.0 for floats.
template <typename T>
void materialise(Warp& w, const Inst& inst) {
  const uint32_t p = w.predicate(inst.reg[1]);
  T* out = w.at<T>(inst.reg[0]);
  each_lane(w, [&](uint32_t lane) { out[lane] = (p >> lane & 1) != 0 ? static_cast<T>(inst.imm) : T{0}; });
}

template <typename T>
void select(Warp& w, const Inst& inst) {
  const T *a = w.at<T>(inst.reg[1]), *b = w.at<T>(inst.reg[2]);
  T* out = w.at<T>(inst.reg[0]);
  const uint32_t p = w.predicate(inst.reg[3]), mask = w.mask;
#pragma omp simd
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    const T value = (p >> lane & 1) != 0 ? a[lane] : b[lane];
    out[lane] = (mask >> lane & 1) != 0 ? value : out[lane];
  }
}

template <typename T, typename Condition>
void select_by_sign(Warp& w, const Inst& inst) {
  map_lanes<T, T, T, Condition>(w, inst, [](T a, T b, Condition c) { return c >= 0 ? a : b; });
}

}  // namespace

void decode_setp(Decoding& d) {
  const Compare op = take_comparison(d);
  const uint8_t joined = d.take("and") ? kAnd : d.take("or") ? kOr : d.take("xor") ? kXor : uint8_t{0};
  const Type type = d.take_type();
  const auto results = d.elements(0);
  d.def(0, results[0], Type::pred);
  if (results.size() > 1) d.def(1, results[1], Type::pred);
  d.use(2, 1, type);
  d.use(3, 2, type);
  if (joined != 0) d.use(4, 3, Type::pred);
  d.inst.flag = joined;
  d.inst.mode = static_cast<uint8_t>(op);
  d.emit(is_float(type) ? with_float_mode(d, handler_for(op, type)) : handler_for(op, type));
}

void decode_set(Decoding& d) {
  const Compare op = take_comparison(d);
  const Type result = d.take_type(), type = d.take_type();
  const uint32_t p = d.builder().fresh(1);
  Decoding compare(d);
  compare.inst.reg[0] = p;
  compare.inst.defs = 1;
  compare.use(2, 1, type);
  compare.use(3, 2, type);
  compare.inst.mode = static_cast<uint8_t>(op);
  compare.emit(is_float(type) ? with_float_mode(compare, handler_for(op, type)) : handler_for(op, type));
  d.ignore({"ftz"});
  d.def(0, 0, result);
  d.inst.reg[1] = p;
  d.inst.uses |= 2;
  d.inst.cls = Class::none;
  d.inst.imm = result == Type::f32 ? 0x3f800000 : result == Type::f16 ? 0x3c00 : result == Type::bf16 ? 0x3f80 : -1;
  if (result == Type::f64 || result == Type::f16x2 || result == Type::bf16x2) d.refuse("set with this result type is not known");
  d.emit(with_bits(size_of(result), []<typename T>() -> Handler { return &materialise<T>; }));
}

void decode_selp(Decoding& d) {
  const Type type = d.take_type();
  d.def(0, 0, type);
  d.use(1, 1, type);
  d.use(2, 2, type);
  d.use(3, 3, Type::pred);
  d.emit(with_bits(size_of(type), []<typename T>() -> Handler { return &select<T>; }));
}

void decode_slct(Decoding& d) {
  const Type type = d.take_type(), condition = d.take_type();
  d.def(0, 0, type);
  d.use(1, 1, type);
  d.use(2, 2, type);
  d.use(3, 3, condition);
  if (condition == Type::f32)
    return d.emit(
        with_float_mode(d, with_bits(size_of(type), []<typename T>() -> Handler { return &select_by_sign<T, float>; })));
  if (condition != Type::s32) d.refuse("slct looks at .s32 or .f32");
  d.emit(with_bits(size_of(type), []<typename T>() -> Handler { return &select_by_sign<T, int32_t>; }));
}

}  // namespace cudream::vgpu
