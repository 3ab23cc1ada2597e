// Opens a device by name.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/device.h"

namespace cudream {

struct DeviceOptions {
  std::string name = "auto";       // auto, cuda, cuda:N, cpu or reference
  std::optional<DType> precision;  // nothing: the best this device has (bf16 where the processor is fast at it)
  int threads = 0;                 // 0: as many as there are processors for this process
};

// Throws Error(usage) for an unknown name, Error(device | unsupported) when it cannot be had.
std::unique_ptr<Device> open_device(const DeviceOptions& options);

}  // namespace cudream
