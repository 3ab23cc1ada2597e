// Walks over the commands and options of CLI11's tree.
#include "cli/reference.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <vector>

namespace cudream {
namespace {

std::vector<const CLI::App*> commands(const CLI::App& program) {
  return program.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<const CLI::Option*> options(const CLI::App& command) {
  return command.get_options([](const CLI::Option*) { return true; });
}

// "{a,b,c}" in the name of an option's type: what it may be.
std::vector<std::string> choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t begin = type.find('{'), end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos) return {};
  return CLI::detail::split(type.substr(begin + 1, end - begin - 1), ',');
}

bool takes_value(const CLI::Option& option) {
  return option.get_items_expected_max() > 0;
}

// Whether a value is a path, so that a shell completes files.
bool is_path(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.find("FILE") != std::string::npos || type.find("FOLDER") != std::string::npos;
}

std::vector<std::string> flags(const CLI::Option& option) {
  std::vector<std::string> all;
  for (const std::string& name : option.get_snames()) all.push_back("-" + name);
  for (const std::string& name : option.get_lnames()) all.push_back("--" + name);
  return all;
}

// ---- man(7) -----------------------------------------------------------------------------------------------------------

// Text in which nothing is a request or an escape.
std::string roff(std::string_view text) {
  std::string out;
  bool line_start = true;
  for (const char c : text) {
    if (line_start && (c == '.' || c == '\'')) out += "\\&";
    if (c == '\\')
      out += "\\e";
    else if (c == '-')
      out += "\\-";
    else
      out += c;
    line_start = c == '\n';
  }
  return out;
}

std::string man_option(const CLI::Option& option) {
  std::vector<std::string> names = flags(option);
  if (names.empty()) names.push_back(option.get_name());
  std::string text = ".TP\n";
  for (size_t i = 0; i < names.size(); i++) text += fmt::format("{}\\fB{}\\fR", i > 0 ? ", " : "", roff(names[i]));
  if (const auto values = choices(option); !values.empty())
    text += fmt::format(" \\fI{}\\fR", roff(fmt::format("{}", fmt::join(values, "|"))));
  else if (takes_value(option) && !flags(option).empty())
    text += fmt::format(" \\fI{}\\fR", roff(option.get_type_name()));
  text += "\n" + roff(option.get_description()) + "\n";
  if (!option.get_default_str().empty()) text += roff(fmt::format("(default: {})", option.get_default_str())) + "\n";
  return text;
}

std::string as_printed(const std::string& text) {
  return ".PP\n.nf\n" + roff(text) + "\n.fi\n";
}

std::string man_command(const CLI::App& command) {
  std::string text = fmt::format(".SS {}\n{}.\n", roff(command.get_name()), roff(command.get_description()));
  for (const CLI::Option* option : options(command)) text += man_option(*option);
  return command.get_footer().empty() ? text : text + as_printed(command.get_footer());
}

// ---- Shells -----------------------------------------------------------------------------------------------------------

std::string names_of(const std::vector<const CLI::App*>& apps) {
  std::string text;
  for (const CLI::App* app : apps) text += (text.empty() ? "" : " ") + app->get_name();
  return text;
}

std::string bash(const CLI::App& program) {
  std::string options_of, values_of;
  for (const CLI::App* command : commands(program)) {
    std::string all;
    for (const CLI::Option* option : options(*command)) {
      const std::vector<std::string> names = flags(*option);
      for (const std::string& name : names) all += (all.empty() ? "" : " ") + name;
      if (names.empty() || !takes_value(*option)) continue;
      std::string pattern;
      for (const std::string& name : names)
        pattern += fmt::format("{}{}:{}", pattern.empty() ? "" : "|", command->get_name(), name);
      const auto values = choices(*option);
      values_of += values.empty() ? fmt::format("    {}) {}; return ;;\n", pattern, is_path(*option) ? "compopt -o default" : ":")
                                  : fmt::format("    {}) COMPREPLY=($(compgen -W \"{}\" -- \"$word\")); return ;;\n", pattern,
                                                fmt::join(values, " "));
    }
    options_of += fmt::format("    {}) options=\"{}\" ;;\n", command->get_name(), all);
  }
  return fmt::format(R"(# bash completion for {0}: {0} completion bash > /usr/share/bash-completion/completions/{0}
_{0}() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} options=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{1}" -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}:$before" in
{2}  esac
  case "${{COMP_WORDS[1]}}" in
{3}  esac
  case "$word" in
    -*) COMPREPLY=($(compgen -W "$options" -- "$word")) ;;
    *) compopt -o default ;;
  esac
}}
complete -F _{0} {0}
)",
                     program.get_name(), names_of(commands(program)), values_of, options_of);
}

