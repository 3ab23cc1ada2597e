// The one log sink. It is the project's only global.
#include "core/log.h"

#include <atomic>
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
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x20 || u == 0x7f)
      out += fmt::format("\\x{:02x}", u);
    else
      out += c;
  }
  return out;
}

}  // namespace cudream
