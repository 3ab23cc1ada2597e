// Our declarations of libcudnn against its own header, where one was found when the build was configured.
#include <cudnn.h>
#include <gtest/gtest.h>

#include <type_traits>

#include "kernels/cuda/dnn.h"

namespace cudream {
namespace {

// Enumerations are ints in our table; everything else is the same type.
template <typename T>
using Plain = std::conditional_t<std::is_enum_v<T>, int, T>;
template <typename T>
struct Signature;
template <typename Result, typename... Args>
struct Signature<Result (*)(Args...)> {
  using Pointer = Plain<Result> (*)(Plain<Args>...);
};
template <auto kTheirs, typename Ours>
constexpr bool same(Ours Dnn::*) {
  return std::is_same_v<typename Signature<decltype(kTheirs)>::Pointer, Ours>;
}

TEST(DnnHeader, DeclaresWhatTheTableDoes) {
  EXPECT_TRUE(same<&cudnnGetVersion>(&Dnn::version));
  EXPECT_TRUE(same<&cudnnGetErrorString>(&Dnn::status_text));
  EXPECT_TRUE(same<&cudnnGetLastErrorString>(&Dnn::last_error));
  EXPECT_TRUE(same<&cudnnCreate>(&Dnn::create));
  EXPECT_TRUE(same<&cudnnDestroy>(&Dnn::destroy));
  EXPECT_TRUE(same<&cudnnSetStream>(&Dnn::set_stream));
  EXPECT_TRUE(same<&cudnnBackendCreateDescriptor>(&Dnn::descriptor_create));
  EXPECT_TRUE(same<&cudnnBackendDestroyDescriptor>(&Dnn::descriptor_destroy));
  EXPECT_TRUE(same<&cudnnBackendSetAttribute>(&Dnn::set));
  EXPECT_TRUE(same<&cudnnBackendGetAttribute>(&Dnn::get));
  EXPECT_TRUE(same<&cudnnBackendFinalize>(&Dnn::finalize));
  EXPECT_TRUE(same<&cudnnBackendExecute>(&Dnn::execute));
}

TEST(DnnHeader, GivesTheValuesUsed) {
  const std::pair<int, int> values[] = {{Dnn::kPointwise, CUDNN_BACKEND_POINTWISE_DESCRIPTOR},
                                        {Dnn::kConvolution, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR},
                                        {Dnn::kEngine, CUDNN_BACKEND_ENGINE_DESCRIPTOR},
                                        {Dnn::kEngineConfig, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR},
                                        {Dnn::kEngineHeuristic, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR},
                                        {Dnn::kPlan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR},
                                        {Dnn::kConvolutionForward, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR},
                                        {Dnn::kPointwiseOperation, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR},
                                        {Dnn::kGraph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR},
                                        {Dnn::kVariantPack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR},
                                        {Dnn::kTensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR},
                                        {Dnn::kDeviceProperties, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR},
                                        {Dnn::kAttentionForward, CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR},
                                        {Dnn::kHandle, CUDNN_TYPE_HANDLE},
                                        {Dnn::kDataType, CUDNN_TYPE_DATA_TYPE},
                                        {Dnn::kBoolean, CUDNN_TYPE_BOOLEAN},
                                        {Dnn::kInt64, CUDNN_TYPE_INT64},
                                        {Dnn::kFloat, CUDNN_TYPE_FLOAT},
                                        {Dnn::kVoidPointer, CUDNN_TYPE_VOID_PTR},
                                        {Dnn::kConvolutionMode, CUDNN_TYPE_CONVOLUTION_MODE},
                                        {Dnn::kHeuristicMode, CUDNN_TYPE_HEUR_MODE},
                                        {Dnn::kNumericalNote, CUDNN_TYPE_NUMERICAL_NOTE},
                                        {Dnn::kPointwiseMode, CUDNN_TYPE_POINTWISE_MODE},
                                        {Dnn::kDescriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR},
                                        {Dnn::kChar, CUDNN_TYPE_CHAR},
                                        {Dnn::kPointwiseModeIs, CUDNN_ATTR_POINTWISE_MODE},
                                        {Dnn::kPointwisePrecision, CUDNN_ATTR_POINTWISE_MATH_PREC},
                                        {Dnn::kConvolutionPrecision, CUDNN_ATTR_CONVOLUTION_COMP_TYPE},
                                        {Dnn::kConvolutionModeIs, CUDNN_ATTR_CONVOLUTION_CONV_MODE},
                                        {Dnn::kDilations, CUDNN_ATTR_CONVOLUTION_DILATIONS},
                                        {Dnn::kStrides, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES},
                                        {Dnn::kPostPadding, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS},
                                        {Dnn::kPrePadding, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS},
                                        {Dnn::kSpatialDims, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS},
                                        {Dnn::kHeuristicModeIs, CUDNN_ATTR_ENGINEHEUR_MODE},
                                        {Dnn::kHeuristicGraph, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH},
                                        {Dnn::kHeuristicResults, CUDNN_ATTR_ENGINEHEUR_RESULTS},
                                        {Dnn::kHeuristicDevice, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP},
                                        {Dnn::kConfigEngine, CUDNN_ATTR_ENGINECFG_ENGINE},
                                        {Dnn::kEngineNotes, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE},
                                        {Dnn::kPlanHandle, 400},   // CUDNN_ATTR_EXECUTION_PLAN_HANDLE, marked as deprecated
                                        {Dnn::kGraphHandle, 800},  // CUDNN_ATTR_OPERATIONGRAPH_HANDLE, likewise
                                        {Dnn::kPlanConfig, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG},
                                        {Dnn::kPlanWorkspace, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE},
                                        {Dnn::kPlanJson, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION},
                                        {Dnn::kPlanDevice, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP},
                                        {Dnn::kForwardAlpha, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA},
                                        {Dnn::kForwardBeta, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
                                        {Dnn::kForwardConvolution, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC},
                                        {Dnn::kForwardW, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W},
                                        {Dnn::kForwardX, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X},
                                        {Dnn::kForwardY, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
                                        {Dnn::kPointwiseDescriptor, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR},
                                        {Dnn::kPointwiseX, CUDNN_ATTR_OPERATION_POINTWISE_XDESC},
                                        {Dnn::kPointwiseB, CUDNN_ATTR_OPERATION_POINTWISE_BDESC},
                                        {Dnn::kPointwiseY, CUDNN_ATTR_OPERATION_POINTWISE_YDESC},
                                        {Dnn::kGraphOperations, CUDNN_ATTR_OPERATIONGRAPH_OPS},
                                        {Dnn::kTensorAlignment, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT},
                                        {Dnn::kTensorType, CUDNN_ATTR_TENSOR_DATA_TYPE},
                                        {Dnn::kTensorDimensions, CUDNN_ATTR_TENSOR_DIMENSIONS},
                                        {Dnn::kTensorStrides, CUDNN_ATTR_TENSOR_STRIDES},
                                        {Dnn::kTensorId, CUDNN_ATTR_TENSOR_UNIQUE_ID},
                                        {Dnn::kTensorIsVirtual, CUDNN_ATTR_TENSOR_IS_VIRTUAL},
                                        {Dnn::kTensorIsByValue, CUDNN_ATTR_TENSOR_IS_BY_VALUE},
                                        {Dnn::kPackIds, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS},
                                        {Dnn::kPackPointers, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS},
                                        {Dnn::kPackWorkspace, CUDNN_ATTR_VARIANT_PACK_WORKSPACE},
                                        {Dnn::kDeviceJson, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION},
                                        {Dnn::kAttentionQ, CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC},
                                        {Dnn::kAttentionK, CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC},
                                        {Dnn::kAttentionV, CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC},
                                        {Dnn::kAttentionO, CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC},
                                        {Dnn::kAttentionScale, CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC},
                                        {Dnn::kF32, CUDNN_DATA_FLOAT},
                                        {Dnn::kF16, CUDNN_DATA_HALF},
                                        {Dnn::kBf16, CUDNN_DATA_BFLOAT16},
                                        {Dnn::kCrossCorrelation, CUDNN_CROSS_CORRELATION},
                                        {Dnn::kAdd, CUDNN_POINTWISE_ADD},
                                        {Dnn::kHeuristicA, CUDNN_HEUR_MODE_A},
                                        {Dnn::kFallback, CUDNN_HEUR_MODE_FALLBACK},
                                        {Dnn::kDownConverts, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS},
                                        {Dnn::kReducedSums, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION},
                                        {Dnn::kNondeterministic, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC},
                                        {Dnn::kNotSupported, CUDNN_STATUS_NOT_SUPPORTED}};
  for (const auto& [ours, theirs] : values) EXPECT_EQ(ours, theirs);
  EXPECT_LE(CUDNN_NUMERICAL_NOTE_TYPE_COUNT, Dnn::kNotes);
}

}  // namespace
}  // namespace cudream
