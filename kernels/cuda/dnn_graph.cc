// Descriptions, heuristics, plans.
#include "kernels/cuda/dnn_graph.h"

#include <algorithm>
#include <array>

#include "core/error.h"

namespace cudream {
namespace {

constexpr int64_t kAlignment = 16;  // bytes, of every operand
constexpr int kConfigs = 8;         // how far down its ranking the library is followed

int library_type(DType type) {
  return type == DType::f16 ? Dnn::kF16 : type == DType::bf16 ? Dnn::kBf16 : Dnn::kF32;
}

// A tensor of a graph. Virtual: it lies between two operations and has no memory.
DnnDescriptor tensor(const Dnn& dnn, int64_t id, int type, const std::vector<int64_t>& dims, const std::vector<int64_t>& strides,
                     bool is_virtual = false) {
  DnnDescriptor t(dnn, Dnn::kTensor);
  t.set_enum(Dnn::kTensorType, Dnn::kDataType, type);
  t.set_ints(Dnn::kTensorDimensions, dims);
  t.set_ints(Dnn::kTensorStrides, strides);
  t.set_int(Dnn::kTensorId, id);
  t.set_int(Dnn::kTensorAlignment, kAlignment);
  if (is_virtual) t.set_bool(Dnn::kTensorIsVirtual, true);
  t.finalize();
  return t;
}

// The library names the dimensions of NHWC in the order N, C, H, W.
DnnDescriptor picture(const Dnn& dnn, int64_t id, int type, int64_t n, int64_t h, int64_t w, int64_t c, bool is_virtual = false) {
  return tensor(dnn, id, type, {n, c, h, w}, {h * w * c, 1, w * c, c}, is_virtual);
}

DnnDescriptor addition(const Dnn& dnn, const DnnDescriptor& x, const DnnDescriptor& b, const DnnDescriptor& y) {
  DnnDescriptor add(dnn, Dnn::kPointwise);
  add.set_enum(Dnn::kPointwiseModeIs, Dnn::kPointwiseMode, Dnn::kAdd);
  add.set_enum(Dnn::kPointwisePrecision, Dnn::kDataType, Dnn::kF32);
  add.finalize();
  DnnDescriptor op(dnn, Dnn::kPointwiseOperation);
  op.set_part(Dnn::kPointwiseDescriptor, add);
  op.set_part(Dnn::kPointwiseX, x);
  op.set_part(Dnn::kPointwiseB, b);
  op.set_part(Dnn::kPointwiseY, y);
  op.finalize();
  return op;
}

DnnDescriptor convolution(const Dnn& dnn, const DnnConvolution& c, const DnnDescriptor& x, const DnnDescriptor& w,
                          const DnnDescriptor& y) {
  DnnDescriptor conv(dnn, Dnn::kConvolution);
  conv.set_enum(Dnn::kConvolutionPrecision, Dnn::kDataType, Dnn::kF32);
  conv.set_enum(Dnn::kConvolutionModeIs, Dnn::kConvolutionMode, Dnn::kCrossCorrelation);
  conv.set_int(Dnn::kSpatialDims, 2);
  conv.set_ints(Dnn::kDilations, {1, 1});
  conv.set_ints(Dnn::kStrides, {c.stride, c.stride});
  conv.set_ints(Dnn::kPrePadding, {c.pad_before, c.pad_before});
  conv.set_ints(Dnn::kPostPadding, {c.pad_after, c.pad_after});
  conv.finalize();
  DnnDescriptor op(dnn, Dnn::kConvolutionForward);
  op.set_part(Dnn::kForwardConvolution, conv);
  op.set_part(Dnn::kForwardX, x);
  op.set_part(Dnn::kForwardW, w);
  op.set_part(Dnn::kForwardY, y);
  op.set_float(Dnn::kForwardAlpha, 1);
  op.set_float(Dnn::kForwardBeta, 0);
  op.finalize();
  return op;
}

DnnDescriptor graph_of(const Dnn& dnn, const DnnTarget& target, const std::vector<DnnDescriptor>& operations) {
  std::vector<Dnn::Descriptor> parts;
  parts.reserve(operations.size());
  for (const DnnDescriptor& operation : operations) parts.push_back(operation.get());
  DnnDescriptor graph(dnn, Dnn::kGraph);
  graph.set(Dnn::kGraphOperations, Dnn::kDescriptor, static_cast<int64_t>(parts.size()), parts.data());
  if (target.handle != nullptr) graph.set(Dnn::kGraphHandle, Dnn::kHandle, 1, &target.handle);
  graph.finalize();
  return graph;
}

// The library's ranking of engine configurations for a graph.
std::vector<DnnDescriptor> ranking(const Dnn& dnn, const DnnTarget& target, const DnnDescriptor& graph, int mode) {
  DnnDescriptor heuristic(dnn, Dnn::kEngineHeuristic);
  heuristic.set_part(Dnn::kHeuristicGraph, graph);
  heuristic.set_enum(Dnn::kHeuristicModeIs, Dnn::kHeuristicMode, mode);
  if (target.device != nullptr) heuristic.set_part(Dnn::kHeuristicDevice, *target.device);
  heuristic.finalize();
  std::vector<DnnDescriptor> configs;
  std::vector<Dnn::Descriptor> places;
  places.reserve(kConfigs);
  for (int i = 0; i < kConfigs; i++) places.push_back(configs.emplace_back(dnn, Dnn::kEngineConfig).get());
  int64_t count = 0;
  dnn.check(dnn.get(heuristic.get(), Dnn::kHeuristicResults, Dnn::kDescriptor, kConfigs, &count, places.data()),
            "asking for engines");
  while (static_cast<int64_t>(configs.size()) > count) configs.pop_back();
  return configs;
}

// Results must repeat, and sums stay in f32 whatever the library thinks is close enough.
bool is_exact(const Dnn& dnn, const DnnDescriptor& config) {
  const DnnDescriptor engine(dnn, Dnn::kEngine);
  Dnn::Descriptor place = engine.get();
  int64_t count = 0;
  dnn.check(dnn.get(config.get(), Dnn::kConfigEngine, Dnn::kDescriptor, 1, &count, &place), "asking for an engine");
  std::array<int, Dnn::kNotes> notes{};
  dnn.check(dnn.get(place, Dnn::kEngineNotes, Dnn::kNumericalNote, Dnn::kNotes, &count, notes.data()), "asking for an engine");
  return std::none_of(notes.begin(), notes.begin() + std::min<int64_t>(count, Dnn::kNotes), [](int note) {
    return note == Dnn::kDownConverts || note == Dnn::kReducedSums || note == Dnn::kNondeterministic;
  });
}

std::optional<DnnPlan> make_plan(const Dnn& dnn, const DnnTarget& target, const DnnDescriptor& config, int64_t most_workspace) {
  try {
    if (!is_exact(dnn, config)) return std::nullopt;
    DnnDescriptor plan(dnn, Dnn::kPlan);
    plan.set_part(Dnn::kPlanConfig, config);
    if (target.handle != nullptr) plan.set(Dnn::kPlanHandle, Dnn::kHandle, 1, &target.handle);
    if (target.device != nullptr) plan.set_part(Dnn::kPlanDevice, *target.device);
    plan.finalize();
    int64_t bytes = 0, count = 0;
    dnn.check(dnn.get(plan.get(), Dnn::kPlanWorkspace, Dnn::kInt64, 1, &count, &bytes), "asking for the workspace");
    if (bytes > most_workspace) return std::nullopt;
    return DnnPlan{std::move(plan), bytes};
  } catch (const Error&) {  // this engine cannot after all: the ranking is a guess
    return std::nullopt;
  }
}

std::optional<DnnPlan> plan_graph(const Dnn& dnn, const DnnTarget& target, const std::vector<DnnDescriptor>& operations,
                                  int64_t most_workspace) {
  const DnnDescriptor graph = graph_of(dnn, target, operations);
  for (const int mode : {Dnn::kHeuristicA, Dnn::kFallback})
    for (const DnnDescriptor& config : ranking(dnn, target, graph, mode))
      if (auto plan = make_plan(dnn, target, config, most_workspace)) return plan;
  return std::nullopt;
}

// What the library does not do is an answer, not a failure.
template <typename Plan>
std::optional<DnnPlan> unless_unsupported(const Plan& plan) {
  try {
    return plan();
  } catch (const Error& e) {
    if (e.code() != Code::unsupported) throw;
    return std::nullopt;
  }
}

}  // namespace

DnnDescriptor::DnnDescriptor(const Dnn& dnn, Dnn::Kind kind) : dnn_(dnn) {
  dnn_.check(dnn_.descriptor_create(kind, &at_), "describing an operation");
}
DnnDescriptor::~DnnDescriptor() {
  if (at_ != nullptr) dnn_.descriptor_destroy(at_);
}
void DnnDescriptor::set(Dnn::Attribute attribute, Dnn::Type type, int64_t count, const void* values) {
  dnn_.check(dnn_.set(at_, attribute, type, count, values), "describing an operation");
}
void DnnDescriptor::finalize() {
  dnn_.check(dnn_.finalize(at_), "completing a description");
}

DnnDescriptor describe_device(const Dnn& dnn, const std::string& json) {
  DnnDescriptor device(dnn, Dnn::kDeviceProperties);
  device.set(Dnn::kDeviceJson, Dnn::kChar, static_cast<int64_t>(json.size() + 1), json.c_str());
  device.finalize();
  return device;
}

std::optional<DnnPlan> plan_convolution(const Dnn& dnn, const DnnTarget& target, const DnnConvolution& c,
                                        int64_t most_workspace) {
  return unless_unsupported([&] {
    const int type = library_type(c.type);
    const auto result = [&](int64_t id, bool last) {  // sums stay in f32 until the last operation
      return picture(dnn, id, last ? type : Dnn::kF32, 1, c.out_height(), c.out_width(), c.outs, !last);
    };
    const DnnDescriptor x = picture(dnn, kDnnX, type, 1, c.height, c.width, c.channels);
    const DnnDescriptor w = picture(dnn, kDnnW, type, c.outs, c.kernel, c.kernel, c.channels);
    const DnnDescriptor bias = picture(dnn, kDnnBias, Dnn::kF32, 1, 1, 1, c.outs);
    const DnnDescriptor residual = picture(dnn, kDnnResidual, type, 1, c.out_height(), c.out_width(), c.outs);
    const DnnDescriptor product = result(c.bias || c.residual ? kDnnProduct : kDnnOut, !c.bias && !c.residual);
    const DnnDescriptor biased = result(c.residual ? kDnnBiased : kDnnOut, !c.residual), sum = result(kDnnOut, true);
    std::vector<DnnDescriptor> operations;
    operations.push_back(convolution(dnn, c, x, w, product));
    if (c.bias) operations.push_back(addition(dnn, product, bias, biased));
    if (c.residual) operations.push_back(addition(dnn, c.bias ? biased : product, residual, sum));
    return plan_graph(dnn, target, operations, most_workspace);
  });
}

std::optional<DnnPlan> plan_attention(const Dnn& dnn, const DnnTarget& target, const DnnAttention& a, int64_t most_workspace) {
  return unless_unsupported([&] {
    const int type = library_type(a.type);
    const auto tokens = [&](int64_t id, int64_t length, int64_t token) {  // [1,heads,length,size]
      return tensor(dnn, id, type, {1, a.heads, length, a.size}, {length * token, a.size, token, 1});
    };
    const DnnDescriptor q = tokens(kDnnQ, a.length, a.q_token), k = tokens(kDnnK, a.keys, a.k_token),
                        v = tokens(kDnnV, a.keys, a.v_token), out = tokens(kDnnOut, a.length, a.heads * a.size);
    DnnDescriptor scale(dnn, Dnn::kTensor);
    scale.set_enum(Dnn::kTensorType, Dnn::kDataType, Dnn::kF32);
    scale.set_ints(Dnn::kTensorDimensions, {1, 1, 1, 1});
    scale.set_ints(Dnn::kTensorStrides, {1, 1, 1, 1});
    scale.set_int(Dnn::kTensorId, kDnnScale);
    scale.set_int(Dnn::kTensorAlignment, 4);
    scale.set_bool(Dnn::kTensorIsByValue, true);
    scale.finalize();
    DnnDescriptor op(dnn, Dnn::kAttentionForward);
    op.set_part(Dnn::kAttentionQ, q);
    op.set_part(Dnn::kAttentionK, k);
    op.set_part(Dnn::kAttentionV, v);
    op.set_part(Dnn::kAttentionO, out);
    op.set_part(Dnn::kAttentionScale, scale);
    op.finalize();
    std::vector<DnnDescriptor> operations;
    operations.push_back(std::move(op));
    return plan_graph(dnn, target, operations, most_workspace);
  });
}

std::string plan_json(const Dnn& dnn, const DnnPlan& p) {
  int64_t bytes = 0;
  dnn.check(dnn.get(p.plan.get(), Dnn::kPlanJson, Dnn::kChar, 0, &bytes, nullptr), "writing a plan down");
  std::string text(static_cast<size_t>(bytes), '\0');
  dnn.check(dnn.get(p.plan.get(), Dnn::kPlanJson, Dnn::kChar, bytes, &bytes, text.data()), "writing a plan down");
  return text;
}

}  // namespace cudream
