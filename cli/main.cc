// The program: the one place where an Error becomes an exit status.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <new>

#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/log.h"

namespace {

using namespace cudream;  // NOLINT: this file is the program

int report(const Error& e) {
  set_log_sink({});
  log(LogLevel::error, "{}", e.what());
  return static_cast<int>(e.code());
}

// Results that could not be printed are a failure, not a success.
int flushed(int status) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  return report(fail(Code::io, "standard output was closed before everything was written"));
}

int run(int argc, char** argv) {
  CLI::App app;
  Command chosen;
  describe_program(app, chosen);
  const auto is_asked = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(is_asked).empty())
    throw fail(Code::usage, "no command \"{}\"; see `cudream --help`", printable(argv[1]));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return flushed(app.exit(e));  // --help, --version
    const auto used = app.get_subcommands();
    log(LogLevel::error, "{}; see `cudream {}--help`", printable(e.what()), used.empty() ? "" : used.front()->get_name() + " ");
    return static_cast<int>(Code::usage);
  }
  catch_signals();
  return flushed(chosen());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& e) {
    return report(e);
  } catch (const std::bad_alloc&) {
    return report(Error(Code::out_of_memory, "not enough memory"));
  } catch (const std::exception& e) {
    return report(fail(Code::internal, "unexpected: {}", e.what()));
  }
}
