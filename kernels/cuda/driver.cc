// Opening libcuda, and its errors in words.
#include "kernels/cuda/driver.h"

#include "kernels/cuda/library.h"

namespace cudream {
namespace {

constexpr const char* kUseCpu = "or run with --device cpu";

Driver load(const Library& library) {
  Driver d{};
  library.find(d.init, "cuInit");
  library.find(d.version, "cuDriverGetVersion");
  library.find(d.error_name, "cuGetErrorName");
  library.find(d.error_text, "cuGetErrorString");
  library.find(d.device_count, "cuDeviceGetCount");
  library.find(d.device_get, "cuDeviceGet");
  library.find(d.device_name, "cuDeviceGetName");
  library.find(d.device_attribute, "cuDeviceGetAttribute");
  library.find(d.device_memory, "cuDeviceTotalMem_v2");
  library.find(d.context_retain, "cuDevicePrimaryCtxRetain");
  library.find(d.context_release, "cuDevicePrimaryCtxRelease_v2");
  library.find(d.context_use, "cuCtxSetCurrent");
  library.find(d.memory_info, "cuMemGetInfo_v2");
  library.find(d.allocate, "cuMemAlloc_v2");
  library.find(d.release, "cuMemFree_v2");
  library.find(d.copy_to_device, "cuMemcpyHtoDAsync_v2");
  library.find(d.copy_to_host, "cuMemcpyDtoHAsync_v2");
  library.find(d.stream_create, "cuStreamCreate");
  library.find(d.stream_destroy, "cuStreamDestroy_v2");
  library.find(d.stream_wait, "cuStreamSynchronize");
  library.find(d.allocate_host, "cuMemHostAlloc");
  library.find(d.release_host, "cuMemFreeHost");
  library.find(d.stream_wait_event, "cuStreamWaitEvent");
  library.find(d.event_create, "cuEventCreate");
  library.find(d.event_destroy, "cuEventDestroy_v2");
  library.find(d.event_record, "cuEventRecord");
  library.find(d.event_wait, "cuEventSynchronize");
  library.find(d.event_elapsed, "cuEventElapsedTime_v2");
  library.find(d.capture_begin, "cuStreamBeginCapture_v2");
  library.find(d.capture_end, "cuStreamEndCapture");
  library.find(d.graph_instantiate, "cuGraphInstantiateWithFlags");
  library.find(d.graph_destroy, "cuGraphDestroy");
  library.find(d.graph_launch, "cuGraphLaunch");
  library.find(d.graph_exec_destroy, "cuGraphExecDestroy");
  library.find(d.module_load, "cuModuleLoadData");
  library.find(d.module_unload, "cuModuleUnload");
  library.find(d.module_function, "cuModuleGetFunction");
  library.find(d.function_attribute, "cuFuncSetAttribute");
  library.find(d.launch, "cuLaunchKernel");
  library.find(d.launch_cooperative, "cuLaunchCooperativeKernel");
  return d;
}

std::string version_text(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

}  // namespace

Error Driver::failure(Result result, const std::string& doing) const {
  const char *name = nullptr, *text = nullptr;
  error_name(result, &name);
  error_text(result, &text);
  const std::string what = fmt::format("{}: {} ({})", doing, name != nullptr ? name : std::to_string(result),
                                       text != nullptr ? text : "an error this driver has no text for");
  return Error(result == kOutOfMemory ? Code::out_of_memory : Code::device, what);
}

Driver open_driver(const std::string& library, int version) {
  constexpr const char* kWhat = "NVIDIA driver";
  const Driver driver = load(library.empty() ? open_library("CUDREAM_LIBCUDA", {"libcuda.so.1"}, kWhat, kUseCpu)
                                             : Library({library.c_str()}, kWhat, kUseCpu));
  const Driver::Result started = driver.init(0);
  if (started == Driver::kNoDevice) throw fail(Code::device, "the NVIDIA driver finds no GPU; check nvidia-smi, {}", kUseCpu);
  if (started == Driver::kMismatch)
    throw fail(Code::device, "the NVIDIA driver's library and kernel module are of different versions; restart the machine, {}",
               kUseCpu);
  driver.check(started, "starting the NVIDIA driver");
  int has = 0;
  driver.check(driver.version(&has), "asking the NVIDIA driver for its version");
  if (has / 1000 < version / 1000)
    throw fail(
        Code::device,
        "the NVIDIA driver is too old: it supports CUDA {}, and this program was built with CUDA {}; update the driver, {}",
        version_text(has), version_text(version), kUseCpu);
  return driver;
}

}  // namespace cudream
