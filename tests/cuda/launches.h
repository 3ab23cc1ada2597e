// What the virtual GPU counted of each launch, read back from its report (tests/vgpu/README.md).
#pragma once

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace cudream {

// The report of this process. Make one before the first device is opened: that is when the driver reads the environment.
class LaunchReport {
 public:
  LaunchReport()
      : path_(std::string(std::getenv("TMPDIR") != nullptr ? std::getenv("TMPDIR") : "/tmp") + "/launches_" +
              std::to_string(getpid()) + ".jsonl") {
    setenv("CUDREAM_VGPU_REPORT", path_.c_str(), 1);
  }
  ~LaunchReport() { unlink(path_.c_str()); }
  LaunchReport(const LaunchReport&) = delete;
  LaunchReport& operator=(const LaunchReport&) = delete;

  // The launches that ran since the last call. Wait for the device before.
  std::vector<nlohmann::json> take() {
    std::ifstream in(path_);
    in.seekg(read_);
    std::vector<nlohmann::json> launches;
    for (std::string line; std::getline(in, line);) {
      read_ += static_cast<std::streamoff>(line.size() + 1);
      launches.push_back(nlohmann::json::parse(line));
    }
    return launches;
  }

 private:
  std::string path_;
  std::streamoff read_ = 0;
};

}  // namespace cudream