// Within single quotes.
std::string quoted(const std::string& text) {
  return "'" + CLI::detail::find_and_replace(text, "'", "'\\''") + "'";
}

std::string zsh_option(const CLI::Option& option) {
  std::string lines;
  // In a description brackets end it, and a colon begins the next field.
  std::string help = option.get_description();
  for (const char c : {'\\', '[', ']', ':'}) help = CLI::detail::find_and_replace(help, std::string(1, c), std::string("\\") + c);
  std::string value;
  if (const auto values = choices(option); !values.empty())
    value = fmt::format(":value:({})", fmt::join(values, " "));
  else if (takes_value(option))
    value = is_path(option) ? ":file:_files" : ":value:";
  for (const std::string& name : flags(option))
    lines += fmt::format("        {} \\\n", quoted(fmt::format("*{}[{}]{}", name, help, value)));
  return lines;
}

std::string zsh(const CLI::App& program) {
  std::string names, cases;
  for (const CLI::App* command : commands(program)) {
    names += fmt::format("    {}\n", quoted(command->get_name() + ":" + command->get_description()));
    cases += fmt::format("    {})\n      _arguments -s \\\n", command->get_name());
    for (const CLI::Option* option : options(*command)) cases += zsh_option(*option);
    cases += "        '*::file:_files'\n      ;;\n";
  }
  return fmt::format(R"(#compdef {0}
# zsh completion for {0}: {0} completion zsh > a folder of $fpath, as _{0}
_{0}() {{
  local -a commands
  commands=(
{1}  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{2}  esac
}}
_{0} "$@"
)",
                     program.get_name(), names, cases);
}

std::string fish(const CLI::App& program) {
  const std::string& name = program.get_name();
  std::string text = fmt::format("# fish completion for {0}: {0} completion fish > ~/.config/fish/completions/{0}.fish\n", name);
  for (const CLI::App* command : commands(program)) {
    text += fmt::format("complete -c {} -n __fish_use_subcommand -a {} -d {}\n", name, command->get_name(),
                        quoted(command->get_description()));
    for (const CLI::Option* option : options(*command)) {
      if (flags(*option).empty()) continue;
      text += fmt::format("complete -c {} -n '__fish_seen_subcommand_from {}'", name, command->get_name());
      for (const std::string& s : option->get_snames()) text += " -s " + s;
      for (const std::string& l : option->get_lnames()) text += " -l " + l;
      if (takes_value(*option)) text += is_path(*option) ? " -r" : " -x";
      if (const auto values = choices(*option); !values.empty())
        text += " -a " + quoted(fmt::format("{}", fmt::join(values, " ")));
      text += " -d " + quoted(option->get_description()) + "\n";
    }
  }
  return text;
}

}  // namespace

std::string man_page(const CLI::App& program) {
  std::string upper = program.get_name();
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  std::string text = fmt::format(".TH {} 1 \"\" \"{} {}\" \"\"\n.SH NAME\n{} \\- {}\n", upper, program.get_name(),
                                 CUDREAM_VERSION, program.get_name(), roff(program.get_description()));
  text += fmt::format(".SH SYNOPSIS\n\\fB{}\\fR \\fICOMMAND\\fR [\\fIoptions\\fR]\n.SH COMMANDS\n", program.get_name());
  for (const CLI::App* command : commands(program)) text += man_command(*command);
  return text + ".SH \"EXIT STATUS\"\n" + as_printed(program.get_footer());
}

std::string completion(const CLI::App& program, Shell shell) {
  switch (shell) {
    case Shell::bash: return bash(program);
    case Shell::zsh: return zsh(program);
    case Shell::fish: break;
  }
  return fish(program);
}

}  // namespace cudream
