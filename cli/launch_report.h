// What the virtual GPU of the tests counted of each launch, read back from its report (tests/vgpu/README.md).
#pragma once

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/error.h"

namespace cudream {

// The report of this process: a line of JSON a launch, in a file without a name. Make one before the first device is opened: that
// is when the driver reads the environment. On a real card nothing is reported. Throws Error(io).
class LaunchReport {
 public:
  LaunchReport() : file_(memfd_create("launches", MFD_CLOEXEC)) {
    if (file_ < 0) throw fail(Code::io, "no memory for the report of the virtual GPU");
    setenv("CUDREAM_VGPU_REPORT", fmt::format("/proc/self/fd/{}", file_).c_str(), 1);
  }
  ~LaunchReport() { ::close(file_); }
  LaunchReport(const LaunchReport&) = delete;
  LaunchReport& operator=(const LaunchReport&) = delete;

  // The launches since the last call, in order; wait for the device before. Throws Error(io).
  std::vector<nlohmann::json> take() {
    struct stat now {};
    fstat(file_, &now);
    std::string text(static_cast<size_t>(now.st_size), '\0');
    if (::pread(file_, text.data(), text.size(), 0) != now.st_size || ::ftruncate(file_, 0) != 0)
      throw fail(Code::io, "cannot read the report of the virtual GPU");
    std::vector<nlohmann::json> launches;
    for (size_t at = 0, end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
      launches.push_back(nlohmann::json::parse(text.substr(at, end - at)));
    return launches;
  }

 private:
  int file_;
};

}  // namespace cudream
