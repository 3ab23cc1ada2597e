// NVIDIA's libraries as tests find them: on the virtual GPU a double of cuBLASLt (tests/vgpu/blaslt) and no cuDNN, which does not
// come up there; on a card what CUDREAM_LIBCUBLASLT and CUDREAM_LIBCUDNN name, or the loader finds.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <utility>

#include "kernels/cuda/blas_lt.h"
#include "kernels/cuda/dnn.h"
#include "tests/cuda/virtual_gpu.h"

namespace cudream {

// Sets a variable of the environment, and puts back what it was.
class Variable {
 public:
  Variable(std::string name, const std::string& value) : name_(std::move(name)) {
    const char* before = std::getenv(name_.c_str());
    was_set_ = before != nullptr;
    if (was_set_) before_ = before;
    setenv(name_.c_str(), value.c_str(), 1);
  }
  ~Variable() {
    if (was_set_)
      setenv(name_.c_str(), before_.c_str(), 1);
    else
      unsetenv(name_.c_str());
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  std::string name_, before_;
  bool was_set_ = false;
};

inline const std::string kBlasDouble = CUDREAM_BINARY_DIR "/vgpu/libcublasLt.so.13";

// Why a library that `open` opens is not there; empty where it is.
template <typename Open>
std::string why_not(const Open& open) {
  try {
    open();
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

// Why there is no cuBLASLt to test; empty where there is one, which then is what the program opens.
inline std::string why_no_blas() {
  if (!is_virtual_gpu()) return why_not(open_blas_lt);
  if (!std::filesystem::exists(kBlasDouble)) return "no double of cuBLASLt: cublasLt.h was not found";
  setenv("CUDREAM_LIBCUBLASLT", kBlasDouble.c_str(), 1);
  return "";
}

// The same of cuDNN.
inline std::string why_no_dnn() {
  return is_virtual_gpu() ? "cuDNN does not come up on the virtual GPU" : why_not(open_dnn);
}

}  // namespace cudream
