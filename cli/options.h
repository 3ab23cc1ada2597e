// The options that commands share, bound to plain structs.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/types.h"
#include "kernels/open.h"
#include "runtime/job.h"

namespace CLI {
class App;
}

namespace cudream {

// Where to run and where models are.
struct HostOptions {
  std::string device = "auto", precision = "auto";
  std::string gemm = "auto", conv = "auto", attention = "auto";
  bool tune = false;
  int threads = 0;
  std::vector<std::filesystem::path> models_dirs;
  std::string loader = "auto";
  std::filesystem::path wildcards;  // the folder of their lists; empty: beside the models folder
  bool json = false, quiet = false, offload = false, strict = false;

  DeviceOptions device_options() const;  // throws Error(usage)
  // The one way of notices to people: a line of the log, or Error(strict) with the same text.
  void notice(const std::string& text) const;
};
void add_host_options(CLI::App&, HostOptions&);
void add_models_dir_option(CLI::App&, HostOptions&);
void add_strict_option(CLI::App&, HostOptions&);

// Everything that makes the picture itself. Values are checked where the model is known: complete() in runtime/job.h.
struct JobOptions {
  Job job;
  std::optional<uint64_t> seed;  // nothing: a random one
  int count = 1;
  bool no_metadata = false;  // pictures say nothing of how they were made
};
void add_job_options(CLI::App&, JobOptions&);

// A random seed that people can type: 32 bits, as the web UIs draw.
uint64_t random_seed();

}  // namespace cudream
