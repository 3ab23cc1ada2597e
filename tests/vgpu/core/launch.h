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
};

struct LaunchOptions {
  uint32_t workers = 0;        // host threads; 0: one for each core
  bool count_traffic = false;  // sectors and wavefronts
  bool reverse = false;        // blocks last to first
  bool block_order = false;    // races between blocks are faults
};

// Runs all blocks to their ends, spread over the cores. Blocks are independent; the atomics of different blocks meet in no
// fixed order. Throws Fault: the one of the lowest block that failed among those that ran.
Counters run(const Launch& launch, const DeviceMemory& memory, const LaunchOptions& options);

}  // namespace cudream::vgpu
