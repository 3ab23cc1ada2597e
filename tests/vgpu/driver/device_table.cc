// The cards the virtual driver can pose as.
#include "tests/vgpu/driver/device_table.h"

#include <array>

namespace cudream::vgpu {
namespace {

constexpr size_t kGiB = size_t{1} << 30, kMiB = size_t{1} << 20;
constexpr std::array<DeviceModel, 4> kModels = {{
    {"a100", "NVIDIA A100-SXM4-80GB (virtual)", 8, 0, 108, 1410000, 1593000, 5120, 80 * kGiB, 40 * kMiB, 167936, 166912, 2048, 32,
     2048},
    {"4090", "NVIDIA GeForce RTX 4090 (virtual)", 8, 9, 128, 2520000, 10501000, 384, 24 * kGiB, 72 * kMiB, 102400, 101376, 1536,
     24, 512},
    {"h100", "NVIDIA H100 80GB HBM3 (virtual)", 9, 0, 132, 1980000, 2619000, 5120, 80 * kGiB, 50 * kMiB, 233472, 232448, 2048, 32,
     4096},
    {"2080", "NVIDIA GeForce RTX 2080 Ti (virtual)", 7, 5, 68, 1545000, 7000000, 352, 11 * kGiB, 11 * kMiB / 2, 65536, 65536,
     1024, 16, 512},
}};

}  // namespace

Rates DeviceModel::rates() const {
  const double clocks = 1e3 * clock_khz * multiprocessors;
  return {.tensor_flops = clocks * tensor_flops_per_clock,
          .instructions = clocks * 4,
          .shared_wavefronts = clocks,
          .memory_bytes = 1e3 * memory_clock_khz * 2 * bus_bits / 8};
}

const DeviceModel* device_model(std::string_view key) {
  for (const DeviceModel& m : kModels) {
    if (m.key == key) return &m;
  }
  return nullptr;
}

std::optional<int> device_attribute(const DeviceModel& m, int ordinal, CUdevice_attribute attribute) {
  switch (attribute) {
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X:
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Y: return 1024;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_Z: return 64;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X: return 2147483647;
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Y:
    case CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_Z: return 65535;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK: return 49152;
    case CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY: return 65536;
    case CU_DEVICE_ATTRIBUTE_WARP_SIZE: return 32;
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK:
    case CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_MULTIPROCESSOR: return 65536;
    case CU_DEVICE_ATTRIBUTE_CLOCK_RATE: return m.clock_khz;
    case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: return m.multiprocessors;
    case CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: return m.memory_clock_khz;
    case CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: return m.bus_bits;
    case CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE: return static_cast<int>(m.l2_bytes);
    case CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR: return m.threads_per_multiprocessor;
    case CU_DEVICE_ATTRIBUTE_MAX_BLOCKS_PER_MULTIPROCESSOR: return m.blocks_per_multiprocessor;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: return m.major;
    case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: return m.minor;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR: return m.shared_per_multiprocessor;
    case CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN: return m.shared_per_block_optin;
    case CU_DEVICE_ATTRIBUTE_RESERVED_SHARED_MEMORY_PER_BLOCK: return 1024;
    case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT: return 2;
    case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: return ordinal + 1;
    case CU_DEVICE_ATTRIBUTE_CONCURRENT_KERNELS:
    case CU_DEVICE_ATTRIBUTE_COOPERATIVE_LAUNCH:
    case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
    case CU_DEVICE_ATTRIBUTE_MEMORY_POOLS_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_STREAM_PRIORITIES_SUPPORTED:
    case CU_DEVICE_ATTRIBUTE_GPU_OVERLAP: return 1;
    case CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID:
    case CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID:
    case CU_DEVICE_ATTRIBUTE_INTEGRATED:
    case CU_DEVICE_ATTRIBUTE_ECC_ENABLED:
    case CU_DEVICE_ATTRIBUTE_COMPUTE_MODE:
    case CU_DEVICE_ATTRIBUTE_TCC_DRIVER:
    case CU_DEVICE_ATTRIBUTE_KERNEL_EXEC_TIMEOUT:
    case CU_DEVICE_ATTRIBUTE_MANAGED_MEMORY: return 0;
    default: return std::nullopt;
  }
}

}  // namespace cudream::vgpu
