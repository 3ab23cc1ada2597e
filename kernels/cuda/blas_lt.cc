// Opening libcublasLt.
#include "kernels/cuda/blas_lt.h"

#include "kernels/cuda/library.h"

namespace cudream {

BlasLt open_blas_lt() {
  const Library library = open_library("CUDREAM_LIBCUBLASLT", {"libcublasLt.so.13", "libcublasLt.so.12"}, "cuBLASLt library",
                                       "or run with --gemm own");
  BlasLt b{};
  library.find(b.create, "cublasLtCreate");
  library.find(b.destroy, "cublasLtDestroy");
  library.find(b.status_text, "cublasLtGetStatusString");
  library.find(b.version, "cublasLtGetVersion");
  library.find(b.operation_create, "cublasLtMatmulDescCreate");
  library.find(b.operation_destroy, "cublasLtMatmulDescDestroy");
  library.find(b.operation_set, "cublasLtMatmulDescSetAttribute");
  library.find(b.layout_create, "cublasLtMatrixLayoutCreate");
  library.find(b.layout_destroy, "cublasLtMatrixLayoutDestroy");
  library.find(b.layout_set, "cublasLtMatrixLayoutSetAttribute");
  library.find(b.preference_create, "cublasLtMatmulPreferenceCreate");
  library.find(b.preference_destroy, "cublasLtMatmulPreferenceDestroy");
  library.find(b.preference_set, "cublasLtMatmulPreferenceSetAttribute");
  library.find(b.heuristic, "cublasLtMatmulAlgoGetHeuristic");
  library.find(b.check_algorithm, "cublasLtMatmulAlgoCheck");
  library.find(b.matmul, "cublasLtMatmul");
  return b;
}

std::string version_text(const BlasLt& b) {
  const size_t v = b.version();
  return fmt::format("{}.{}.{}", v / 10000, v / 100 % 100, v % 100);
}

}  // namespace cudream
