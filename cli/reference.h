// The option table of the program as a man page and as completions for shells: whatever a command can do is in all of them.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace cudream {

// In the macros of man(7), section 1.
std::string man_page(const CLI::App& program);

// A script to be sourced or put among the shell's completions: commands, options, and the values of those that have a list.
enum class Shell { bash, zsh, fish };
std::string completion(const CLI::App& program, Shell);

}  // namespace cudream
