// Error: the one exception type of the project, and the exit status each kind of failure gives the program.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace cudream {

// What kind of failure ended a request. The values are the program's exit statuses (README.md lists them).
enum class Code : int {
  internal = 1,       // a mistake of ours: a broken invariant
  usage = 2,          // options or prompts that make no sense
  bad_file = 3,       // a file that is damaged, or not what it claims to be
  unsupported = 4,    // understood, but not something this program does
  out_of_memory = 5,  // the job does not fit
  device = 6,         // the device failed or is missing
  io = 7,             // reading or writing failed: disk full, permission, closed pipe
  not_found = 8,      // no such model, file or name
  partial = 9,        // a batch went on after failures
  strict = 10,        // something would have been done otherwise than asked, and --strict forbids it
  cancelled = 130,    // Ctrl-C or SIGTERM
};

// The message says what happened, where (file, tensor, option), what was expected, and what to do about it.
class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

// throw fail(Code::usage, "--steps {} is too many", n)
template <typename... Args>
Error fail(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Error(code, fmt::format(format, std::forward<Args>(args)...));
}

// For our own mistakes only: no input may be able to fire one.
template <typename... Args>
void invariant(bool holds, fmt::format_string<Args...> format, Args&&... args) {
  if (!holds) throw fail(Code::internal, format, std::forward<Args>(args)...);
}

}  // namespace cudream
