// Opens a device by name.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/providers.h"

namespace cudream {

struct DeviceOptions {
  std::string name = "auto";       // auto, cuda, cuda:N, cpu or reference
  std::optional<DType> precision;  // nothing: the best this device has (bf16 where the processor is fast at it)
  Providers providers;             // on a CUDA device
  int threads = 0;                 // 0: as many as there are processors for this process
};

// Throws Error(usage) for an unknown name, Error(device | unsupported) when it cannot be had.
std::unique_ptr<Device> open_device(const DeviceOptions& options);

// What of NVIDIA's libraries this machine has, for people.
struct LibraryState {
  std::string name, text;
};
std::vector<LibraryState> cuda_libraries();

}  // namespace cudream
