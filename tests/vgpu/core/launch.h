// Running a grid of blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/vgpu/core/warp.h"

namespace cudream::vgpu {

struct Launch {
  const Program* program = nullptr;
  Dim grid, threads;
  uint32_t dynamic_shared = 0;      // bytes
  std::vector<uint8_t> parameters;  // kernel->parameter_bytes of them
  int device = 0;
  bool cooperative = false;  // blocks may wait for one another
};

struct LaunchOptions {
  uint32_t workers = 0;        // host threads; 0: one for each core
  bool count_traffic = false;  // sectors and wavefronts
  bool reverse = false;        // blocks last to first
  bool block_order = false;    // races between blocks are faults
};

// Runs all blocks to their ends. Those of an ordinary launch are independent and spread over the cores; the atomics of
// different blocks meet in no fixed order. Those of a cooperative launch are all there at once and take turns on one thread,
// always in the same way. Throws Fault: the one of the lowest block that failed among those that ran, and for a block that
// waits for what never comes.
Counters run(const Launch& launch, const DeviceMemory& memory, const LaunchOptions& options);

}  // namespace cudream::vgpu
