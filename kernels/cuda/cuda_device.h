// The CUDA device: every verb as a kernel of our own on one NVIDIA GPU, for any size, alignment and type.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/device.h"
#include "kernels/providers.h"

namespace cudream {

// precision: f16 (the default), bf16 or f32. Throws Error(usage) for another type, Error(unsupported) in a build without
// kernels, Error(device) where there is no driver, no such card, one before compute capability 8.0, or no library that is named.
std::unique_ptr<Device> open_cuda(int ordinal, std::optional<DType> precision, const Providers& providers = {});

// The versions of cuBLASLt and cuDNN on this machine, "13.1.0". Throws Error(device) where they cannot be opened.
std::string cublaslt_version();
std::string cudnn_version();

}  // namespace cudream
