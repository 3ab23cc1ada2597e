// A context on the virtual driver, modules from PTX files, and arrays, for tests.
#pragma once

#include <cuda.h>
#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace cudream::vgpu {

inline void check(CUresult result, const char* what) {
  if (result == CUDA_SUCCESS) return;
  const char* name = nullptr;
  cuGetErrorName(result, &name);
  throw std::runtime_error(fmt::format("{}: {} ({})", what, name != nullptr ? name : "?", static_cast<int>(result)));
}

class VirtualCard {
 public:
  VirtualCard() {
    check(cuInit(0), "cuInit");
    CUcontext context = nullptr;
    check(cuDevicePrimaryCtxRetain(&context, 0), "cuDevicePrimaryCtxRetain");
    check(cuCtxSetCurrent(context), "cuCtxSetCurrent");
  }
  // A .ptx file beside the tests.
  void load(const std::string& file) {
    std::ifstream in(std::string(CUDREAM_VGPU_PTX) + "/" + file);
    const std::string text((std::istreambuf_iterator<char>(in)), {});
    if (text.empty()) throw std::runtime_error("no " + file);
    check(cuModuleLoadData(&module_, text.c_str()), "cuModuleLoadData");
  }
  CUfunction function(const char* name) const {
    CUfunction f = nullptr;
    check(cuModuleGetFunction(&f, module_, name), name);
    return f;
  }
  // Queues a launch on the null stream.
  template <typename... Args>
  CUresult launch(const char* name, unsigned blocks, unsigned threads, unsigned shared, Args... args) const {
    void* parameters[] = {&args...};
    return cuLaunchKernel(function(name), blocks, 1, 1, threads, 1, 1, shared, nullptr, parameters, nullptr);
  }
  // The same as a cooperative launch.
  template <typename... Args>
  CUresult launch_together(const char* name, unsigned blocks, unsigned threads, unsigned shared, Args... args) const {
    void* parameters[] = {&args...};
    return cuLaunchCooperativeKernel(function(name), blocks, 1, 1, threads, 1, 1, shared, nullptr, parameters);
  }

 private:
  CUmodule module_ = nullptr;
};

template <typename T>
class CardArray {
 public:
  explicit CardArray(size_t n) : n_(n) { check(cuMemAlloc(&pointer_, n * sizeof(T)), "cuMemAlloc"); }
  explicit CardArray(const std::vector<T>& values) : CardArray(values.size()) {
    check(cuMemcpyHtoD(pointer_, values.data(), n_ * sizeof(T)), "cuMemcpyHtoD");
  }
  ~CardArray() { cuMemFree(pointer_); }
  CardArray(const CardArray&) = delete;
  CardArray& operator=(const CardArray&) = delete;

  CUdeviceptr get() const { return pointer_; }
  std::vector<T> values() const {
    std::vector<T> out(n_);
    check(cuMemcpyDtoH(out.data(), pointer_, n_ * sizeof(T)), "cuMemcpyDtoH");
    return out;
  }

 private:
  size_t n_;
  CUdeviceptr pointer_ = 0;
};

}  // namespace cudream::vgpu
