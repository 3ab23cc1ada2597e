// cuBLASLt's products under our rule: what picks an algorithm sees one picture's rows, never the batch.
//
// An algorithm is asked for with the shape of one picture and kept by (type, rows, depth, outs, epilogue). Several pictures run
// as one strided batch of the same algorithm where the library's own check accepts that within the workspace, else one after
// another; either way every picture is computed by that algorithm alone. Splits of the depth are allowed only where the parts
// meet in float in a fixed order. Nothing is allocated after the first product of a shape, so products can be recorded.
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "core/types.h"
#include "kernels/cuda/blas_lt.h"
#include "kernels/cuda/gpu.h"

namespace cudream {

// out [N,rows,outs] = x [N,rows,depth] w^T + bias + residual, w [outs,depth], all dense and of one type, bias [outs] in f32.
struct MatmulShape {
  DType type = DType::f32;
  int64_t rows = 0, depth = 0, outs = 0;  // of one picture
  bool bias = false, residual = false;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 misreads the operator
  auto operator<=>(const MatmulShape&) const = default;
};

// What cuBLASLt is asked for at all, whatever the library says later: rows of 16 bytes (the alignment its tensor-core kernels
// ask for holds for every picture of a batch), and more rows than a product of a few vectors has.
bool blas_may_serve(const MatmulShape&);

class Matmul {
 public:
  static constexpr int64_t kWorkspaceBytes = 8 << 20;

  // Opens the library and takes the workspace from the card. Throws Error(device | out_of_memory).
  explicit Matmul(Gpu& gpu);
  ~Matmul();
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;

  const std::string& version() const { return version_; }  // "13.1.0"
  // Whether the library has an algorithm for this shape. Asks it the first time.
  bool serves(const MatmulShape&);
  // bias must be null unless the shape says so, and then the type f32; residual may be out.
  void run(const MatmulShape&, int64_t pictures, void* out, const void* x, const void* w, const void* bias, const void* residual);

 private:
  struct Plan;
  Plan* plan(const MatmulShape&);

  Gpu& gpu_;
  BlasLt blas_;
  std::string version_;
  BlasLt::Handle handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<MatmulShape, std::unique_ptr<Plan>> plans_;
};

}  // namespace cudream
