// Runs a job as often as asked and writes the pictures, each with the settings that make it again.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "cli/output_name.h"
#include "cli/session.h"
#include "runtime/picture/image.h"

namespace cudream {

struct Production {
  Job job;  // complete; its seed is the first picture's
  int count = 1, batch = 1;
  Exists exists = Exists::refuse;
};

// Where a finished picture goes.
using NamePicture = std::function<std::filesystem::path(const NameFields&)>;

// Makes `count` pictures, `batch` at a time, and returns where they are. What is written stays, whatever happens next.
std::vector<std::filesystem::path> produce(Session&, const Production&, const NamePicture&, Progress&, const RunChecks& = {});

// The texts that go into the picture: A1111's parameters, and our own Job. libraries: what besides our own kernels made it
// (Device::libraries_used), if anything did.
Metadata describe_picture(const Job&, const std::string& libraries);

}  // namespace cudream
