// Log lines on standard error: error, warn, info, debug. Results never go here.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace cudream {

enum class LogLevel { error, warn, info, debug };

// Lines above `level` are dropped. `sink` replaces standard error (for --json, and for tests); an empty one restores it.
void set_log_level(LogLevel level);
void set_log_sink(std::function<void(LogLevel, std::string_view)> sink);
void log_line(LogLevel level, std::string_view line);

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

// Hears of what is done otherwise than asked: a long prompt read in pieces, keys of a LoRA without a place, a size rounded. May
// throw, and then nothing of it has been done: so --strict makes an Error of each.
using Notice = std::function<void(const std::string&)>;
inline void unheard(const std::string&) {}

// Text from prompts, files and tensor names made safe to show on a terminal: control characters (C0, C1), line separators and
// bidirectional controls are escaped as \xNN or \uNNNN, and so are bytes that are not UTF-8.
std::string printable(std::string_view text);

}  // namespace cudream
