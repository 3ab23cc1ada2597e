// "auto", "cpu", "reference" -> Device.
#include "kernels/open.h"

#include "core/error.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/reference/reference_device.h"

namespace cudream {

std::unique_ptr<Device> open_device(const DeviceOptions& options) {
  if (options.name == "reference") {
    if (options.precision && *options.precision != DType::f32)
      throw fail(Code::usage, "--precision {}: the reference device computes in f32 only", name_of(*options.precision));
    return open_reference();
  }
  if (options.name == "cpu" || options.name == "auto") return open_cpu(options.precision, options.threads);
  throw fail(Code::usage, "--device {}: known devices are auto, cpu and reference", options.name);
}

}  // namespace cudream
