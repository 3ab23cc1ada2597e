// "auto", "cuda:1", "cpu", "reference" -> Device.
#include "kernels/open.h"

#include <charconv>

#include "core/error.h"
#include "core/log.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cuda/cuda_device.h"
#include "kernels/reference/reference_device.h"

namespace cudream {
namespace {

// "cuda" or "cuda:N"; nothing for other names.
std::optional<int> cuda_ordinal(std::string_view name) {
  if (name == "cuda") return 0;
  if (!name.starts_with("cuda:")) return std::nullopt;
  int ordinal = -1;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + 5, end, ordinal);
  return error == std::errc() && stop == end && ordinal >= 0 ? std::optional(ordinal) : std::nullopt;
}

// A GPU where there is one, else the processor; the log says why.
std::unique_ptr<Device> open_best(const DeviceOptions& options) {
  try {
    return open_cuda(0, options.precision, options.providers);
  } catch (const Error& e) {
    if (e.code() == Code::usage) throw;
    log(LogLevel::debug, "no GPU is used: {}", e.what());
  }
  return open_cpu(options.precision, options.threads);
}

std::unique_ptr<Device> open_named(const DeviceOptions& options) {
  if (options.name == "auto") return open_best(options);
  if (options.name == "cpu") return open_cpu(options.precision, options.threads);
  if (const auto ordinal = cuda_ordinal(options.name)) return open_cuda(*ordinal, options.precision, options.providers);
  if (options.name == "reference") {
    if (options.precision && *options.precision != DType::f32)
      throw fail(Code::usage, "--precision {}: the reference device computes in f32 only", name_of(*options.precision));
    return open_reference();
  }
  throw fail(Code::usage, "--device {}: known devices are auto, cuda, cuda:N, cpu and reference", options.name);
}

}  // namespace

std::unique_ptr<Device> open_device(const DeviceOptions& options) {
  std::unique_ptr<Device> device = open_named(options);
  if ((options.providers.tune || options.providers.has(LibraryUse::always)) && !device->info().kind.starts_with("cuda"))
    throw fail(Code::usage, "--tune, cublaslt and cudnn are for a CUDA device, and this is the {} device; see `cudream doctor`",
               device->info().kind);
  return device;
}

std::vector<LibraryState> cuda_libraries() {
  const auto state = [](const char* name, std::string (*version)(), const char* use) -> LibraryState {
    try {
      return {name, fmt::format("{}; used {}, or where --tune found it faster", version(), use)};
    } catch (const Error& e) {
      return {name, fmt::format("not used: {}", e.what())};
    }
  };
  return {state("cuBLASLt", cublaslt_version, "with --gemm cublaslt"),
          state("cuDNN", cudnn_version, "with --conv cudnn and --attention cudnn")};
}

}  // namespace cudream
