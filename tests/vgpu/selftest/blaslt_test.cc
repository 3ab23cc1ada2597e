// The double of cuBLASLt refuses what the documentation refuses, and computes on checked memory.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/vgpu/selftest/virtual_card.h"

namespace cudream::vgpu {
namespace {

// D [m,n] = A [m,k] B [k,n], columns first, f32 unless told, with everything a call needs.
class BlasLt : public testing::Test {
 protected:
  static constexpr uint64_t kM = 64, kN = 32, kK = 64;
  BlasLt() : a_(std::vector<float>(kM * kK, 1.5f)), b_(std::vector<float>(kK * kN, 2.f)), d_(kM * kN) {
    EXPECT_EQ(cublasLtCreate(&handle_), CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulDescCreate(&op_, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayoutCreate(&la_, CUDA_R_32F, kM, kK, kM);
    cublasLtMatrixLayoutCreate(&lb_, CUDA_R_32F, kK, kN, kK);
    cublasLtMatrixLayoutCreate(&ld_, CUDA_R_32F, kM, kN, kM);
    cublasLtMatmulPreferenceCreate(&preference_);
    size_t bytes = 1 << 20;
    cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes);
  }
  ~BlasLt() override {
    cublasLtMatmulDescDestroy(op_);
    for (cublasLtMatrixLayout_t l : {la_, lb_, ld_}) cublasLtMatrixLayoutDestroy(l);
    cublasLtMatmulPreferenceDestroy(preference_);
    cublasLtDestroy(handle_);
    cuDevicePrimaryCtxRelease(0);  // a context that failed ends with its test
  }
  cublasStatus_t ask() {
    int count = 0;
    return cublasLtMatmulAlgoGetHeuristic(handle_, op_, la_, lb_, ld_, ld_, preference_, 1, &found_, &count);
  }
  cublasStatus_t multiply(CUdeviceptr a, CUdeviceptr b, CUdeviceptr d, CUdeviceptr workspace, size_t bytes) {
    const float one = 1, zero = 0;
    const auto at = [](CUdeviceptr p) { return reinterpret_cast<void*>(p); };
    return cublasLtMatmul(handle_, op_, &one, at(a), la_, at(b), lb_, &zero, at(d), ld_, at(d), ld_, &found_.algo, at(workspace),
                          bytes, nullptr);
  }
  template <typename T>
  cublasStatus_t set(cublasLtMatrixLayout_t layout, cublasLtMatrixLayoutAttribute_t attribute, T value) {
    return cublasLtMatrixLayoutSetAttribute(layout, attribute, &value, sizeof value);
  }

  VirtualCard card_;
  CardArray<float> a_, b_, d_;
  cublasLtHandle_t handle_ = nullptr;
  cublasLtMatmulDesc_t op_ = nullptr;
  cublasLtMatrixLayout_t la_ = nullptr, lb_ = nullptr, ld_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulHeuristicResult_t found_{};
};

TEST_F(BlasLt, MultipliesInItsWorkspace) {
  ASSERT_EQ(ask(), CUBLAS_STATUS_SUCCESS);
  ASSERT_GT(found_.workspaceSize, 0u);
  CardArray<char> workspace(found_.workspaceSize);
  EXPECT_EQ(multiply(a_.get(), b_.get(), d_.get(), workspace.get(), found_.workspaceSize), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(d_.values(), std::vector<float>(kM * kN, 1.5f * 2 * kK));
}

TEST_F(BlasLt, RefusesAMissingWorkspace) {
  ASSERT_EQ(ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(multiply(a_.get(), b_.get(), d_.get(), 0, found_.workspaceSize), CUBLAS_STATUS_INVALID_VALUE);
  CardArray<char> workspace(found_.workspaceSize);
  EXPECT_EQ(multiply(a_.get(), b_.get(), d_.get(), workspace.get(), found_.workspaceSize - 1), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(BlasLt, StaysWithinTheWorkspaceAskedFor) {
  size_t none = 0;
  cublasLtMatmulPreferenceSetAttribute(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &none, sizeof none);
  ASSERT_EQ(ask(), CUBLAS_STATUS_SUCCESS);
  EXPECT_EQ(found_.workspaceSize, 0u);
}

TEST_F(BlasLt, RefusesShapesThatDoNotFit) {
  set(lb_, CUBLASLT_MATRIX_LAYOUT_ROWS, kK - 1);
  EXPECT_EQ(ask(), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(BlasLt, RefusesAShortLeadingDimension) {
  set(la_, CUBLASLT_MATRIX_LAYOUT_LD, static_cast<int64_t>(kM - 1));
  EXPECT_EQ(ask(), CUBLAS_STATUS_INVALID_VALUE);
}

TEST_F(BlasLt, RefusesBatchesThatDifferOrOverlap) {
  set(la_, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t{2});
  EXPECT_EQ(ask(), CUBLAS_STATUS_INVALID_VALUE);
  set(lb_, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t{2});
  set(ld_, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, int32_t{2});
  EXPECT_EQ(ask(), CUBLAS_STATUS_INVALID_VALUE);  // the stride of D is 0
  set(ld_, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, static_cast<int64_t>(kM * kN));
  EXPECT_EQ(ask(), CUBLAS_STATUS_SUCCESS);
}

TEST_F(BlasLt, RefusesTypesOutsideTheTable) {
  set(lb_, CUBLASLT_MATRIX_LAYOUT_TYPE, int32_t{CUDA_R_16F});
  EXPECT_EQ(ask(), CUBLAS_STATUS_NOT_SUPPORTED);
}

TEST_F(BlasLt, RefusesUnknownAttributesAndWrongSizes) {
  const uint64_t value = 1;
  EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(la_, static_cast<cublasLtMatrixLayoutAttribute_t>(15), &value, 8),
            CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatrixLayoutSetAttribute(la_, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &value, 8), CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasLtMatmulDescSetAttribute(op_, static_cast<cublasLtMatmulDescAttributes_t>(63), &value, 8),
            CUBLAS_STATUS_INVALID_VALUE);
}

// Rows of 4-byte alignment get no tensor-core algorithm, and one that was promised alignment does not run without it.
TEST_F(BlasLt, HoldsToAlignment) {
  ASSERT_EQ(ask(), CUBLAS_STATUS_SUCCESS);
  CardArray<char> workspace(found_.workspaceSize);
  CardArray<float> shifted(std::vector<float>(kM * kK + 1, 1.f));
  EXPECT_EQ(multiply(shifted.get() + 4, b_.get(), d_.get(), workspace.get(), found_.workspaceSize), CUBLAS_STATUS_SUCCESS);
  EXPECT_NE(cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(BlasLt, SeesAccessesOutsideOfMemory) {
  ASSERT_EQ(ask(), CUBLAS_STATUS_SUCCESS);
  CardArray<char> workspace(found_.workspaceSize);
  CardArray<float> small(kM * kN - 1);
  EXPECT_EQ(multiply(a_.get(), b_.get(), small.get(), workspace.get(), found_.workspaceSize), CUBLAS_STATUS_SUCCESS);
  EXPECT_NE(cuCtxSynchronize(), CUDA_SUCCESS);
}

TEST_F(BlasLt, SeesReadsOfWhatNobodyWrote) {
  ASSERT_EQ(ask(), CUBLAS_STATUS_SUCCESS);
  CardArray<char> workspace(found_.workspaceSize);
  CardArray<float> unwritten(kM * kK);
  EXPECT_EQ(multiply(unwritten.get(), b_.get(), d_.get(), workspace.get(), found_.workspaceSize), CUBLAS_STATUS_SUCCESS);
  EXPECT_NE(cuCtxSynchronize(), CUDA_SUCCESS);
}

}  // namespace
}  // namespace cudream::vgpu
