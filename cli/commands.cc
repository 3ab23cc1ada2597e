// The table of commands.
#include "cli/commands.h"

#include <CLI/CLI.hpp>

namespace cudream {
namespace {

constexpr const char* kFooter = R"(Exit statuses:
  0  done                        5  not enough memory
  1  a mistake of the program    6  the device failed
  2  options that make no sense  7  reading or writing failed (disk full, closed pipe)
  3  a damaged file              8  no such model or file
  4  not supported               9  a batch finished with failures
  130  cancelled                 10  a notice, which --strict makes an error

`cudream COMMAND --help` has the options and examples of each.)";

struct Entry {
  const char *name, *summary;
  Command (*add)(CLI::App&);
};
constexpr Entry kTable[] = {
    {"generate", "Make pictures from a prompt, or from a picture and a prompt", add_generate},
    {"batch", "Make the pictures of a file of prompts", add_batch},
    {"worker", "Make the pictures that batches submit to a queue", add_worker},
    {"decode", "Finish a picture whose decoding failed", add_decode},
    {"models", "List the models found, or the folder to put them in", add_models},
    {"inspect", "Say what a model file, model folder or picture is", add_inspect},
    {"convert", "Write a model in another layout or precision, or with a LoRA in it", add_convert},
    {"doctor", "Check the processor, devices and folders", add_doctor},
    {"plan", "Say what memory a picture takes, before anything is loaded", add_plan},
    {"bench", "Measure this machine", add_bench},
    {"help", "Explain a command, or print the man page", add_help},
    {"completion", "Print a completion script for bash, zsh or fish", add_completion},
};

}  // namespace

void describe_program(CLI::App& app, Command& chosen) {
  app.name("cudream");
  app.description("Pictures with Stable Diffusion models.");
  app.set_version_flag("--version", "cudream " CUDREAM_VERSION);
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.footer(kFooter);
  for (const Entry& entry : kTable) {
    CLI::App* command = app.add_subcommand(entry.name, entry.summary);
    command->callback([&chosen, body = entry.add(*command)] { chosen = body; });
  }
}

}  // namespace cudream
