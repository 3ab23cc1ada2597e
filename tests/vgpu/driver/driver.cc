// The state behind the driver functions.
#include "tests/vgpu/driver/driver.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "core/error.h"

namespace cudream::vgpu {
namespace {

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}
uint64_t environment_number(const char* name) {
  return std::strtoull(environment(name), nullptr, 10);
}

CUresult result_of(FaultKind kind) {
  switch (kind) {
    case FaultKind::illegal_address: return CUDA_ERROR_ILLEGAL_ADDRESS;
    case FaultKind::misaligned: return CUDA_ERROR_MISALIGNED_ADDRESS;
    case FaultKind::illegal_instruction: return CUDA_ERROR_ILLEGAL_INSTRUCTION;
    case FaultKind::deadlock: return CUDA_ERROR_LAUNCH_TIMEOUT;
    default: return CUDA_ERROR_LAUNCH_FAILED;
  }
}

}  // namespace

Driver& Driver::get() {
  static auto* driver = new Driver;  // never destroyed: programs call the driver from their own destructors
  return *driver;
}

bool Driver::start() {
  if (started) return true;
  options.report = environment("CUDREAM_VGPU_REPORT");
  options.launch.count_traffic = !options.report.empty();
  options.launch.workers = static_cast<uint32_t>(environment_number("CUDREAM_VGPU_THREADS"));
  options.launch.block_order = environment_number("CUDREAM_VGPU_BLOCK_RACES") != 0;
  options.launch.reverse = std::string_view(environment("CUDREAM_VGPU_ORDER")) == "reverse";
  options.fail_allocation = environment_number("CUDREAM_VGPU_FAIL_ALLOC");
  options.fail_launch = environment_number("CUDREAM_VGPU_FAIL_LAUNCH");
  options.fail_image = environment_number("CUDREAM_VGPU_FAIL_IMAGE");
  if (const auto version = static_cast<int>(environment_number("CUDREAM_VGPU_VERSION")); version != 0) options.version = version;
  options.memory_bytes = environment_number("CUDREAM_VGPU_MEMORY") << 20;
  std::string names = environment("CUDREAM_VGPU_DEVICES");
  if (names.empty()) names = "a100";
  std::istringstream list(names == "none" ? "" : names);
  for (std::string name; std::getline(list, name, ',');) {
    const DeviceModel* model = device_model(name);
    if (model == nullptr) {
      fmt::print(stderr, "virtual GPU: CUDREAM_VGPU_DEVICES names an unknown card '{}'; known are a100, 4090, h100, 2080, none\n",
                 name);
      return false;
    }
    auto context = std::make_unique<Context>();
    context->ordinal = static_cast<int>(devices.size());
    context->model = model;
    context->null_stream.context = context.get();
    context->null_stream.is_null = true;
    devices.push_back(std::move(context));
  }
  return started = true;
}

Context* Driver::device(CUdevice ordinal) {
  return ordinal >= 0 && static_cast<size_t>(ordinal) < devices.size() ? devices[static_cast<size_t>(ordinal)].get() : nullptr;
}

size_t Driver::total_memory(const Context& context) const {
  return options.memory_bytes != 0 ? options.memory_bytes : context.model->memory_bytes;
}

bool Driver::is_pinned(const void* host, size_t bytes) const {
  auto after = pinned.upper_bound(host);
  if (after == pinned.begin()) return false;
  const auto& [start, size] = *std::prev(after);
  const auto offset = static_cast<size_t>(static_cast<const char*>(host) - static_cast<const char*>(start));
  return offset + bytes <= size;
}

void Driver::destroy(Context& context) {
  drain(context);
  context.executables.clear();
  context.graphs.clear();
  context.events.clear();
  context.streams.clear();
  for (const auto& module : context.modules) release_variables(*module);
  context.modules.clear();
  if (const uint64_t left = memory.release_all(context.ordinal); left > 0) {
    fmt::print(stderr, "virtual GPU: {} bytes of device {} were not freed\n", left, context.ordinal);
  }
  context.failed = CUDA_SUCCESS;
}

void Driver::release_variables(const Module& module) {
  for (const auto& [name, address] : module.symbols) memory.release(address);
}

void Driver::launch(Context& context, const Launch& launch) {
  if (++launches == options.fail_launch) {
    fmt::print(stderr, "virtual GPU: launch {} of kernel {} fails as CUDREAM_VGPU_FAIL_LAUNCH asks\n", launches,
               launch.program->name());
    context.failed = CUDA_ERROR_LAUNCH_FAILED;
    return;
  }
  try {
    const auto begin = std::chrono::steady_clock::now();
    const Counters counters = run(launch, memory, options.launch);
    report(*context.model, launch, counters, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  } catch (const Fault& fault) {
    fmt::print(stderr, "virtual GPU: {}\n", fault.what());
    context.failed = result_of(fault.kind());
  }
}

void Driver::report(const DeviceModel& model, const Launch& launch, const Counters& counters, double seconds) const {
  if (options.report.empty()) return;
  std::FILE* file = std::fopen(options.report.c_str(), "a");
  if (file == nullptr) {
    fmt::print(stderr, "virtual GPU: cannot write the report {}\n", options.report);
    return;
  }
  const Dim &g = launch.grid, &b = launch.threads;
  const Roofline r = roofline(counters, model.rates());
  fmt::print(file, "{{\"kernel\":\"{}\",\"device\":\"{}\",\"grid\":[{},{},{}],\"block\":[{},{},{}],\"shared_bytes\":{},{},",
             launch.program->name(), model.key, g.x, g.y, g.z, b.x, b.y, b.z,
             launch.program->shared_bytes + launch.dynamic_shared, counters.json());
  fmt::print(file,
             "\"roofline_us\":{{\"tensor\":{:.3f},\"issue\":{:.3f},\"shared\":{:.3f},\"memory\":{:.3f}}},\"bound\":\"{}\","
             "\"host_seconds\":{:.6f}}}\n",
             r.tensor * 1e6, r.issue * 1e6, r.shared * 1e6, r.memory * 1e6, r.bound, seconds);
  std::fclose(file);
}

Context*& current_context() {
  thread_local Context* current = nullptr;
  return current;
}

Stream* find_stream(Context& context, CUstream handle) {
  if (reinterpret_cast<uintptr_t>(handle) <= 2) return &context.null_stream;
  return find(context.streams, handle);
}

CUresult call(const std::function<CUresult(Driver&)>& body) {
  Driver& driver = Driver::get();
  const std::lock_guard lock(driver.mutex);
  if (!driver.started) return CUDA_ERROR_NOT_INITIALIZED;
  try {
    return body(driver);
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  } catch (const std::exception& e) {
    fmt::print(stderr, "virtual GPU: {}\n", e.what());
    return CUDA_ERROR_UNKNOWN;
  }
}

CUresult call_in_context(const std::function<CUresult(Driver&, Context&)>& body) {
  return call([&](Driver& driver) {
    Context* context = current_context();
    if (context == nullptr || context->retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (context->failed != CUDA_SUCCESS) return context->failed;
    return body(driver, *context);
  });
}

}  // namespace cudream::vgpu
