// Our declarations of libcuda against the toolkit's own header, where one was found when the build was configured.
#include <cuda.h>
#include <gtest/gtest.h>

#include <type_traits>

#include "kernels/cuda/driver.h"

namespace cudream {
namespace {

// Enumerations are ints in our table; everything else is the same type.
template <typename T>
using Plain = std::conditional_t<std::is_enum_v<T>, int, T>;
template <typename T>
struct Signature;
template <typename Result, typename... Args>
struct Signature<Result (*)(Args...)> {
  using Pointee = Plain<Result> (*)(
      Plain<std::conditional_t<std::is_same_v<Args, CUdevice_attribute> || std::is_same_v<Args, CUfunction_attribute>, int,
                               Args>>...);
};
template <auto kTheirs, typename Ours>
constexpr bool same(Ours Driver::*) {
  return std::is_same_v<typename Signature<decltype(kTheirs)>::Pointee, Ours>;
}

TEST(Header, DeclaresWhatTheTableDoes) {
  EXPECT_TRUE(same<&cuInit>(&Driver::init));
  EXPECT_TRUE(same<&cuDriverGetVersion>(&Driver::version));
  EXPECT_TRUE(same<&cuGetErrorName>(&Driver::error_name));
  EXPECT_TRUE(same<&cuGetErrorString>(&Driver::error_text));
  EXPECT_TRUE(same<&cuDeviceGetCount>(&Driver::device_count));
  EXPECT_TRUE(same<&cuDeviceGet>(&Driver::device_get));
  EXPECT_TRUE(same<&cuDeviceGetName>(&Driver::device_name));
  EXPECT_TRUE(same<&cuDeviceGetAttribute>(&Driver::device_attribute));
  EXPECT_TRUE(same<&cuDeviceTotalMem>(&Driver::device_memory));
  EXPECT_TRUE(same<&cuDevicePrimaryCtxRetain>(&Driver::context_retain));
  EXPECT_TRUE(same<&cuDevicePrimaryCtxRelease>(&Driver::context_release));
  EXPECT_TRUE(same<&cuCtxSetCurrent>(&Driver::context_use));
  EXPECT_TRUE(same<&cuMemGetInfo>(&Driver::memory_info));
  EXPECT_TRUE(same<&cuMemAlloc>(&Driver::allocate));
  EXPECT_TRUE(same<&cuMemFree>(&Driver::release));
  EXPECT_TRUE(same<&cuMemcpyHtoDAsync>(&Driver::copy_to_device));
  EXPECT_TRUE(same<&cuMemcpyDtoHAsync>(&Driver::copy_to_host));
  EXPECT_TRUE(same<&cuStreamCreate>(&Driver::stream_create));
  EXPECT_TRUE(same<&cuStreamDestroy>(&Driver::stream_destroy));
  EXPECT_TRUE(same<&cuStreamSynchronize>(&Driver::stream_wait));
  EXPECT_TRUE(same<&cuMemHostAlloc>(&Driver::allocate_host));
  EXPECT_TRUE(same<&cuMemFreeHost>(&Driver::release_host));
  EXPECT_TRUE(same<&cuStreamWaitEvent>(&Driver::stream_wait_event));
  EXPECT_TRUE(same<&cuEventCreate>(&Driver::event_create));
  EXPECT_TRUE(same<&cuEventDestroy>(&Driver::event_destroy));
  EXPECT_TRUE(same<&cuEventRecord>(&Driver::event_record));
  EXPECT_TRUE(same<&cuEventSynchronize>(&Driver::event_wait));
  EXPECT_TRUE(same<&cuEventElapsedTime>(&Driver::event_elapsed));
  EXPECT_TRUE(same<&cuStreamBeginCapture>(&Driver::capture_begin));
  EXPECT_TRUE(same<&cuStreamEndCapture>(&Driver::capture_end));
  EXPECT_TRUE(same<&cuGraphInstantiateWithFlags>(&Driver::graph_instantiate));
  EXPECT_TRUE(same<&cuGraphDestroy>(&Driver::graph_destroy));
  EXPECT_TRUE(same<&cuGraphLaunch>(&Driver::graph_launch));
  EXPECT_TRUE(same<&cuGraphExecDestroy>(&Driver::graph_exec_destroy));
  EXPECT_TRUE(same<&cuModuleLoadData>(&Driver::module_load));
  EXPECT_TRUE(same<&cuModuleUnload>(&Driver::module_unload));
  EXPECT_TRUE(same<&cuModuleGetFunction>(&Driver::module_function));
  EXPECT_TRUE(same<&cuFuncSetAttribute>(&Driver::function_attribute));
  EXPECT_TRUE(same<&cuLaunchKernel>(&Driver::launch));
  EXPECT_TRUE(same<&cuLaunchCooperativeKernel>(&Driver::launch_cooperative));
}

TEST(Header, GivesTheValuesUsed) {
  EXPECT_EQ(Driver::kOutOfMemory, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_EQ(Driver::kNoDevice, CUDA_ERROR_NO_DEVICE);
  EXPECT_EQ(Driver::kNoImage, CUDA_ERROR_NO_BINARY_FOR_GPU);
  EXPECT_EQ(Driver::kUnsupportedPtx, CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
  EXPECT_EQ(Driver::kMismatch, CUDA_ERROR_SYSTEM_DRIVER_MISMATCH);
  EXPECT_EQ(Driver::kMultiprocessors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
  EXPECT_EQ(Driver::kCapabilityMajor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
  EXPECT_EQ(Driver::kCapabilityMinor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
  EXPECT_EQ(Driver::kSharedBytes, CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR);
  EXPECT_EQ(Driver::kClock, CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
  EXPECT_EQ(Driver::kMemoryClock, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
  EXPECT_EQ(Driver::kMemoryBits, CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH);
  EXPECT_EQ(Driver::kDynamicSharedBytes, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
  EXPECT_EQ(Driver::kNonBlocking, CU_STREAM_NON_BLOCKING);
  EXPECT_EQ(Driver::kNoTiming, CU_EVENT_DISABLE_TIMING);
  EXPECT_EQ(Driver::kCaptureThisThread, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
}

}  // namespace
}  // namespace cudream
