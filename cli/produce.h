// Runs a job as often as asked and writes the pictures, each with the settings that make it again.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/output_name.h"
#include "cli/session.h"
#include "runtime/picture/image.h"

namespace cudream {

struct Production {
  Job job;  // complete; its seed is the first picture's
  int count = 1, batch = 1;
  Exists exists = Exists::refuse;
  bool no_metadata = false;
};

// Where a finished picture goes.
using NamePicture = std::function<std::filesystem::path(const NameFields&)>;

// Makes `count` pictures, `batch` at a time where they may share a pass, and writes each while the next are made. What is written
// stays, whatever happens next.
void produce(Session&, const Production&, const NamePicture&, Progress&, const RunChecks& = {});

// What besides the job a picture came from: the file of its model (Session::model_hash), libraries that our own kernels had help
// of (Device::libraries_used), and stages that overflowed and were done again in f32 (RunHooks::on_redone). Each may be empty.
struct Making {
  std::string model_hash, libraries;
  std::set<std::string> redone;
};

// A picture that was made, and the share of its pass's time.
struct MadePicture {
  Job job;
  Image image;
  Making making;
  double seconds = 0;
};
// One pass: the pictures of completed jobs of equal pass_key and adapters, which the session has in use. When pictures from words
// cannot be decoded, the latent of picture i is kept as NAME.latent.safetensors, if place(i) says that it would be NAME.png.
using PlacePicture = std::function<std::optional<std::filesystem::path>(size_t i)>;
std::vector<MadePicture> make(Session&, const std::vector<Job>& jobs, const PlacePicture& place, Progress&,
                              const RunChecks& = {});

// The texts that go into the picture: A1111's parameters, and our own Job.
Metadata describe_picture(const Job&, const Making&);

}  // namespace cudream
