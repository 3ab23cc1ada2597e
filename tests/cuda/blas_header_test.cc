// Our declarations of libcublasLt against the toolkit's own header, where one was found when the build was configured.
#include <cublasLt.h>
#include <gtest/gtest.h>

#include <type_traits>

#include "kernels/cuda/blas_lt.h"

namespace cudream {
namespace {

// Enumerations are ints in our table, descriptors are opaque; everything else is the same type.
template <typename T>
struct Ours {
  using Type = std::conditional_t<std::is_enum_v<T>, int, T>;
};
template <>
struct Ours<cublasLtMatmulDesc_t> {
  using Type = BlasLt::Operation;
};
template <>
struct Ours<cublasLtMatrixLayout_t> {
  using Type = BlasLt::Layout;
};
template <>
struct Ours<cublasLtMatmulPreference_t> {
  using Type = BlasLt::Preference;
};
template <>
struct Ours<cublasLtMatmulAlgo_t> {
  using Type = BlasLt::Algorithm;
};
template <>
struct Ours<cublasLtMatmulHeuristicResult_t> {
  using Type = BlasLt::Candidate;
};
// What a pointer points at, const or not.
template <typename T>
struct Translated {
  using Type = typename Ours<T>::Type;
};
template <typename T>
struct Translated<T*> {
  using Plain = std::remove_const_t<T>;
  using Known = Ours<Plain*>;
  using Pointee = typename Translated<Plain>::Type;
  using Type = std::conditional_t<!std::is_same_v<typename Known::Type, Plain*>, typename Known::Type,
                                  std::conditional_t<std::is_const_v<T>, const Pointee, Pointee>*>;
};
template <>
struct Translated<void> {
  using Type = void;
};
template <>
struct Translated<cublasLtContext> {
  using Type = cublasLtContext;
};
template <>
struct Translated<CUstream_st> {
  using Type = CUstream_st;
};

template <typename T>
struct Signature;
template <typename Result, typename... Args>
struct Signature<Result (*)(Args...)> {
  using Pointer = typename Translated<Result>::Type (*)(typename Translated<Args>::Type...);
};
template <auto kTheirs, typename Declared>
constexpr bool same(Declared BlasLt::*) {
  return std::is_same_v<typename Signature<decltype(kTheirs)>::Pointer, Declared>;
}

TEST(BlasHeader, DeclaresWhatTheTableDoes) {
  EXPECT_TRUE(same<&cublasLtCreate>(&BlasLt::create));
  EXPECT_TRUE(same<&cublasLtDestroy>(&BlasLt::destroy));
  EXPECT_TRUE(same<&cublasLtGetStatusString>(&BlasLt::status_text));
  EXPECT_TRUE(same<&cublasLtGetVersion>(&BlasLt::version));
  EXPECT_TRUE(same<&cublasLtMatmulDescCreate>(&BlasLt::operation_create));
  EXPECT_TRUE(same<&cublasLtMatmulDescDestroy>(&BlasLt::operation_destroy));
  EXPECT_TRUE(same<&cublasLtMatmulDescSetAttribute>(&BlasLt::operation_set));
  EXPECT_TRUE(same<&cublasLtMatrixLayoutCreate>(&BlasLt::layout_create));
  EXPECT_TRUE(same<&cublasLtMatrixLayoutDestroy>(&BlasLt::layout_destroy));
  EXPECT_TRUE(same<&cublasLtMatrixLayoutSetAttribute>(&BlasLt::layout_set));
  EXPECT_TRUE(same<&cublasLtMatmulPreferenceCreate>(&BlasLt::preference_create));
  EXPECT_TRUE(same<&cublasLtMatmulPreferenceDestroy>(&BlasLt::preference_destroy));
  EXPECT_TRUE(same<&cublasLtMatmulPreferenceSetAttribute>(&BlasLt::preference_set));
  EXPECT_TRUE(same<&cublasLtMatmulAlgoGetHeuristic>(&BlasLt::heuristic));
  EXPECT_TRUE(same<&cublasLtMatmulAlgoCheck>(&BlasLt::check_algorithm));
  EXPECT_TRUE(same<&cublasLtMatmul>(&BlasLt::matmul));
}

TEST(BlasHeader, LaysStructuresOutAsOurs) {
  EXPECT_EQ(sizeof(BlasLt::Algorithm), sizeof(cublasLtMatmulAlgo_t));
  EXPECT_EQ(sizeof(BlasLt::Candidate), sizeof(cublasLtMatmulHeuristicResult_t));
  EXPECT_EQ(offsetof(BlasLt::Candidate, workspace_bytes), offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize));
  EXPECT_EQ(offsetof(BlasLt::Candidate, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
  EXPECT_EQ(offsetof(BlasLt::Candidate, waves), offsetof(cublasLtMatmulHeuristicResult_t, wavesCount));
}

TEST(BlasHeader, GivesTheValuesUsed) {
  EXPECT_EQ(BlasLt::kNotSupported, CUBLAS_STATUS_NOT_SUPPORTED);
  EXPECT_EQ(BlasLt::kF32, CUDA_R_32F);
  EXPECT_EQ(BlasLt::kF16, CUDA_R_16F);
  EXPECT_EQ(BlasLt::kBf16, CUDA_R_16BF);
  EXPECT_EQ(BlasLt::kComputeF32, CUBLAS_COMPUTE_32F);
  EXPECT_EQ(BlasLt::kTransposed, CUBLAS_OP_T);
  EXPECT_EQ(BlasLt::kTransposeA, CUBLASLT_MATMUL_DESC_TRANSA);
  EXPECT_EQ(BlasLt::kEpilogue, CUBLASLT_MATMUL_DESC_EPILOGUE);
  EXPECT_EQ(BlasLt::kBiasPointer, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
  EXPECT_EQ(BlasLt::kBatchCount, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT);
  EXPECT_EQ(BlasLt::kBatchStride, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
  EXPECT_EQ(BlasLt::kMaxWorkspace, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
  EXPECT_EQ(BlasLt::kReductionMask, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
  EXPECT_EQ(BlasLt::kAlignA, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
  EXPECT_EQ(BlasLt::kAlignB, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
  EXPECT_EQ(BlasLt::kAlignC, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
  EXPECT_EQ(BlasLt::kAlignD, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
  EXPECT_EQ(BlasLt::kEpilogueBias, CUBLASLT_EPILOGUE_BIAS);
  EXPECT_EQ(BlasLt::kReduceInComputeType, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
}

}  // namespace
}  // namespace cudream
