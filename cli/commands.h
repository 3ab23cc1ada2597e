// The commands of the program. Each adds its options to a sub-command and says what to run once they are parsed.
#pragma once

#include <functional>

namespace CLI {
class App;  // its header takes long to compile: only files that add options include it
}

namespace cudream {

using Command = std::function<int()>;  // returns the exit status; throws Error

// Name, options and all commands; the one that is parsed is put into `chosen`.
void describe_program(CLI::App&, Command& chosen);

Command add_generate(CLI::App&);
Command add_batch(CLI::App&);
Command add_worker(CLI::App&);
Command add_decode(CLI::App&);
Command add_models(CLI::App&);
Command add_inspect(CLI::App&);
Command add_doctor(CLI::App&);
Command add_bench(CLI::App&);
Command add_plan(CLI::App&);
Command add_convert(CLI::App&);
Command add_help(CLI::App&);
Command add_completion(CLI::App&);

}  // namespace cudream
