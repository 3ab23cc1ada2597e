// The three ways to show a run, and the writing that minds closed pipes.
#include "cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"

namespace cudream {
namespace {

constexpr double kBarInterval = 0.05, kLineInterval = 2;  // seconds
constexpr size_t kWidestBar = 40, kNarrowest = 24;        // columns; narrower terminals get no bar

constexpr std::string_view kKeepCursor =
    "\x1b"
    "7";
constexpr std::string_view kCursorBack =
    "\x1b"
    "8";

using Json = nlohmann::ordered_json;

// Pure ASCII, so that no character of a prompt reaches the terminal.
std::string json_line(const Json& event) {
  return event.dump(-1, ' ', true, Json::error_handler_t::replace) + "\n";
}

double milliseconds(double seconds) {
  return std::round(seconds * 1000) / 1000;
}

bool is_set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

std::string time_text(double seconds) {
  const auto whole = static_cast<int64_t>(std::lround(seconds));
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
}

// Steps each second, or seconds a step where that is the easier number.
std::string rate_text(double per_second, std::string_view unit) {
  return per_second >= 1 ? fmt::format("{:.2f} {}/s", per_second, unit) : fmt::format("{:.2f} s/{}", 1 / per_second, unit);
}

std::string printable_lines(std::string_view text) {
  std::string out;
  while (true) {
    const size_t end = std::min(text.find('\n'), text.size());
    out += printable(text.substr(0, end)) + "\n";
    if (end == text.size()) return out;
    text.remove_prefix(end + 1);
  }
}

}  // namespace

ProgressSink ProgressSink::of_process(bool json, bool quiet) {
  ProgressSink sink;
  sink.clock = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
  const char* terminal = std::getenv("TERM");
  const bool bar = ::isatty(STDERR_FILENO) == 1 && terminal != nullptr && std::strcmp(terminal, "dumb") != 0;
  sink.style = json ? ProgressStyle::json : quiet ? ProgressStyle::quiet : bar ? ProgressStyle::bar : ProgressStyle::lines;
  sink.fd = json ? STDOUT_FILENO : STDERR_FILENO;
  sink.color = bar && !is_set("NO_COLOR");
  winsize window{};
  if (bar && ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0) sink.columns = window.ws_col;
  return sink;
}

Progress::Progress(ProgressSink sink) : sink_(std::move(sink)) {}

Progress::~Progress() {
  clear();
}

void Progress::start(std::string_view stage, int total, std::string_view unit) {
  const std::scoped_lock hold(lock_);
  stage_ = stage;
  unit_ = unit;
  total_ = total;
  steps_ = 0;
  started_ = shown_at_ = sink_.clock();
  if (sink_.style == ProgressStyle::json) emit(json_line({{"event", "start"}, {"stage", stage_}, {"total", total_}}));
  if (sink_.style == ProgressStyle::bar) draw(started_);
}

void Progress::step(int done) {
  const std::scoped_lock hold(lock_);
  steps_ = done;
  const double now = sink_.clock(), elapsed = now - started_, since = now - shown_at_;
  if (sink_.style == ProgressStyle::json)
    emit(json_line({{"event", "step"},
                    {"stage", stage_},
                    {"step", steps_},
                    {"total", total_},
                    {"seconds", milliseconds(elapsed)},
                    {"left", milliseconds(elapsed / std::max(steps_, 1) * (total_ - steps_))}}));
  if (sink_.style == ProgressStyle::bar && (since >= kBarInterval || steps_ == total_)) draw(now);
  if (sink_.style == ProgressStyle::lines && since >= kLineInterval && steps_ < total_) {
    emit(fmt::format("{:<8} {}\n", stage_, state(now)));
    shown_at_ = now;
  }
}

void Progress::done() {
  const std::scoped_lock hold(lock_);
  if (stage_.empty()) return;
  const double seconds = sink_.clock() - started_;
  clear();
  rows_ = 0;
  if (sink_.style == ProgressStyle::json)
    emit(json_line({{"event", "done"}, {"stage", stage_}, {"steps", steps_}, {"seconds", milliseconds(seconds)}}));
  if (sink_.style == ProgressStyle::bar || sink_.style == ProgressStyle::lines) {
    const bool counted = steps_ > 0 && unit_ != "%" && seconds > 0;
    const std::string rate = counted ? fmt::format("  ({} steps, {})", steps_, rate_text(steps_ / seconds, unit_)) : "";
    emit(fmt::format("{:<8} {:.2f} s{}\n", stage_, seconds, rate));
  }
  stage_.clear();
}

void Progress::message(LogLevel level, std::string_view text) {
  const std::scoped_lock hold(lock_);
  say(level, text);
}

void Progress::say(LogLevel level, std::string_view text) {
  static constexpr std::string_view kNames[] = {"error", "warning", "info", "debug"};
  const std::string_view name = kNames[static_cast<int>(level)];
  if (sink_.style == ProgressStyle::json) return emit(json_line({{"event", "log"}, {"level", name}, {"text", text}}));
  if (sink_.style == ProgressStyle::quiet && level > LogLevel::warn) return;
  const bool again = shown_ > 0;
  clear();
  rows_ = 0;
  emit((level == LogLevel::info ? "" : fmt::format("{}: ", name)) + printable_lines(text));
  if (again) draw(sink_.clock());
}

// The place is made first, so that nothing scrolls while the terminal draws; the cursor is kept (DECSC, DECRC) while it does.
void Progress::show(std::string_view drawing, int rows) {
  const std::scoped_lock hold(lock_);
  clear();
  const std::string place = rows_ == rows ? "" : std::string(static_cast<size_t>(rows), '\n');
  emit(fmt::format("{}\x1b[{}A{}{}{}\x1b[{}B", place, rows, kKeepCursor, drawing, kCursorBack, rows));
  rows_ = rows;
  if (!stage_.empty()) draw(sink_.clock());
}

void Progress::picture(const std::filesystem::path& path, uint64_t seed, double seconds) {
  const std::scoped_lock hold(lock_);
  if (sink_.style == ProgressStyle::json)
    return emit(json_line({{"event", "picture"}, {"path", path.string()}, {"seed", seed}, {"seconds", milliseconds(seconds)}}));
  say(LogLevel::info, fmt::format("wrote {} (seed {}, {:.2f} s)", path.string(), seed, seconds));
}

void Progress::tally(const Tally& tally) {
  const std::scoped_lock hold(lock_);
  if (sink_.style == ProgressStyle::json)
    return emit(json_line({{"event", "batch"},
                           {"done", tally.done},
                           {"failed", tally.failed},
                           {"left", tally.left},
                           {"pictures_per_minute", milliseconds(tally.per_minute)},
                           {"seconds_left", milliseconds(tally.seconds_left())}}));
  tally_ = fmt::format("  | {} done, {} failed, {} left", tally.done, tally.failed, tally.left);
  if (tally.per_minute > 0)
    tally_ += fmt::format(", {:.1f} a minute, {} to go", tally.per_minute, time_text(tally.seconds_left()));
}

// "12/20  1.52 it/s  5 s left", and the tally of a batch
std::string Progress::state(double now) const {
  return stage_state(now) + tally_;
}

std::string Progress::stage_state(double now) const {
  if (total_ == 0) return "...";
  const double elapsed = now - started_;
  std::string text = unit_ == "%" ? fmt::format("{} %", 100 * int64_t{steps_} / total_) : fmt::format("{}/{}", steps_, total_);
  if (steps_ == 0 || elapsed <= 0) return text;
  if (unit_ != "%") text += "  " + rate_text(steps_ / elapsed, unit_);
  return text + fmt::format("  {} left", time_text(elapsed / steps_ * (total_ - steps_)));
}

// Stage, bar and state, over the line as it stands.
void Progress::draw(double now) {
  const size_t columns = static_cast<size_t>(std::max(sink_.columns - 1, 0));  // in the last one some terminals wrap
  const size_t width = total_ > 0 && columns >= kNarrowest ? std::min(columns / 3, kWidestBar) : 0;
  std::string line = fmt::format("{:<8} ", stage_), bar;
  if (width > 0) {
    const size_t full = width * static_cast<size_t>(std::clamp(steps_, 0, total_)) / static_cast<size_t>(total_);
    bar = fmt::format("[{}{}{}{}] ", sink_.color ? "\x1b[36m" : "", std::string(full, '#'), sink_.color ? "\x1b[0m" : "",
                      std::string(width - full, '.'));
  }
  const size_t taken = width > 0 ? width + 3 : 0;  // brackets and a blank
  std::string rest = state(now);
  line.resize(std::min(line.size(), columns));
  rest.resize(std::min(rest.size(), columns - std::min(columns, line.size() + taken)));
  const size_t length = line.size() + taken + rest.size();
  emit("\r" + line + bar + rest + std::string(shown_ > length ? shown_ - length : 0, ' '));
  shown_ = length;
  shown_at_ = now;
}

void Progress::clear() {
  if (shown_ > 0) emit("\r" + std::string(shown_, ' ') + "\r");
  shown_ = 0;
}

void Progress::emit(std::string_view text) {
  while (!text.empty() && !closed_) {
    const ssize_t written = ::write(sink_.fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      closed_ = true;
      if (sink_.style == ProgressStyle::json) throw fail(Code::io, "cannot write to standard output: {}", std::strerror(errno));
      return;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace cudream
