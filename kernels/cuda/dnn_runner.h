// Convolutions and attention run by cuDNN: a plan for one picture, kept by shape, run picture after picture. So a picture's bytes
// do not depend on its batch, and after the first call of a shape nothing is allocated and calls can be recorded.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernels/cuda/dnn_graph.h"
#include "kernels/cuda/gpu.h"

namespace cudream {

// What cuDNN is asked for at all: 16-bit types (in f32 it may use TF32), rows of 16 bytes.
bool dnn_may_serve(const DnnConvolution&);
bool dnn_may_serve(const DnnAttention&);

class DnnRunner {
 public:
  static constexpr int64_t kWorkspaceBytes = 16 << 20;

  // Opens the library and takes the workspace from the card. Throws Error(device | out_of_memory).
  explicit DnnRunner(Gpu& gpu);
  ~DnnRunner();
  DnnRunner(const DnnRunner&) = delete;
  DnnRunner& operator=(const DnnRunner&) = delete;

  const std::string& version() const { return version_; }  // "9.19.0"
  // Whether the library has a plan for this shape. Makes it the first time, which may take a second.
  bool serves(const DnnConvolution&);
  bool serves(const DnnAttention&);

  struct Operand {
    DnnOperand id;
    const void* data;
    int64_t picture_bytes;  // from one picture to the next; 0: the same for all
  };
  // One of the shapes served.
  template <typename Shape>
  void run(const Shape& shape, int64_t pictures, const std::vector<Operand>& operands) {
    run_plan(*plan(shape), pictures, operands);
  }

 private:
  std::optional<DnnPlan>& plan(const DnnConvolution&);
  std::optional<DnnPlan>& plan(const DnnAttention&);
  void run_plan(const DnnPlan&, int64_t pictures, const std::vector<Operand>& operands);

  Gpu& gpu_;
  Dnn dnn_;
  std::string version_;
  Dnn::Handle handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<DnnConvolution, std::optional<DnnPlan>> convolutions_;
  std::map<DnnAttention, std::optional<DnnPlan>> attentions_;
};

}  // namespace cudream
