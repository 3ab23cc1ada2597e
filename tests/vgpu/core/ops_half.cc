// Arithmetic in binary16 and bfloat16 (PTX ISA 9.0, section 9.7.4). Operands widen exactly; sums, products and fused
// products are formed in double and rounded once.
#include <bit>
#include <cmath>

#include "tests/vgpu/core/floating.h"
#include "tests/vgpu/core/lanes.h"

namespace cudream::vgpu {
namespace {

// Rounds to `digits` significant bits with least exponent `least` (of the last bit of subnormals), half to even, in double.
double round_to(double value, int digits, int least) {
  if (value == 0 || !std::isfinite(value)) return value;
  int exponent = 0;
  std::frexp(value, &exponent);
  const int last = std::max(exponent - digits, least);
  return std::ldexp(std::nearbyint(std::ldexp(value, -last)), last);
}

struct Fma {
  double operator()(double a, double b, double c) const { return std::fma(a, b, c); }
};
double apply(FloatOp op, double a, double b) {
  switch (op) {
    case FloatOp::add: return a + b;
    case FloatOp::sub: return a - b;
    case FloatOp::mul: return a * b;
    case FloatOp::min: return a != a ? b : b != b ? a : a < b || (a == b && std::signbit(a)) ? a : b;
    case FloatOp::max: return a != a ? b : b != b ? a : a > b || (a == b && !std::signbit(a)) ? a : b;
    default: return NAN;
  }
}

// One value in a 16-bit lane, or two in a 32-bit lane.
template <typename Half, typename Lane, typename Function>
Lane map_halves(Function f) {
  Lane out = 0;
  for (uint32_t shift = 0; shift < sizeof(Lane) * 8; shift += 16)
    out = static_cast<Lane>(out | static_cast<Lane>(Lane{f(shift)} << shift));
  return out;
}

template <typename Half, typename Lane>
void half_binary(Warp& w, const Inst& inst) {
  const auto op = static_cast<FloatOp>(inst.mode);
  each_lane(w, [&](uint32_t lane) {
    const Lane a = w.at<Lane>(inst.reg[1])[lane], b = w.at<Lane>(inst.reg[2])[lane];
    w.at<Lane>(inst.reg[0])[lane] = map_halves<Half, Lane>([&](uint32_t shift) {
      const double x = Half::load(static_cast<uint16_t>(a >> shift)), y = Half::load(static_cast<uint16_t>(b >> shift));
      const bool nan = inst.flag != 0 && (x != x || y != y);
      return Half::store(nan ? NAN : apply(op, x, y));
    });
  });
}

template <typename Half, typename Lane>
void half_fma(Warp& w, const Inst& inst) {
  each_lane(w, [&](uint32_t lane) {
    const Lane a = w.at<Lane>(inst.reg[1])[lane], b = w.at<Lane>(inst.reg[2])[lane], c = w.at<Lane>(inst.reg[3])[lane];
    w.at<Lane>(inst.reg[0])[lane] = map_halves<Half, Lane>([&](uint32_t shift) {
      const double x = Half::load(static_cast<uint16_t>(a >> shift)), y = Half::load(static_cast<uint16_t>(b >> shift));
      return Half::store(Fma()(x, y, Half::load(static_cast<uint16_t>(c >> shift))));
    });
  });
}

template <typename Lane>
constexpr Lane kSigns = static_cast<Lane>(0x80008000u);

template <typename Lane>
void half_negate(Warp& w, const Inst& inst) {
  map_lanes<Lane, Lane>(w, inst, [](Lane a) { return static_cast<Lane>(a ^ kSigns<Lane>); });
}
template <typename Lane>
void half_absolute(Warp& w, const Inst& inst) {
  map_lanes<Lane, Lane>(w, inst, [](Lane a) { return static_cast<Lane>(a & ~kSigns<Lane>); });
}

}  // namespace

uint16_t to_f16(double value) {
  return f16(static_cast<float>(round_to(value, 11, -24))).bits;
}
uint16_t to_bf16(double value) {
  if (value != value) return 0x7fff;
  return bf16(static_cast<float>(round_to(value, 8, -133))).bits;
}

void decode_half(Decoding& d, FloatOp op, Type type) {
  const bool pair = size_of(type) == 4, brain = type == Type::bf16 || type == Type::bf16x2;
  if (op == FloatOp::neg || op == FloatOp::abs) {
    const Handler run = op == FloatOp::neg ? (pair ? &half_negate<uint32_t> : &half_negate<uint16_t>)
                                           : (pair ? &half_absolute<uint32_t> : &half_absolute<uint16_t>);
    return emit_same(d, type, 1, run);
  }
  if (op == FloatOp::div) d.refuse("no division of halves");
  d.take("rn");
  d.inst.mode = static_cast<uint8_t>(op);
  d.inst.flag = (op == FloatOp::min || op == FloatOp::max) && d.take("NaN");
  emit_same(d, type, 2,
            brain ? (pair ? &half_binary<BF16, uint32_t> : &half_binary<BF16, uint16_t>)
                  : (pair ? &half_binary<F16, uint32_t> : &half_binary<F16, uint16_t>));
}

void decode_half_fma(Decoding& d, Type type) {
  const bool pair = size_of(type) == 4, brain = type == Type::bf16 || type == Type::bf16x2;
  if (!is_float(type)) d.refuse("fma is of floats");
  d.take("rn");
  emit_same(d, type, 3,
            brain ? (pair ? &half_fma<BF16, uint32_t> : &half_fma<BF16, uint16_t>)
                  : (pair ? &half_fma<F16, uint32_t> : &half_fma<F16, uint16_t>));
}

}  // namespace cudream::vgpu
