// libcublasLt as a table of functions, declared here and opened at run time, as driver.h does with libcuda.
//
// Source: "cuBLAS Library", NVIDIA, section "Using the cuBLASLt API", versions 12 and 13. Where cublasLt.h is found a test
// compares every declaration with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "kernels/cuda/driver.h"

struct cublasLtContext;

namespace cudream {

struct BlasLt {
  using Status = int;  // cublasStatus_t; 0 is success
  using Handle = cublasLtContext*;
  using Operation = struct BlasLtOperation*;    // cublasLtMatmulDesc_t
  using Layout = struct BlasLtLayout*;          // cublasLtMatrixLayout_t
  using Preference = struct BlasLtPreference*;  // cublasLtMatmulPreference_t
  struct Algorithm {                            // cublasLtMatmulAlgo_t
    uint64_t data[8];
  };
  struct Candidate {  // cublasLtMatmulHeuristicResult_t
    Algorithm algorithm;
    size_t workspace_bytes;
    Status state;
    float waves;
    int reserved[4];
  };

  // The values used here of cudaDataType_t, cublasComputeType_t, cublasOperation_t and the attribute enumerations.
  static constexpr Status kNotSupported = 15;
  static constexpr int kF32 = 0, kF16 = 2, kBf16 = 14;
  static constexpr int kComputeF32 = 68;  // inputs are not rounded to TF32
  static constexpr int kTransposed = 1;
  static constexpr int kTransposeA = 3, kEpilogue = 7, kBiasPointer = 8;  // of an operation
  static constexpr int kBatchCount = 5, kBatchStride = 6;                 // of a layout
  static constexpr int kMaxWorkspace = 1, kReductionMask = 3, kAlignA = 5, kAlignB = 6, kAlignC = 7, kAlignD = 8;  // preference
  static constexpr uint32_t kEpilogueBias = 4;
  static constexpr uint32_t kReduceInComputeType = 2;  // split sums meet in float, in a fixed order

  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  const char* (*status_text)(Status);
  size_t (*version)();
  Status (*operation_create)(Operation*, int compute, int scale_type);
  Status (*operation_destroy)(Operation);
  Status (*operation_set)(Operation, int attribute, const void* value, size_t bytes);
  Status (*layout_create)(Layout*, int type, uint64_t rows, uint64_t cols, int64_t ld);
  Status (*layout_destroy)(Layout);
  Status (*layout_set)(Layout, int attribute, const void* value, size_t bytes);
  Status (*preference_create)(Preference*);
  Status (*preference_destroy)(Preference);
  Status (*preference_set)(Preference, int attribute, const void* value, size_t bytes);
  Status (*heuristic)(Handle, Operation, Layout a, Layout b, Layout c, Layout d, Preference, int wanted, Candidate* found,
                      int* count);
  Status (*check_algorithm)(Handle, Operation, Layout a, Layout b, Layout c, Layout d, const Algorithm*, Candidate* result);
  Status (*matmul)(Handle, Operation, const void* alpha, const void* a, Layout, const void* b, Layout, const void* beta,
                   const void* c, Layout, void* d, Layout, const Algorithm*, void* workspace, size_t workspace_bytes,
                   Driver::Stream);

  // Throws Error(device) with the library's text for `status`.
  void check(Status status, const char* doing) const {
    if (status != 0) throw fail(Code::device, "cuBLASLt, {}: {} (status {})", doing, status_text(status), status);
  }
};

// Opens what CUDREAM_LIBCUBLASLT names, else libcublasLt.so.13 or .12. Throws Error(device) where there is none.
BlasLt open_blas_lt();

// "13.1.0"
std::string version_text(const BlasLt&);

}  // namespace cudream
