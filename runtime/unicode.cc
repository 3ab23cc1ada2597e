// Unicode facts from utf8proc; see unicode.h.
#include "runtime/unicode.h"

#include <utf8proc.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <new>

namespace cudream {
namespace {

constexpr int32_t kReplacement = 0xFFFD;

const uint8_t* bytes_of(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// Valid UTF-8 with what was not replaced.
std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    append_utf8(out, c.value);
    at += c.bytes;
  }
  return out;
}

}  // namespace

CodePoint code_point_at(std::string_view text, size_t at) {
  int32_t value = 0;
  const auto taken = utf8proc_iterate(bytes_of(text) + at, static_cast<utf8proc_ssize_t>(text.size() - at), &value);
  return taken > 0 ? CodePoint{value, static_cast<size_t>(taken)} : CodePoint{kReplacement, 1};
}

CodePoint code_point_before(std::string_view text, size_t at) {
  for (size_t length = 1; length <= 4 && length <= at; length++) {
    const CodePoint c = code_point_at(text.substr(0, at), at - length);
    if (c.bytes == length && c.value != kReplacement) return c;
  }
  return {kReplacement, 1};
}

bool is_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = code_point_at(text, at);
    if (c.value == kReplacement && c.bytes == 1) return false;
    at += c.bytes;
  }
  return true;
}

void append_utf8(std::string& text, int32_t code_point) {
  std::array<uint8_t, 4> buffer{};
  const auto count = utf8proc_encode_char(code_point, buffer.data());
  text.append(reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(count));
}

std::string utf8_of(std::string text) {
  for (size_t at = 0; at < text.size();) {
    int32_t point = 0;
    const auto taken = utf8proc_iterate(bytes_of(text) + at, static_cast<utf8proc_ssize_t>(text.size() - at), &point);
    if (taken <= 0) {
      std::string out;
      for (const char c : text) append_utf8(out, static_cast<unsigned char>(c));
      return out;
    }
    at += static_cast<size_t>(taken);
  }
  return text;
}

bool is_space(int32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_letter(int32_t c) {
  const auto category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

bool is_number(int32_t c) {
  const auto category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

std::string to_lower_nfc(std::string_view text) {
  const std::string valid = valid_utf8(text);
  uint8_t* composed = nullptr;
  const auto option = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
  const auto size = utf8proc_map(bytes_of(valid), static_cast<utf8proc_ssize_t>(valid.size()), &composed, option);
  if (size < 0) throw std::bad_alloc();  // the only failure left for valid text
  const std::unique_ptr<uint8_t, decltype(&std::free)> owner(composed, &std::free);

  const std::string_view nfc(reinterpret_cast<const char*>(composed), static_cast<size_t>(size));
  std::string out;
  out.reserve(nfc.size());
  for (size_t at = 0; at < nfc.size();) {
    const CodePoint c = code_point_at(nfc, at);
    if (c.value == 0x130) {  // the one letter whose lower case is two code points: i and a dot above
      out += "i\xCC\x87";
    } else {
      append_utf8(out, utf8proc_tolower(c.value));
    }
    at += c.bytes;
  }
  return out;
}

}  // namespace cudream
