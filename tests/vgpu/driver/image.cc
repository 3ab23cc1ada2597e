// Module images.
#include "tests/vgpu/driver/image.h"

#include <cstdint>
#include <cstring>
#include <string_view>

namespace cudream::vgpu {
namespace {

constexpr uint32_t kFatMagic = 0xba55ed50, kElfMagic = 0x464c457f;
constexpr uint16_t kPtxEntry = 1;

template <typename T>
T read(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// The header: u32 magic, u16 version, u16 header bytes, u64 bytes of entries. An entry: u16 kind, u16, u32 header bytes,
// u64 payload bytes, at 28 the u32 architecture.
std::string ptx_of_fat_binary(const char* image, int capability) {
  const char* entry = image + read<uint16_t>(image + 6);
  const char* end = entry + read<uint64_t>(image + 8);
  std::string_view best;
  int best_arch = 0;
  while (entry < end) {
    const auto kind = read<uint16_t>(entry);
    const auto header = read<uint32_t>(entry + 4);
    const auto bytes = read<uint64_t>(entry + 8);
    const auto arch = static_cast<int>(read<uint32_t>(entry + 28));
    const std::string_view payload(entry + header, bytes);
    if (kind == kPtxEntry && arch <= capability && arch > best_arch && payload.find(".version") != std::string_view::npos) {
      best = payload.substr(0, payload.find('\0'));
      best_arch = arch;
    }
    entry += header + bytes;
  }
  return std::string(best);
}

}  // namespace

std::string ptx_of_image(const void* image, int capability) {
  const char* bytes = static_cast<const char*>(image);
  const auto magic = read<uint32_t>(bytes);
  if (magic == kFatMagic) return ptx_of_fat_binary(bytes, capability);
  return magic == kElfMagic ? std::string() : std::string(bytes);
}

}  // namespace cudream::vgpu
