// The scalar types of PTX (PTX ISA 9.0, section 5.2) and the state spaces of section 5.1.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace cudream::vgpu {

enum class Type : uint8_t { pred, b8, u8, s8, b16, u16, s16, f16, bf16, b32, u32, s32, f32, f16x2, bf16x2, b64, u64, s64, f64 };

// A predicate counts as one byte in registers and parameters; it is never stored in memory.
constexpr uint32_t size_of(Type type) {
  if (type <= Type::s8) return 1;
  if (type <= Type::bf16) return 2;
  return type <= Type::bf16x2 ? 4 : 8;
}

constexpr bool is_signed(Type type) {
  return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}
constexpr bool is_float(Type type) {
  return type == Type::f16 || type == Type::bf16 || type == Type::f32 || type == Type::f16x2 || type == Type::bf16x2 ||
         type == Type::f64;
}

// The type named by a modifier such as "u32"; nothing where the word is no type.
std::optional<Type> type_named(std::string_view word);
std::string_view name_of(Type type);

enum class Space : uint8_t { generic, global, constant, shared, local, param };

}  // namespace cudream::vgpu
