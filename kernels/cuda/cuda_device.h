// The CUDA device: every verb as a kernel of our own on one NVIDIA GPU, for any size, alignment and type.
#pragma once

#include <memory>
#include <optional>

#include "kernels/device.h"

namespace cudream {

// precision: f16 (the default), bf16 or f32. Throws Error(usage) for another type, Error(unsupported) in a build without
// kernels, Error(device) where there is no driver, no such card, or one before compute capability 8.0.
std::unique_ptr<Device> open_cuda(int ordinal, std::optional<DType> precision);

}  // namespace cudream
