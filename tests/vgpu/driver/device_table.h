// The cards the virtual driver can pose as.
#pragma once

#include <cuda.h>

#include <optional>
#include <string_view>

#include "tests/vgpu/check/roofline.h"

namespace cudream::vgpu {

// Figures of NVIDIA's data sheets and of "CUDA C++ Programming Guide", tables of compute capabilities.
struct DeviceModel {
  std::string_view key, name;
  int major, minor;
  int multiprocessors, clock_khz, memory_clock_khz, bus_bits;
  size_t memory_bytes, l2_bytes;
  int shared_per_multiprocessor, shared_per_block_optin;
  int threads_per_multiprocessor, blocks_per_multiprocessor;
  int tensor_flops_per_clock;  // of a multiprocessor: dense 16-bit factors, float sums

  // Four schedulers a multiprocessor issue one warp instruction a clock each; shared memory makes one pass; memory moves two
  // bits a pin and memory clock.
  Rates rates() const;
};

// "a100", "4090", "h100", and "2080", too old for the program; null for any other name.
const DeviceModel* device_model(std::string_view key);

// The value of an attribute; nothing for one this driver does not know.
std::optional<int> device_attribute(const DeviceModel& model, int ordinal, CUdevice_attribute attribute);

}  // namespace cudream::vgpu
