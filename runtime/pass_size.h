// How many pictures of a batch are made in one pass of the networks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "core/spec.h"
#include "kernels/device.h"
#include "runtime/job.h"

namespace cudream {

// The largest of 1 to `most` that fits, where whatever is smaller than one that fits does too; 1 if none does. `most` is asked
// about first.
size_t largest_fitting(size_t most, const std::function<bool(size_t)>& fits);

// With so many pictures of a completed job a GPU is full: more of them would make its passes longer and hardly any cheaper.
size_t filling_pictures(const Job&, const ModelSpec&, int multiprocessors);

// What bounds a pass beside the job.
struct PassBounds {
  size_t asked = 0;  // pictures at most; 0: as many as fill the device
  const DeviceInfo& device;
  int64_t free_bytes = 0;
  std::function<int64_t(size_t)> need;  // bytes that a pass of so many pictures takes of those
};

struct PassSize {
  size_t pictures = 1;
  std::string why;  // they are not more, for people
};
std::string describe(const PassSize&);  // "passes of 22 pictures: they fill the 108 multiprocessors of cuda:0"

// As many as are asked for, or fill the device, if they fit; else the most that do. A processor makes one picture after the
// other, so it gains nothing from a pass of several, and a kill would cost more. Throws what `need` throws.
PassSize pass_size(const Job&, const ModelSpec&, const PassBounds&);

}  // namespace cudream
