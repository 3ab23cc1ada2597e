// Loops over the lanes of a warp, and the choice of a handler by type.
#pragma once

#include <cstdint>
#include <type_traits>
#include <utility>

#include "tests/vgpu/core/decoding.h"
#include "tests/vgpu/core/warp.h"

namespace cudream::vgpu {

__extension__ using int128 = __int128;
__extension__ using uint128 = unsigned __int128;

// reg[0] = f(reg[1], ...) in the lanes of the mask. A full warp takes the loop without blending. Lanes are independent, so
// a result may replace an operand.
template <typename Result, typename... Source, typename Function>
[[gnu::always_inline]] inline void map_lanes(Warp& w, const Inst& inst, Function f) {
  const auto run = [&]<size_t... I>(std::index_sequence<I...>) {
    const auto loop = [mask = w.mask, f](Result* out, const Source*... in) {
      if (mask == kFull) {  // NOLINT(bugprone-branch-clone): the other loop blends
#pragma omp simd
        for (uint32_t lane = 0; lane < kLanes; lane++) out[lane] = f(in[lane]...);
      } else {
#pragma omp simd
        for (uint32_t lane = 0; lane < kLanes; lane++) {
          const Result value = f(in[lane]...);
          out[lane] = (mask >> lane & 1) != 0 ? value : out[lane];
        }
      }
    };
    loop(w.at<Result>(inst.reg[0]), w.at<const Source>(inst.reg[1 + I])...);
  };
  run(std::index_sequence_for<Source...>());
}

// The same without vectors and only for lanes of the mask: for functions that are slow or may trap.
template <typename Function>
inline void each_lane(const Warp& w, Function f) {
  for (uint32_t lane = 0; lane < kLanes; lane++) {
    if ((w.mask >> lane & 1) != 0) f(lane);
  }
}

template <typename T, typename Op>
void unary(Warp& w, const Inst& inst) {
  map_lanes<T, T>(w, inst, [](T a) { return static_cast<T>(Op()(a)); });
}
template <typename T, typename Op>
void binary(Warp& w, const Inst& inst) {
  map_lanes<T, T, T>(w, inst, [](T a, T b) { return static_cast<T>(Op()(a, b)); });
}
template <typename T, typename Op>
void ternary(Warp& w, const Inst& inst) {
  map_lanes<T, T, T, T>(w, inst, [](T a, T b, T c) { return static_cast<T>(Op()(a, b, c)); });
}

// Calls f.operator()<T>() with the C++ type of an integer or bit type of 16 bits or more; null for any other.
template <typename Function>
Handler with_integer(Type type, Function f) {
  switch (type) {
    case Type::u16:
    case Type::b16: return f.template operator()<uint16_t>();
    case Type::s16: return f.template operator()<int16_t>();
    case Type::u32:
    case Type::b32: return f.template operator()<uint32_t>();
    case Type::s32: return f.template operator()<int32_t>();
    case Type::u64:
    case Type::b64: return f.template operator()<uint64_t>();
    case Type::s64: return f.template operator()<int64_t>();
    default: return nullptr;
  }
}

// The same for the unsigned type of that many bytes.
template <typename Function>
Handler with_bits(uint32_t bytes, Function f) {
  switch (bytes) {
    case 2: return f.template operator()<uint16_t>();
    case 4: return f.template operator()<uint32_t>();
    case 8: return f.template operator()<uint64_t>();
    default: return nullptr;
  }
}

// Binds operand 0 as the result and the next `sources` operands, all of one type, and ends the decoding.
inline void emit_same(Decoding& d, Type type, uint32_t sources, Handler run) {
  d.def(0, 0, type);
  for (uint32_t i = 1; i <= sources; i++) d.use(i, i, type);
  d.emit(run);
}

}  // namespace cudream::vgpu
