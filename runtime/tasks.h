// How each kind of job is made of passes: which pictures and masks a pass gets, and what becomes of its result.
#pragma once

#include <vector>

#include "runtime/engine.h"

namespace cudream {

// Makes the pictures of completed jobs that may share a pass (see pass_key), one each. Throws Error, also what reading the jobs'
// picture throws.
//
// A job with a picture works on it at the size that complete() chose, padded to what the autoencoder can halve; only_masked
// works on the region around the mask at width x height instead, and the result has the size of the input picture. `grow` paints
// around the picture, frame by frame. `hires` makes a picture from words twice, the second time larger.
std::vector<Image> make_pictures(Engine&, const std::vector<Job>& jobs, const RunHooks& = {}, const RunChecks& = {});

// The memory that make_pictures() takes, over all its passes, from the same walk with nothing computed. Reads the pictures of the
// jobs, whose sizes count.
MemoryPlan plan_pictures(Engine&, const std::vector<Job>& jobs);

}  // namespace cudream
