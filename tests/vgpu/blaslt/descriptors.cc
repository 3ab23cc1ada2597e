// The rules.
#include "tests/vgpu/blaslt/descriptors.h"

#include <cstdio>

namespace cudream::vgpu::blaslt {
namespace {

bool is_known(int32_t type) {
  return type == CUDA_R_32F || type == CUDA_R_16F || type == CUDA_R_16BF;
}

const char* wrong(const Layout& l) {
  if (l.rows == 0 || l.cols == 0) return "a matrix without elements";
  if (l.ld < static_cast<int64_t>(l.rows)) return "a leading dimension below the number of rows";
  if (l.batch < 1) return "a batch of none";
  return nullptr;
}

}  // namespace

cublasStatus_t refuse(cublasStatus_t status, const char* why) {
  std::fprintf(stderr, "virtual cuBLASLt: %s\n", why);
  return status;
}

cublasStatus_t Problem::check() const {
  for (const Layout* l : {&a, &b, &c, &d}) {
    if (l->order != CUBLASLT_ORDER_COL) return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "only column-major matrices are known here");
    if (const char* why = wrong(*l); why != nullptr) return refuse(CUBLAS_STATUS_INVALID_VALUE, why);
  }
  const bool ta = op.transpose_a == CUBLAS_OP_T, tb = op.transpose_b == CUBLAS_OP_T;
  const uint64_t a_rows = ta ? a.cols : a.rows, b_rows = tb ? b.cols : b.rows, b_cols = tb ? b.rows : b.cols;
  if (a_rows != d.rows || b_cols != d.cols || b_rows != k())
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "op(A) op(B) and D are of different shapes");
  if (c.rows != d.rows || c.cols != d.cols) return refuse(CUBLAS_STATUS_INVALID_VALUE, "C and D are of different shapes");
  if (a.batch != d.batch || b.batch != d.batch || c.batch != d.batch)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the batch counts of A, B, C and D differ");
  if (d.batch > 1 && d.stride < static_cast<int64_t>(d.span()))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the matrices D of the batch overlap");
  // The table of types of cublasLtMatmul for CUBLAS_COMPUTE_32F with a float scale.
  if (op.compute != CUBLAS_COMPUTE_32F || op.scale != CUDA_R_32F)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "only CUBLAS_COMPUTE_32F with a scale of CUDA_R_32F is known here");
  if (!is_known(a.type) || a.type != b.type || c.type != d.type || d.type != a.type)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "types of matrices that are not known here together");
  if (op.epilogue != CUBLASLT_EPILOGUE_DEFAULT && op.epilogue != CUBLASLT_EPILOGUE_BIAS)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an epilogue that is not known here");
  return CUBLAS_STATUS_SUCCESS;
}

uint64_t Problem::alignment() const {
  uint64_t bits = 16;
  for (const Layout* l : {&a, &b, &c, &d}) {
    bits |= static_cast<uint64_t>(l->ld * l->element());
    if (l->batch > 1) bits |= static_cast<uint64_t>(l->stride * l->element());
  }
  return bits & ~(bits - 1);
}

// Each part but the first leaves its sums, in float.
uint64_t Problem::workspace(const Algorithm& algorithm) const {
  return (algorithm.splits - 1) * m() * n() * static_cast<uint64_t>(d.batch) * sizeof(float);
}

}  // namespace cudream::vgpu::blaslt
