// Names of the PTX types.
#include "tests/vgpu/ptx/type.h"

#include <array>

namespace cudream::vgpu {
namespace {

constexpr std::array<std::string_view, 19> kNames = {"pred", "b8",  "u8",  "s8",    "b16",    "u16", "s16", "f16", "bf16", "b32",
                                                     "u32",  "s32", "f32", "f16x2", "bf16x2", "b64", "u64", "s64", "f64"};

}  // namespace

std::optional<Type> type_named(std::string_view word) {
  for (size_t i = 0; i < kNames.size(); i++) {
    if (kNames[i] == word) return static_cast<Type>(i);
  }
  return std::nullopt;
}

std::string_view name_of(Type type) {
  return kNames[static_cast<size_t>(type)];
}

}  // namespace cudream::vgpu
