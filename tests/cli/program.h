// Runs the program as a user would, in a home of its own, and keeps what it printed.
#pragma once

#include <sys/wait.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/file.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {

struct Outcome {
  int status = 0;  // exit status; 128 + n when signal n ended it
  std::string out, err;
};

class Program {
 public:
  // The program under test: the one of this build, or what CUDREAM_PROGRAM names.
  static std::string program() {
    const char* given = std::getenv("CUDREAM_PROGRAM");
    return given != nullptr ? given : CUDREAM_BINARY_DIR "/bin/cudream";
  }
  // The arguments of a shell command line; `before` and `after` surround the program: "ulimit -f 1;", "| head -1".
  Outcome run(const std::string& arguments, const std::string& before = "", const std::string& after = "") const {
    const std::string home = path().string(), out = home + "/.stdout", err = home + "/.stderr";
    const std::string command = "cd '" + home + "'; export HOME='" + home +
                                "' XDG_DATA_HOME= XDG_CONFIG_HOME= HF_HOME= CUDREAM_MODELS=; " + before + " '" + program() +
                                "' " + arguments + " >'" + out + "' 2>'" + err + "' " + after;
    const int status = std::system(command.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read_text(out, 1 << 24), read_text(err, 1 << 24)};
  }
  const std::filesystem::path& path() const { return folder_.path(); }
  std::filesystem::path write(const std::filesystem::path& name, std::string_view text) const {
    return folder_.write(name, text);
  }
  std::string read(const std::filesystem::path& name) const { return read_text(path() / name, size_t{1} << 30); }
  bool has(const std::filesystem::path& name) const { return std::filesystem::exists(path() / name); }
  // Everything in a folder but dot files.
  size_t files_in(const std::filesystem::path& name) const {
    size_t count = 0;
    if (!has(name)) return 0;
    for (const auto& entry : std::filesystem::directory_iterator(path() / name))
      count += entry.path().filename().string().front() != '.' || entry.path().extension() == ".part";
    return count;
  }

 private:
  TemporaryFolder folder_;
};

// A small, quick picture with the demo model.
inline const std::string kQuick = "-m demo --steps 2 --width 64 --height 64 --seed 1 ";

}  // namespace cudream
