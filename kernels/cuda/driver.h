// libcuda as a table of functions, declared here and opened at run time: the program starts on a machine without a driver, and
// building needs no header of CUDA. Where cuda.h is found a test compares every declaration with it.
//
// Source: "CUDA Driver API", NVIDIA, version 13.0. Functions that exist in several versions are the newest of their name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

#include "core/error.h"

// The opaque types bear cuda.h's own names, so that both may be included in one file.
struct CUctx_st;
struct CUstream_st;
struct CUevent_st;
struct CUmod_st;
struct CUfunc_st;
struct CUgraph_st;
struct CUgraphExec_st;

namespace cudream {

struct Driver {
  using Result = int;                  // CUresult; 0 is success
  using Device = int;                  // CUdevice
  using Pointer = unsigned long long;  // CUdeviceptr
  using Context = CUctx_st*;
  using Stream = CUstream_st*;
  using Event = CUevent_st*;
  using Module = CUmod_st*;
  using Function = CUfunc_st*;
  using Graph = CUgraph_st*;
  using GraphExec = CUgraphExec_st*;

  // The values used here of CUresult, CUdevice_attribute, CUfunction_attribute, CUstream_flags, CUevent_flags and
  // CUstreamCaptureMode.
  static constexpr Result kOutOfMemory = 2, kNoDevice = 100, kNoImage = 209, kUnsupportedPtx = 222, kMismatch = 803;
  static constexpr int kMultiprocessors = 16, kCapabilityMajor = 75, kCapabilityMinor = 76, kSharedBytes = 81;
  static constexpr int kClock = 13, kMemoryClock = 36, kMemoryBits = 37;
  static constexpr int kDynamicSharedBytes = 8;
  static constexpr unsigned kNonBlocking = 1, kNoTiming = 2;
  static constexpr int kCaptureThisThread = 1;

  Result (*init)(unsigned flags);
  Result (*version)(int* version);
  Result (*error_name)(Result, const char** name);
  Result (*error_text)(Result, const char** text);
  Result (*device_count)(int* count);
  Result (*device_get)(Device*, int ordinal);
  Result (*device_name)(char* name, int bytes, Device);
  Result (*device_attribute)(int* value, int attribute, Device);
  Result (*device_memory)(size_t* bytes, Device);
  Result (*context_retain)(Context*, Device);
  Result (*context_release)(Device);
  Result (*context_use)(Context);
  Result (*memory_info)(size_t* free, size_t* total);
  Result (*allocate)(Pointer*, size_t bytes);
  Result (*release)(Pointer);
  Result (*allocate_host)(void**, size_t bytes, unsigned flags);
  Result (*release_host)(void*);
  Result (*copy_to_device)(Pointer, const void*, size_t bytes, Stream);
  Result (*copy_to_host)(void*, Pointer, size_t bytes, Stream);
  Result (*stream_create)(Stream*, unsigned flags);
  Result (*stream_destroy)(Stream);
  Result (*stream_wait)(Stream);
  Result (*stream_wait_event)(Stream, Event, unsigned flags);
  Result (*event_create)(Event*, unsigned flags);
  Result (*event_destroy)(Event);
  Result (*event_record)(Event, Stream);
  Result (*event_wait)(Event);
  Result (*event_elapsed)(float* milliseconds, Event begin, Event end);
  Result (*capture_begin)(Stream, int mode);
  Result (*capture_end)(Stream, Graph*);
  Result (*graph_instantiate)(GraphExec*, Graph, unsigned long long flags);
  Result (*graph_destroy)(Graph);
  Result (*graph_launch)(GraphExec, Stream);
  Result (*graph_exec_destroy)(GraphExec);
  Result (*module_load)(Module*, const void* image);
  Result (*module_unload)(Module);
  Result (*module_function)(Function*, Module, const char* name);
  Result (*function_attribute)(Function, int attribute, int value);
  Result (*launch)(Function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                   unsigned block_z, unsigned shared_bytes, Stream, void** parameters, void** extra);
  // Starts all blocks at once, or fails where they are too many for that.
  Result (*launch_cooperative)(Function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
                               unsigned block_z, unsigned shared_bytes, Stream, void** parameters);

  // Throws Error(device), or Error(out_of_memory) where that is what failed, with the driver's name and text for `result`.
  template <typename... Args>
  void check(Result result, fmt::format_string<Args...> doing, Args&&... args) const {
    if (result != 0) throw failure(result, fmt::format(doing, std::forward<Args>(args)...));
  }
  Error failure(Result result, const std::string& doing) const;
};

// An object of the driver's and how it is given back.
template <typename T>
class Owned {
 public:
  using Destroy = Driver::Result (*)(T);
  Owned() = default;
  Owned(T value, Destroy destroy) : value_(value), destroy_(destroy) {}
  Owned(Owned&& other) noexcept { *this = std::move(other); }
  Owned& operator=(Owned&& other) noexcept {
    std::swap(value_, other.value_);
    std::swap(destroy_, other.destroy_);
    return *this;
  }
  ~Owned() {
    if (destroy_ != nullptr) destroy_(value_);
  }
  T get() const { return value_; }

 private:
  T value_{};
  Destroy destroy_ = nullptr;
};

// Opens the library (empty: CUDREAM_LIBCUDA from the environment, else libcuda.so.1) and starts it. Throws Error(device) where
// there is no driver, no GPU, or a driver older than the kernels' compiler (`version`, as cuDriverGetVersion gives it: 13000).
Driver open_driver(const std::string& library, int version);

}  // namespace cudream
