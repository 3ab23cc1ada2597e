// The settings that Stable Diffusion WebUI (A1111) stores in a picture, as a job.
#pragma once

#include "runtime/job.h"
#include "runtime/picture/parameters.h"

namespace cudream {

// Takes the keys that mean something to us; the others, and values that we have no equal for, are one notice each. Names lose
// their folders, suffixes and hashes. The noise is that of its default, `RNG: GPU`, where nothing else is said. Throws
// Error(bad_file) for a number that is none.
//
// A picture that was made from another one has a `Denoising strength` and no `Hires` key: Job::strength is then set.
Job job_from_parameters(const Parameters&, const Notice& on_notice);

}  // namespace cudream
