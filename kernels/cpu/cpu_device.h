// The CPU device: products and convolutions by AMX tiles or oneDNN; our own attention, norms and pointwise verbs.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "kernels/cpu/isa.h"
#include "kernels/device.h"

namespace cudream {

// precision: f32 or bf16; nothing: bf16 where the processor multiplies it natively (AVX-512 bf16, AMX), else f32.
// Throws Error(unsupported) for bf16 on a processor without it, Error(usage) for another type.
std::unique_ptr<Device> open_cpu(std::optional<DType> precision, int threads);
// The same with a lesser instruction set than the best, for tests and measurements.
std::unique_ptr<Device> open_cpu(std::optional<DType> precision, int threads, const Isa& isa);

}  // namespace cudream
