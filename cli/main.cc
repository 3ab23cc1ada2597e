// The program: a table of commands, and the one place where an Error becomes an exit status.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <new>

#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/log.h"

namespace {

using namespace cudream;  // NOLINT: this file is the program

constexpr const char* kFooter = R"(Exit statuses:
  0  done                        5  not enough memory
  1  a mistake of the program    6  the device failed
  2  options that make no sense  7  reading or writing failed (disk full, closed pipe)
  3  a damaged file              8  no such model or file
  4  not supported               9  a batch finished with failures
  130  cancelled                 10  a notice, which --strict makes an error

`cudream COMMAND --help` has the options and examples of each.)";

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
  CLI::App app("Pictures with Stable Diffusion models.", "cudream");
  app.set_version_flag("--version", "cudream " CUDREAM_VERSION);
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.footer(kFooter);

  struct Entry {
    const char *name, *summary;
    Command (*add)(CLI::App&);
  };
  static constexpr Entry kTable[] = {
      {"generate", "Make pictures from a prompt, or from a picture and a prompt", add_generate},
      {"batch", "Make the pictures of a file of prompts", add_batch},
      {"decode", "Finish a picture whose decoding failed", add_decode},
      {"models", "List the models found, or the folder to put them in", add_models},
      {"inspect", "Say what a model file, model folder or picture is", add_inspect},
      {"convert", "Write a model in another layout or precision, or with a LoRA in it", add_convert},
      {"doctor", "Check the processor, devices and folders", add_doctor},
      {"plan", "Say what memory a picture takes, before anything is loaded", add_plan},
      {"bench", "Measure this machine", add_bench},
  };
  Command chosen;
  for (const Entry& entry : kTable) {
    CLI::App* command = app.add_subcommand(entry.name, entry.summary);
    command->callback([&chosen, body = entry.add(*command)] { chosen = body; });
  }

  const auto is_asked = [&](const Entry& entry) { return std::string_view(entry.name) == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && std::none_of(std::begin(kTable), std::end(kTable), is_asked))
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
