// Convolution and attention described to cuDNN, and the plan it makes of such a description. Always of one picture: a batch is
// a loop over its pictures, so what picks an engine cannot see it.
//
// A plan is made for the card that a handle was opened on, or for a card described by a JSON text (then it can be judged, not
// run: how the tests ask the real library on machines without a GPU).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/types.h"
#include "kernels/cuda/dnn.h"

namespace cudream {

// A descriptor of the library's: attributes are set, then it is finalized. Errors are Error(unsupported) where the library says
// that it does not do this, Error(device) otherwise.
class DnnDescriptor {
 public:
  DnnDescriptor(const Dnn& dnn, Dnn::Kind kind);
  ~DnnDescriptor();
  DnnDescriptor(DnnDescriptor&& other) noexcept : dnn_(other.dnn_), at_(std::exchange(other.at_, nullptr)) {}
  DnnDescriptor(const DnnDescriptor&) = delete;
  DnnDescriptor& operator=(const DnnDescriptor&) = delete;

  Dnn::Descriptor get() const { return at_; }
  void set(Dnn::Attribute, Dnn::Type, int64_t count, const void* values);
  void set_int(Dnn::Attribute attribute, int64_t value) { set(attribute, Dnn::kInt64, 1, &value); }
  void set_ints(Dnn::Attribute attribute, const std::vector<int64_t>& values) {
    set(attribute, Dnn::kInt64, static_cast<int64_t>(values.size()), values.data());
  }
  void set_enum(Dnn::Attribute attribute, Dnn::Type type, int value) { set(attribute, type, 1, &value); }
  void set_bool(Dnn::Attribute attribute, bool value) { set(attribute, Dnn::kBoolean, 1, &value); }
  void set_float(Dnn::Attribute attribute, float value) { set(attribute, Dnn::kFloat, 1, &value); }
  void set_part(Dnn::Attribute attribute, const DnnDescriptor& part) { set(attribute, Dnn::kDescriptor, 1, &part.at_); }
  void finalize();

 private:
  const Dnn& dnn_;
  Dnn::Descriptor at_ = nullptr;
};

// The operands of the graphs below, by the numbers that a plan is run with.
enum DnnOperand : int64_t {
  kDnnX = 1,
  kDnnW,
  kDnnOut,
  kDnnBias,
  kDnnResidual,
  kDnnQ,
  kDnnK,
  kDnnV,
  kDnnScale,
  kDnnProduct,
  kDnnBiased
};

// out [1,out_height,out_width,outs] = x [1,height,width,channels] through w [outs,kernel,kernel,channels] + bias + residual;
// bias [outs] in f32, sums in f32.
struct DnnConvolution {
  DType type = DType::f16;
  int64_t height = 0, width = 0, channels = 0, outs = 0;
  int kernel = 3, stride = 1, pad_before = 1, pad_after = 1;
  bool bias = false, residual = false;
  int64_t out_height() const { return (height + pad_before + pad_after - kernel) / stride + 1; }
  int64_t out_width() const { return (width + pad_before + pad_after - kernel) / stride + 1; }
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 misreads the operator
  auto operator<=>(const DnnConvolution&) const = default;
};

// out [1,length,heads*size] = softmax(scale q k^T) v; elements from one token to the next.
struct DnnAttention {
  DType type = DType::f16;
  int64_t length = 0, keys = 0, heads = 0, size = 0, q_token = 0, k_token = 0, v_token = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 misreads the operator
  auto operator<=>(const DnnAttention&) const = default;
};

// For whom a plan is made: exactly one of the two.
struct DnnTarget {
  Dnn::Handle handle = nullptr;
  const DnnDescriptor* device = nullptr;
};
DnnDescriptor describe_device(const Dnn&, const std::string& json);

struct DnnPlan {
  DnnDescriptor plan;
  int64_t workspace_bytes;
};

// The first plan of the library's ranking whose workspace stays within `most_workspace`; nothing where there is none.
std::optional<DnnPlan> plan_convolution(const Dnn&, const DnnTarget&, const DnnConvolution&, int64_t most_workspace);
std::optional<DnnPlan> plan_attention(const Dnn&, const DnnTarget&, const DnnAttention&, int64_t most_workspace);

// The plan as the library writes it down: engine, knobs, kernels.
std::string plan_json(const Dnn&, const DnnPlan&);

}  // namespace cudream
