// A latent that could not be decoded, kept in a file with its job, so that its steps need not be made again.
#pragma once

#include <filesystem>
#include <span>
#include <vector>

#include "runtime/job.h"

namespace cudream {

struct KeptLatent {
  Job job;
  std::vector<float> values;  // [h,w,C], scaled: what a pass makes
  int64_t height = 0, width = 0, channels = 0;
};

// As safetensors: the tensor "latent", the job as JSON among the metadata. Throws Error(io).
void write_latent(const std::filesystem::path&, const KeptLatent&);
// Throws Error: not_found or io; bad_file for one that write_latent did not write.
KeptLatent read_latent(const std::filesystem::path&);

}  // namespace cudream
