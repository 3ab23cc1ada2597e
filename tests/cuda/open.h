// The CUDA device of a test: on the virtual GPU where CUDREAM_LIBCUDA names one, else on the machine's own.
#pragma once

#include <memory>

#include "core/error.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/cuda/virtual_gpu.h"

namespace cudream {

// Null where this machine has no GPU, or the build no kernels; a library named by CUDREAM_LIBCUDA must work.
inline std::unique_ptr<Device> cuda_or_null(DType precision) {
  try {
    return open_cuda(0, precision);
  } catch (const Error& e) {
    const bool absent = e.code() == Code::unsupported || (e.code() == Code::device && !is_virtual_gpu());
    if (!absent) throw;
    return nullptr;
  }
}

}  // namespace cudream
