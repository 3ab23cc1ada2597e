// The program in the background, and what it leaves in a folder.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <map>
#include <string>
#include <thread>

#include "tests/cli/program.h"

namespace cudream {

// Tries again, for half a minute.
template <typename Condition>
bool comes_true(Condition condition) {
  for (int i = 0; i < 3000; i++) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

// In its home; what it says goes to ".stdout" and ".stderr" there, followed by `name` where several run.
class Running {
 public:
  Running(const Program& program, const std::string& arguments, const std::string& name = "") {
    process_ = ::fork();
    if (process_ != 0) return;
    const std::string home = program.path().string();
    const std::string command = "cd '" + home + "'; exec env HOME='" + home +
                                "' XDG_DATA_HOME= XDG_CONFIG_HOME= HF_HOME= CUDREAM_MODELS= '" + Program::program() + "' " +
                                arguments + " >.stdout" + name + " 2>.stderr" + name;
    ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    std::_Exit(127);
  }
  // A test that ends early leaves none behind.
  ~Running() {
    if (waited_) return;
    send(SIGKILL);
    wait();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  pid_t process() const { return process_; }
  void send(int signal) const { ::kill(process_, signal); }
  int wait() const {
    int status = 0;
    ::waitpid(process_, &status, 0);
    waited_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  void wait_for(const Program& program, const std::filesystem::path& file) const {
    ASSERT_TRUE(comes_true([&] { return program.has(file); })) << file;
  }

 private:
  pid_t process_ = -1;
  mutable bool waited_ = false;
};

inline std::map<std::string, std::string> pictures(const Program& program, const std::filesystem::path& folder) {
  std::map<std::string, std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(program.path() / folder))
    if (entry.is_regular_file()) all[entry.path().filename()] = program.read(entry.path());
  return all;
}

}  // namespace cudream
