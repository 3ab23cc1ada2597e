// Values of a file: as float32, and whether they are finite.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "loader/safetensors.h"

namespace cudream {

// Converts raw values, on any address, to float32 (BOOL: 0 or 1, E8M0: powers of two). Throws Error(unsupported) for C64 and
// the types below a byte.
void to_float(std::span<float> to, FileType, std::span<const std::byte> raw);

// How many values of a tensor are NaN or infinite; 0 for types that to_float does not read.
uint64_t count_non_finite(const SafetensorsFile&, const TensorInfo&);

}  // namespace cudream
