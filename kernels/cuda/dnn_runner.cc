// Keeping cuDNN's plans and running them.
#include "kernels/cuda/dnn_runner.h"

namespace cudream {
namespace {

constexpr int64_t kRow = 8;  // elements of 16 bits in 16 bytes

}  // namespace

bool dnn_may_serve(const DnnConvolution& c) {
  return c.type != DType::f32 && c.channels % kRow == 0 && c.outs % kRow == 0;
}

bool dnn_may_serve(const DnnAttention& a) {
  return a.type != DType::f32 && a.size % kRow == 0 && a.q_token % kRow == 0 && a.k_token % kRow == 0 && a.v_token % kRow == 0;
}

DnnRunner::DnnRunner(Gpu& gpu) : gpu_(gpu), dnn_(open_dnn()), version_(version_text(dnn_)) {
  gpu_.use();
  dnn_.check(dnn_.create(&handle_), "opening the library");
  dnn_.check(dnn_.set_stream(handle_, gpu_.stream()), "choosing a stream");
  workspace_ = gpu_.allocate(kWorkspaceBytes);
}

DnnRunner::~DnnRunner() {
  gpu_.release(workspace_);  // waits for the work that uses it
  convolutions_.clear();
  attentions_.clear();
  dnn_.destroy(handle_);
}

std::optional<DnnPlan>& DnnRunner::plan(const DnnConvolution& c) {
  const auto found = convolutions_.find(c);
  if (found != convolutions_.end()) return found->second;
  gpu_.use();
  return convolutions_.emplace(c, plan_convolution(dnn_, {.handle = handle_}, c, kWorkspaceBytes)).first->second;
}

std::optional<DnnPlan>& DnnRunner::plan(const DnnAttention& a) {
  const auto found = attentions_.find(a);
  if (found != attentions_.end()) return found->second;
  gpu_.use();
  return attentions_.emplace(a, plan_attention(dnn_, {.handle = handle_}, a, kWorkspaceBytes)).first->second;
}

bool DnnRunner::serves(const DnnConvolution& c) {
  return dnn_may_serve(c) && plan(c).has_value();
}
bool DnnRunner::serves(const DnnAttention& a) {
  return dnn_may_serve(a) && plan(a).has_value();
}

void DnnRunner::run_plan(const DnnPlan& p, int64_t pictures, const std::vector<Operand>& operands) {
  gpu_.use();
  std::vector<int64_t> ids;
  ids.reserve(operands.size());
  for (const Operand& operand : operands) ids.push_back(operand.id);
  for (int64_t picture = 0; picture < pictures; picture++) {
    std::vector<const void*> places;
    places.reserve(operands.size());
    for (const Operand& operand : operands)
      places.push_back(static_cast<const std::byte*>(operand.data) + picture * operand.picture_bytes);
    DnnDescriptor pack(dnn_, Dnn::kVariantPack);
    pack.set_ints(Dnn::kPackIds, ids);
    pack.set(Dnn::kPackPointers, Dnn::kVoidPointer, static_cast<int64_t>(places.size()), places.data());
    pack.set(Dnn::kPackWorkspace, Dnn::kVoidPointer, 1, &workspace_);
    pack.finalize();
    dnn_.check(dnn_.execute(handle_, p.plan.get(), pack.get()), "running a plan");
  }
}

}  // namespace cudream
