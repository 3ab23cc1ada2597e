// Driver functions: modules, functions and launches.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "tests/vgpu/driver/driver.h"
#include "tests/vgpu/driver/image.h"
#include "tests/vgpu/ptx/parser.h"

using namespace cudream::vgpu;

namespace {

// Places a module's variable in device memory, its initialiser written and the rest zero.
void place_variable(Driver& driver, Module& module, const ptx::Variable& v) {
  if (v.space != Space::global && v.space != Space::constant) return;
  const uint32_t size = size_of(v.type);
  const Allocation& a = driver.memory.allocate(v.count * size, module.context->ordinal);
  std::memset(a.at(a.address), 0, a.bytes);
  for (size_t i = 0; i < v.values.size(); i++) {
    const uint64_t bits = variable_value(v, v.values[i], module.symbols);
    std::memcpy(a.at(a.address) + i * size, &bits, size);
  }
  a.mark_range(a.address, a.bytes);
  module.symbols[v.name] = a.address;
}

CUresult load(CUmodule* handle, const void* image) {
  return call_in_context([=](Driver& driver, Context& context) {
    if (++driver.images == driver.options.fail_image) return CUDA_ERROR_NO_BINARY_FOR_GPU;
    std::string text = ptx_of_image(image, context.model->major * 10 + context.model->minor);
    if (text.empty()) {
      fmt::print(stderr, "virtual GPU: the image holds no PTX that {} could run; embed it uncompressed\n", context.model->name);
      return CUDA_ERROR_NO_BINARY_FOR_GPU;
    }
    auto module = std::make_unique<Module>();
    module->context = &context;
    try {
      module->ptx = ptx::parse(std::move(text));
      for (const ptx::Variable& v : module->ptx->variables) place_variable(driver, *module, v);
      for (const ptx::Kernel& k : module->ptx->kernels) {
        Function& f = module->functions[std::string(k.name)];
        f.module = module.get();
        f.program = decode(*module->ptx, k, module->symbols);
      }
    } catch (const cudream::Error& e) {
      fmt::print(stderr, "virtual GPU: {}\n", e.what());
      return CUDA_ERROR_INVALID_PTX;
    }
    *handle = reinterpret_cast<CUmodule>(module.get());
    context.modules.push_back(std::move(module));
    return CUDA_SUCCESS;
  });
}

Function* find_function(const Context& context, CUfunction handle) {
  for (const auto& module : context.modules) {
    for (auto& [name, function] : module->functions) {
      if (&function == reinterpret_cast<Function*>(handle)) return &function;
    }
  }
  return nullptr;
}

// What the driver checks when a launch is queued (CUDA Driver API, cuLaunchKernel).
bool launch_is_legal(const Function& f, const Context& context, const Launch& launch) {
  const ptx::Kernel& k = *f.program.kernel;
  const Dim &g = launch.grid, &b = launch.threads;
  const auto& need = k.required_block;
  const auto refuse = [&](const std::string& why) {
    fmt::print(stderr, "virtual GPU: launch of {} refused: {}\n", k.name, why);
    return false;
  };
  if (g.size() == 0 || g.x > 2147483647u || g.y > 65535 || g.z > 65535)
    return refuse(fmt::format("grid {} {} {}", g.x, g.y, g.z));
  if (b.size() == 0 || b.size() > 1024 || b.z > 64) return refuse(fmt::format("block {} {} {}", b.x, b.y, b.z));
  if (need[0] != 0 && (b.x != need[0] || b.y != need[1] || b.z != need[2]))
    return refuse("the kernel demands another block (.reqntid)");
  if (k.max_threads != 0 && b.size() > k.max_threads)
    return refuse(fmt::format("{} threads, the kernel allows {}", b.size(), k.max_threads));
  if (launch.dynamic_shared > static_cast<uint32_t>(f.max_dynamic_shared)) {
    return refuse(fmt::format("{} bytes of dynamic shared memory, allowed are {}", launch.dynamic_shared, f.max_dynamic_shared));
  }
  const uint32_t shared = f.program.shared_bytes + launch.dynamic_shared;
  if (shared > static_cast<uint32_t>(context.model->shared_per_block_optin))
    return refuse(fmt::format("{} bytes of shared memory", shared));
  return true;
}

// Blocks that a multiprocessor holds at once. How many registers a thread has only the machine code knows, which is not here: as
// many as the launch bounds let it have, so that a real card may hold more.
int resident_blocks(const Function& f, const DeviceModel& m, uint32_t threads, size_t dynamic_shared) {
  constexpr uint32_t kRegisters = 65536, kMostOfAThread = 256;  // CUDA C++ Programming Guide, compute capabilities 8.0 and later
  constexpr size_t kReservedShared = 1024;
  const uint32_t by_registers =
      std::max(f.program.kernel->min_blocks, kRegisters / (kMostOfAThread * ((threads + 31) / 32 * 32)));
  const auto shared = static_cast<int>(f.program.shared_bytes + dynamic_shared + kReservedShared);
  return std::min({m.threads_per_multiprocessor / static_cast<int>(threads), m.blocks_per_multiprocessor,
                   m.shared_per_multiprocessor / shared, static_cast<int>(by_registers)});
}

// cuLaunchCooperativeKernel: "the total number of blocks launched cannot exceed the maximum number of blocks per multiprocessor
// as returned by cuOccupancyMaxActiveBlocksPerMultiprocessor times the number of multiprocessors".
bool is_resident(const Function& f, const Context& context, const Launch& launch) {
  const auto threads = static_cast<uint32_t>(launch.threads.size());
  const auto most = static_cast<uint64_t>(resident_blocks(f, *context.model, threads, launch.dynamic_shared)) *
                    static_cast<uint64_t>(context.model->multiprocessors);
  if (launch.grid.size() <= most) return true;
  fmt::print(stderr, "virtual GPU: cooperative launch of {} refused: {} blocks, {} are resident at once\n", f.program.name(),
             launch.grid.size(), most);
  return false;
}

bool copy_parameters(const ptx::Kernel& kernel, void** parameters, void** extra, std::vector<uint8_t>& out) {
  out.assign(kernel.parameter_bytes, 0);
  if (parameters != nullptr) {
    for (size_t i = 0; i < kernel.parameters.size(); i++)
      std::memcpy(out.data() + kernel.parameters[i].offset, parameters[i], kernel.parameters[i].bytes);
    return true;
  }
  const void* buffer = nullptr;
  size_t bytes = 0;
  for (void** e = extra; e != nullptr && *e != CU_LAUNCH_PARAM_END; e += 2) {
    if (e[0] == CU_LAUNCH_PARAM_BUFFER_POINTER) buffer = e[1];
    if (e[0] == CU_LAUNCH_PARAM_BUFFER_SIZE) bytes = *static_cast<size_t*>(e[1]);
  }
  if (buffer == nullptr || bytes < out.size()) return out.empty();
  std::memcpy(out.data(), buffer, out.size());
  return true;
}

// Queues a launch, of which grid, block and shared memory are given.
CUresult start(CUfunction handle, Launch launch, CUstream stream_handle, void** parameters, void** extra) {
  return call_in_context([&](Driver& driver, Context& context) {
    const Function* f = find_function(context, handle);
    Stream* stream = find_stream(context, stream_handle);
    if (f == nullptr || stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    launch.program = &f->program;
    launch.device = context.ordinal;
    if (!launch_is_legal(*f, context, launch)) return CUDA_ERROR_INVALID_VALUE;
    if (launch.cooperative && !is_resident(*f, context, launch)) return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    if (!copy_parameters(*f->program.kernel, parameters, extra, launch.parameters)) return CUDA_ERROR_INVALID_VALUE;
    return enqueue(*stream, [&driver, &context, launch] { driver.launch(context, launch); });
  });
}

}  // namespace

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return load(module, image);
}
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int, CUjit_option*, void**) {
  return load(module, image);
}
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
  return load(module, image);
}

