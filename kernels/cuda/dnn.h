// libcudnn's graph ("backend") interface as a table of functions, declared here and opened at run time, as driver.h does with
// libcuda.
//
// Source: "NVIDIA cuDNN", backend API reference, version 9. Where cudnn.h is found a test compares every declaration with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "kernels/cuda/driver.h"

struct cudnnContext;

namespace cudream {

struct Dnn {
  using Status = int;  // cudnnStatus_t; 0 is success
  using Handle = cudnnContext*;
  using Descriptor = void*;  // cudnnBackendDescriptor_t

  // The values used here of cudnnBackendDescriptorType_t, ...AttributeType_t, ...AttributeName_t and the rest.
  enum Kind : int {
    kPointwise = 0,
    kConvolution = 1,
    kEngineHeuristic = 4,
    kEngine = 2,
    kEngineConfig = 3,
    kPlan = 5,
    kConvolutionForward = 10,
    kPointwiseOperation = 13,
    kGraph = 15,
    kVariantPack = 16,
    kTensor = 17,
    kDeviceProperties = 38,
    kAttentionForward = 41
  };
  enum Type : int {
    kHandle = 0,
    kDataType = 1,
    kBoolean = 2,
    kInt64 = 3,
    kFloat = 4,
    kVoidPointer = 6,
    kConvolutionMode = 7,
    kHeuristicMode = 8,
    kNumericalNote = 11,
    kPointwiseMode = 14,
    kDescriptor = 15,
    kChar = 24
  };
  enum Attribute : int {
    kPointwiseModeIs = 0,
    kPointwisePrecision = 1,
    kConvolutionPrecision = 100,
    kConvolutionModeIs = 101,
    kDilations = 102,
    kStrides = 103,
    kPostPadding = 104,
    kPrePadding = 105,
    kSpatialDims = 106,
    kHeuristicModeIs = 200,
    kHeuristicGraph = 201,
    kHeuristicResults = 202,
    kHeuristicDevice = 204,
    kConfigEngine = 300,
    kPlanHandle = 400,
    kPlanConfig = 401,
    kPlanWorkspace = 402,
    kPlanJson = 405,
    kPlanDevice = 407,
    kForwardAlpha = 700,
    kForwardBeta = 701,
    kForwardConvolution = 702,
    kForwardW = 703,
    kForwardX = 704,
    kForwardY = 705,
    kPointwiseDescriptor = 750,
    kPointwiseX = 751,
    kPointwiseB = 752,
    kPointwiseY = 753,
    kGraphHandle = 800,
    kGraphOperations = 801,
    kTensorAlignment = 900,
    kTensorType = 901,
    kTensorDimensions = 902,
    kTensorStrides = 903,
    kTensorId = 906,
    kTensorIsVirtual = 907,
    kTensorIsByValue = 908,
    kPackIds = 1000,
    kPackPointers = 1001,
    kPackWorkspace = 1003,
    kEngineNotes = 1303,
    kDeviceJson = 2702,
    kAttentionQ = 2800,
    kAttentionK = 2801,
    kAttentionV = 2802,
    kAttentionO = 2803,
    kAttentionScale = 2805
  };
  static constexpr int kF32 = 0, kF16 = 2, kBf16 = 9;  // cudnnDataType_t
  static constexpr int kCrossCorrelation = 1;
  static constexpr int kAdd = 0;         // cudnnPointwiseMode_t
  static constexpr int kHeuristicA = 3;  // the better of the two that ask a model
  static constexpr int kFallback = 2;
  static constexpr int kDownConverts = 1, kReducedSums = 2, kNondeterministic = 4, kNotes = 64;  // cudnnBackendNumericalNote_t
  static constexpr Status kNotSupported = 3000;  // and above, up to 4000: reasons for it

  size_t (*version)();
  const char* (*status_text)(Status);
  void (*last_error)(char* text, size_t bytes);
  Status (*create)(Handle*);
  Status (*destroy)(Handle);
  Status (*set_stream)(Handle, Driver::Stream);
  Status (*descriptor_create)(int kind, Descriptor*);
  Status (*descriptor_destroy)(Descriptor);
  Status (*set)(Descriptor, int attribute, int type, int64_t count, const void* values);
  Status (*get)(Descriptor, int attribute, int type, int64_t wanted, int64_t* count, void* values);
  Status (*finalize)(Descriptor);
  Status (*execute)(Handle, Descriptor plan, Descriptor pack);

  // Throws Error(unsupported) where the library says that it does not do this, else Error(device), with its reason.
  void check(Status status, const char* doing) const;
};

// Opens what CUDREAM_LIBCUDNN names, else libcudnn.so.9. Throws Error(device) where there is none.
Dnn open_dnn();

// "9.19.0"
std::string version_text(const Dnn&);

}  // namespace cudream
