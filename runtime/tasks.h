// How each kind of job is made of passes: which pictures and masks a pass gets, and what becomes of its result.
#pragma once

#include <optional>
#include <vector>

#include "runtime/engine.h"

namespace cudream {

// The model that makes pictures, and the one that takes over from it where a job has a refiner.
struct Engines {
  Engine& base;
  Engine* refiner = nullptr;

  // Of jobs that may share the passes of both: they may read texts of different lengths.
  std::string pass_key(const Job& job) const {
    return base.pass_key(job) + (refiner != nullptr ? "\n" + refiner->pass_key(job) : "");
  }
};

// Makes the pictures of completed jobs that may share their passes, one each. Throws Error, also what reading the jobs' picture
// throws.
//
// A job with a picture works on it at the size that complete() chose, padded to what the autoencoder can halve; only_masked
// works on the region around the mask at width x height instead, and the result has the size of the input picture. `grow` paints
// around the picture, frame by frame. `hires` makes a picture from words twice, the second time larger.
std::vector<Image> make_pictures(const Engines&, const std::vector<Job>& jobs, const RunHooks& = {}, const RunChecks& = {});

// The memory of a job: of the model that makes pictures, and of its refiner. Both stay on the device.
struct JobMemory {
  MemoryPlan base;
  std::optional<MemoryPlan> refiner;
  int64_t device_bytes() const { return base.device_bytes() + (refiner ? refiner->device_bytes() : 0); }
  int64_t most_bytes() const;  // also while weights are loaded
};

// What make_pictures() takes, over all its passes, from the same walk with nothing computed. Reads the pictures of the jobs,
// whose sizes count; of the hooks only preview_every matters.
JobMemory plan_pictures(const Engines&, const std::vector<Job>& jobs, const RunHooks& = {});

// What it takes beside what the engines hold already: their weights, and the memory of passes before.
int64_t missing_bytes(const Engines&, const std::vector<Job>& jobs);

}  // namespace cudream