CUresult cuModuleUnload(CUmodule handle) {
  return call_in_context([=](Driver& driver, Context& context) {
    Module* module = find(context.modules, handle);
    if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    drain(context);
    driver.release_variables(*module);
    std::erase_if(context.modules, [module](const auto& m) { return m.get() == module; });
    return context.failed;
  });
}

CUresult cuModuleGetFunction(CUfunction* handle, CUmodule module_handle, const char* name) {
  return call_in_context([=](Driver&, Context& context) {
    Module* module = find(context.modules, module_handle);
    if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    const auto found = module->functions.find(std::string_view(name));
    if (found == module->functions.end()) return CUDA_ERROR_NOT_FOUND;
    *handle = reinterpret_cast<CUfunction>(&found->second);
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetGlobal(CUdeviceptr* pointer, size_t* bytes, CUmodule handle, const char* name) {
  return call_in_context([=](Driver& driver, Context& context) {
    const Module* module = find(context.modules, handle);
    if (module == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    const auto found = module->symbols.find(std::string_view(name));
    if (found == module->symbols.end()) return CUDA_ERROR_NOT_FOUND;
    if (pointer != nullptr) *pointer = found->second;
    if (bytes != nullptr) *bytes = driver.memory.find(found->second)->bytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncSetAttribute(CUfunction handle, CUfunction_attribute attribute, int value) {
  return call_in_context([=](Driver&, Context& context) {
    Function* f = find_function(context, handle);
    if (f == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    if (attribute == CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) return CUDA_SUCCESS;
    if (attribute != CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return CUDA_ERROR_INVALID_VALUE;
    if (value < 0 || value + static_cast<int>(f->program.shared_bytes) > context.model->shared_per_block_optin)
      return CUDA_ERROR_INVALID_VALUE;
    f->max_dynamic_shared = value;
    return CUDA_SUCCESS;
  });
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction handle) {
  return call_in_context([=](Driver&, Context& context) {
    const Function* f = find_function(context, handle);
    if (f == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    switch (attribute) {
      case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK:
        *value = f->program.kernel->max_threads != 0 ? static_cast<int>(f->program.kernel->max_threads) : 1024;
        return CUDA_SUCCESS;
      case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = static_cast<int>(f->program.shared_bytes); return CUDA_SUCCESS;
      case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = static_cast<int>(f->program.local_bytes); return CUDA_SUCCESS;
      case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = f->max_dynamic_shared; return CUDA_SUCCESS;
      default: return CUDA_ERROR_NOT_SUPPORTED;  // registers and binary versions: there is no machine code here
    }
  });
}

CUresult cuLaunchKernel(CUfunction f, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z, unsigned int block_x,
                        unsigned int block_y, unsigned int block_z, unsigned int shared_bytes, CUstream stream, void** parameters,
                        void** extra) {
  return start(f, {.grid = {grid_x, grid_y, grid_z}, .threads = {block_x, block_y, block_z}, .dynamic_shared = shared_bytes},
               stream, parameters, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction f, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                                   unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,
                                   CUstream stream, void** parameters) {
  return start(f,
               {.grid = {grid_x, grid_y, grid_z},
                .threads = {block_x, block_y, block_z},
                .dynamic_shared = shared_bytes,
                .cooperative = true},
               stream, parameters, nullptr);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* c, CUfunction f, void** parameters, void** extra) {
  if (c->numAttrs != 0) return CUDA_ERROR_NOT_SUPPORTED;
  return cuLaunchKernel(f, c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ, c->sharedMemBytes,
                        c->hStream, parameters, extra);
}

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction handle, int threads, size_t dynamic_shared) {
  return call_in_context([=](Driver&, Context& context) {
    const Function* f = find_function(context, handle);
    if (f == nullptr || threads <= 0) return CUDA_ERROR_INVALID_VALUE;
    *blocks = resident_blocks(*f, *context.model, static_cast<uint32_t>(threads), dynamic_shared);
    return CUDA_SUCCESS;
  });
}
