// The least time a card could need for what a launch did: each kind of work at the card's peak rate, all overlapped. The
// longest names the bound (Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model").
#pragma once

#include <string_view>

#include "tests/vgpu/check/counters.h"

namespace cudream::vgpu {

// Peak rates of a whole card, per second.
struct Rates {
  double tensor_flops = 0;
  double instructions = 0;       // of warps
  double shared_wavefronts = 0;  // passes over the 32 banks
  double memory_bytes = 0;       // of device memory
};

struct Roofline {
  double tensor = 0, issue = 0, shared = 0, memory = 0;  // seconds
  std::string_view bound;                                // the longest of them
};

// Every sector counts as fetched from device memory: what the caches save is not modelled.
Roofline roofline(const Counters& counters, const Rates& rates);

}  // namespace cudream::vgpu
