// The product itself, on the memory of the virtual GPU.
#pragma once

#include <string>

#include "tests/vgpu/blaslt/descriptors.h"
#include "tests/vgpu/check/device_memory.h"

namespace cudream::vgpu::blaslt {

// A product as it was queued: everything by value, since descriptors may be gone when it runs.
struct Queued {
  Operation op;
  Layout a, b, c, d;
  Algorithm algorithm;
  float alpha, beta;
  uint64_t a_at, b_at, c_at, d_at, workspace_at;

  Problem problem() const { return {op, a, b, c, d}; }
};

// Runs it. Every byte read must have been written, every byte must lie in one allocation of `device`; otherwise the message
// says what was wrong and nothing is computed.
std::string run(const Queued& product, const DeviceMemory& memory, int device);

}  // namespace cudream::vgpu::blaslt
