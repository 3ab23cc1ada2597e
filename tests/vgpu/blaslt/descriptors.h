// What the double's handles point at, and the rules of "cuBLAS Library", section cuBLASLt, that descriptors must keep.
//
// The product made: D [m,n] = alpha op(A) [m,k] op(B) [k,n] + beta C, columns first, a strided batch of them.
#pragma once

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <set>

namespace cudream::vgpu::blaslt {

struct Layout {
  int32_t type;
  uint64_t rows, cols;
  int64_t ld;
  int32_t order = CUBLASLT_ORDER_COL;
  int32_t batch = 1;
  int64_t stride = 0;

  int64_t element() const { return type == CUDA_R_32F ? 4 : 2; }
  // Elements from the first to the last of one matrix.
  uint64_t span() const { return (cols - 1) * static_cast<uint64_t>(ld) + rows; }
};

struct Operation {
  int32_t compute, scale;
  int32_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  uint32_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  const void* bias = nullptr;
  int64_t bias_stride = 0;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_MASK;
  uint32_t align[4] = {256, 256, 256, 256};
};

// An algorithm, as it lies in cublasLtMatmulAlgo_t. `order` is how a sum runs over its part of the depth, `splits` in how many
// parts the depth is cut; both change the rounding, as they do in the library.
struct Algorithm {
  static constexpr uint64_t kMagic = 0x76677075626c6173;
  uint64_t magic = kMagic;
  uint64_t order = 0, splits = 1, align = 16;
  uint64_t reserved[4] = {};
};
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t));

struct Problem {
  const Operation& op;
  const Layout &a, &b, &c, &d;

  uint64_t m() const { return d.rows; }
  uint64_t n() const { return d.cols; }
  uint64_t k() const { return op.transpose_a == CUBLAS_OP_N ? a.cols : a.rows; }
  bool has_bias() const { return op.epilogue == CUBLASLT_EPILOGUE_BIAS; }
  // SUCCESS, INVALID_VALUE where the parts contradict each other, NOT_SUPPORTED beyond what the double makes. The reason goes
  // to standard error.
  cublasStatus_t check() const;
  // The largest power of two up to 16 that divides every leading dimension and batch stride, in bytes.
  uint64_t alignment() const;
  uint64_t workspace(const Algorithm& algorithm) const;
};

cublasStatus_t refuse(cublasStatus_t status, const char* why);

}  // namespace cudream::vgpu::blaslt
