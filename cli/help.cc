// cudream help, cudream completion: the option table in the forms that people and shells read.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/reference.h"
#include "core/error.h"
#include "core/log.h"

namespace cudream {

Command add_help(CLI::App& app) {
  struct Options {
    std::string command;
    bool man = false;
  };
  auto options = std::make_shared<Options>();
  app.add_option("command", options->command, "The command to explain; all, briefly, when left out");
  app.add_flag("--man", options->man, "Print the man page: cudream help --man > /usr/local/share/man/man1/cudream.1");
  return [&app, options] {
    const CLI::App& program = *app.get_parent();
    const auto named = program.get_subcommands([&](const CLI::App* a) { return a->get_name() == options->command; });
    if (!options->command.empty() && named.empty())
      throw fail(Code::usage, "no command \"{}\"; see `cudream --help`", printable(options->command));
    // App::help() would explain the command that was parsed: this one.
    const auto text = [&](const CLI::App& of, const std::string& name) {
      return of.get_formatter()->make_help(&of, name, CLI::AppFormatMode::Normal);
    };
    if (options->man)
      fmt::print("{}", man_page(program));
    else if (named.empty())
      fmt::print("{}", text(program, program.get_name()));
    else
      fmt::print("{}", text(*named.front(), program.get_name() + " " + options->command));
    return 0;
  };
}

Command add_completion(CLI::App& app) {
  auto shell = std::make_shared<std::string>();
  app.add_option("shell", *shell, "bash, zsh or fish")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
  app.footer(R"(Examples:
  source <(cudream completion bash)
  cudream completion fish > ~/.config/fish/completions/cudream.fish)");
  return [&app, shell] {
    const Shell which = *shell == "bash" ? Shell::bash : *shell == "zsh" ? Shell::zsh : Shell::fish;
    fmt::print("{}", completion(*app.get_parent(), which));
    return 0;
  };
}

}  // namespace cudream
