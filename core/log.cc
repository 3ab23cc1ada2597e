// The one log sink. It is the project's only global.
#include "core/log.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <mutex>

namespace cudream {
namespace {

struct Sink {
  std::mutex lock;
  std::function<void(LogLevel, std::string_view)> write;
  std::atomic<LogLevel> level{LogLevel::info};
};

Sink& sink() {
  static Sink s;
  return s;
}

struct Decoded {
  char32_t point = 0;
  size_t bytes = 0;  // 0: not UTF-8
};

// The Unicode Standard, table 3-7.
Decoded decode(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t bytes = lead >= 0xc2 && lead <= 0xdf ? 2 : lead >= 0xe0 && lead <= 0xef ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
  char32_t point = bytes == 0 ? 0 : lead & (0x7fu >> bytes);
  for (size_t i = 1; i < bytes; i++) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    point = point << 6 | (byte(i) & 0x3f);
  }
  const bool overlong = (bytes == 3 && point < 0x800) || (bytes == 4 && point < 0x10000);
  if (overlong || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) return {};
  return {point, bytes};
}

// What changes a terminal or the order in which text is shown: C0, DEL and C1 controls, line separators, bidi controls.
bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c <= 0x9f) || c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
         (c >= 0x2066 && c <= 0x2069);
}

}  // namespace

void set_log_level(LogLevel level) {
  sink().level = level;
}

void set_log_sink(std::function<void(LogLevel, std::string_view)> write) {
  std::lock_guard hold(sink().lock);
  sink().write = std::move(write);
}

void log_line(LogLevel level, std::string_view line) {
  if (level > sink().level) return;
  std::lock_guard hold(sink().lock);
  if (sink().write) return sink().write(level, line);
  static constexpr std::string_view kPrefix[] = {"error: ", "warning: ", "", "debug: "};
  const std::string text = fmt::format("{}{}\n", kPrefix[static_cast<int>(level)], line);
  std::fwrite(text.data(), 1, text.size(), stderr);
}

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Decoded c = decode(text);
    if (c.bytes == 0 || (c.bytes == 1 && is_control(c.point)))
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text.front()));
    else if (is_control(c.point))
      out += fmt::format("\\u{:04x}", static_cast<uint32_t>(c.point));
    else
      out += text.substr(0, c.bytes);
    text.remove_prefix(std::max<size_t>(c.bytes, 1));
  }
  return out;
}

}  // namespace cudream
