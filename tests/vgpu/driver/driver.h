// The state behind the driver functions: devices with one primary context each, and what they own.
//
// Environment:
//   CUDREAM_VGPU_DEVICES      cards, comma-separated: a100, 4090, h100 (default: a100); "none" for a machine without one
//   CUDREAM_VGPU_FAIL_IMAGE   n: the n-th module loaded holds no code for the card
//   CUDREAM_VGPU_VERSION      CUDA version of the driver, as cuDriverGetVersion counts
//   CUDREAM_VGPU_REPORT       file to which one JSON object a launch is appended
//   CUDREAM_VGPU_THREADS      host threads that share the blocks of a launch (default: the cores)
//   CUDREAM_VGPU_ORDER        "reverse": blocks run last to first
//   CUDREAM_VGPU_FAIL_ALLOC   n: the n-th device allocation finds no memory
//   CUDREAM_VGPU_FAIL_LAUNCH  n: the n-th kernel to run fails
//   CUDREAM_VGPU_MEMORY       MiB of each device instead of the card's own
//   CUDREAM_VGPU_PORTABLE     set: no AVX-512
#pragma once

#include <cuda.h>

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "tests/vgpu/check/device_memory.h"
#include "tests/vgpu/core/launch.h"
#include "tests/vgpu/driver/device_table.h"
#include "tests/vgpu/driver/stream.h"

namespace cudream::vgpu {

struct Module;

struct Function {
  Module* module = nullptr;
  Program program;
  int max_dynamic_shared = 48 * 1024;
};

struct Module {
  Context* context = nullptr;
  std::unique_ptr<ptx::Module> ptx;
  Symbols symbols;
  std::map<std::string, Function, std::less<>> functions;
};

struct Context {
  int ordinal = 0;
  const DeviceModel* model = nullptr;
  int retained = 0;
  CUresult failed = CUDA_SUCCESS;  // sticky
  Stream null_stream;
  std::vector<std::unique_ptr<Stream>> streams;
  std::vector<std::unique_ptr<Event>> events;
  std::vector<std::unique_ptr<Module>> modules;
  std::vector<std::unique_ptr<Graph>> graphs, executables;
};

struct Options {
  LaunchOptions launch;
  std::string report;
  uint64_t fail_allocation = 0, fail_launch = 0, fail_image = 0;
  int version = 13000;      // of CUDA, that the driver says it supports
  size_t memory_bytes = 0;  // 0: the card's own
};

class Driver {
 public:
  static Driver& get();

  std::mutex mutex;
  bool started = false;
  Options options;
  DeviceMemory memory;
  std::vector<std::unique_ptr<Context>> devices;
  std::map<const void*, size_t> pinned;  // host memory, by start
  uint64_t allocations = 0, launches = 0, images = 0;

  // Reads the environment; false, with a message on standard error, if it makes no sense.
  bool start();
  Context* device(CUdevice ordinal);
  size_t total_memory(const Context& context) const;
  bool is_pinned(const void* host, size_t bytes) const;
  void release_variables(const Module& module);
  // The last user of a context has gone: its work is finished and all it owns freed. Reports memory that was not given back.
  void destroy(Context& context);
  // Runs a kernel now; a fault becomes the context's sticky error, with a report on standard error.
  void launch(Context& context, const Launch& launch);

 private:
  void report(const DeviceModel& model, const Launch& launch, const Counters& counters, double seconds) const;
};

// The calling thread's context.
Context*& current_context();

// The object behind a handle, or null when it is none of the context's.
template <typename T, typename Handle>
T* find(const std::vector<std::unique_ptr<T>>& owned, Handle handle) {
  for (const auto& o : owned) {
    if (o.get() == reinterpret_cast<T*>(handle)) return o.get();
  }
  return nullptr;
}
// Handles 0, 1 and 2 name the null stream.
Stream* find_stream(Context& context, CUstream handle);

// Runs the body of a driver function under the lock, once the driver has started. `call_in_context` also needs a current
// context that has not failed.
CUresult call(const std::function<CUresult(Driver&)>& body);
CUresult call_in_context(const std::function<CUresult(Driver&, Context&)>& body);

}  // namespace cudream::vgpu
