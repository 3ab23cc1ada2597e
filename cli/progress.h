// Tells how far a run is: a bar on a terminal, plain lines when standard error is piped, JSON events on standard output.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>

#include "core/log.h"

namespace cudream {

enum class ProgressStyle {
  bar,    // one line, redrawn
  lines,  // a line at most every two seconds
  json,   // every event is an object on a line of its own
  quiet,  // only warnings and errors
};

// How far a batch is, in pictures.
struct Tally {
  size_t done = 0, failed = 0, left = 0;
  double per_minute = 0;  // of this run; 0 while unknown
  double seconds_left() const { return per_minute > 0 ? 60 * static_cast<double>(left) / per_minute : 0; }
};

// Where progress goes and how it looks. By default found out from the process.
struct ProgressSink {
  ProgressStyle style = ProgressStyle::lines;
  int fd = 2;
  int columns = 80;
  bool color = false;
  std::function<double()> clock;  // seconds, never going back

  // json: standard output. Else standard error: a bar on a terminal, lines otherwise (also for TERM=dumb).
  // Colour only on a terminal and without NO_COLOR (no-color.org).
  static ProgressSink of_process(bool json, bool quiet);
};

// Text of prompts and files is made printable before it is shown. A pipe closed by its reader is Error(io) for JSON events,
// which are a result; on standard error progress falls silent. The program must ignore SIGPIPE. Its functions may be called from
// several threads.
class Progress {
 public:
  explicit Progress(ProgressSink sink);
  ~Progress();  // leaves the terminal at the beginning of a line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // Begins a stage of `total` steps; 0: it does not count any. Unit "%": the steps are percent, without a rate.
  void start(std::string_view stage, int total, std::string_view unit = "it");
  void step(int done);  // of `total`
  void done();          // ends the stage and says how long it took; without a stage, does nothing
  // For set_log_sink: lines of their own, the bar stays below them.
  void message(LogLevel, std::string_view text);
  void tally(const Tally&);  // shown beside every stage from now on
  // A picture as a terminal draws it from the cursor on, over so many rows: above the bar, in the place of the one before if
  // nothing has been said since. On terminals only.
  void show(std::string_view drawing, int rows);
  bool on_terminal() const { return sink_.style == ProgressStyle::bar; }
  int columns() const { return sink_.columns; }
  void picture(const std::filesystem::path&, uint64_t seed, double seconds);

 private:
  void say(LogLevel, std::string_view text);
  void emit(std::string_view text);  // writes all of it; minds closed pipes
  std::string state(double now) const;
  std::string stage_state(double now) const;
  void draw(double now);
  void clear();

  std::mutex lock_;
  ProgressSink sink_;
  std::string tally_;         // outside a batch: empty
  std::string stage_, unit_;  // no stage: empty
  int total_ = 0, steps_ = 0;
  double started_ = 0, shown_at_ = 0;
  size_t shown_ = 0;  // columns the bar takes on the terminal now
  int rows_ = 0;      // of a picture right above the bar
  bool closed_ = false;
};

}  // namespace cudream
