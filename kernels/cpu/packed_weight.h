// The device's note on a packed matrix or filter (Weight::layout).
#pragma once

#include <dnnl.hpp>
#include <vector>

#include "kernels/cpu/pages.h"

namespace cudream {

// Weights [out, in, kernel, kernel] cut into slices of output channels, each in oneDNN's preferred layout. For geglu the
// slices of the first half come first and those of the second half after, cut alike.
struct PackedWeight {
  struct Copy {
    dnnl::memory::desc layout;
    PageBuffer memory;
  };
  struct Slice {
    int64_t first = 0, count = 0;  // output channels
    dnnl::memory::desc layout;
    std::byte* at = nullptr;
    mutable std::vector<Copy> copies;  // in other layouts, for blocks that oneDNN has no fast code for in this one
  };
  int64_t in = 0, kernel = 0;  // kernel 0: a product
  std::vector<Slice> slices;
};

}  // namespace cudream
