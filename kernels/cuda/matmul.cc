// Asking cuBLASLt, keeping what it answered, running it.
#include "kernels/cuda/matmul.h"

#include <array>
#include <vector>

namespace cudream {
namespace {

constexpr int64_t kRowAlign = 16;  // bytes
constexpr int64_t kFewRows = 4;    // up to here the weights are the whole cost and a warp an output is the better way
constexpr int kCandidates = 8;

int library_type(DType type) {
  return type == DType::f16 ? BlasLt::kF16 : type == DType::bf16 ? BlasLt::kBf16 : BlasLt::kF32;
}

}  // namespace

bool blas_may_serve(const MatmulShape& s) {
  const auto aligned = [&](int64_t elements) { return elements * size_of(s.type) % kRowAlign == 0; };
  const bool bias_fits = !s.bias || s.type == DType::f32;  // the library takes a bias of the output's type, and ours is f32
  return s.rows > kFewRows && aligned(s.depth) && aligned(s.outs) && bias_fits;
}

// The library counts columns first: a row-major matrix is its transpose. So it is asked for out^T [outs,rows] = w x^T.
struct Matmul::Plan {
  Plan(const BlasLt& lt, const MatmulShape& s) : blas(lt), shape(s) {
    const int type = library_type(s.type), transposed = BlasLt::kTransposed;
    blas.check(blas.operation_create(&operation, BlasLt::kComputeF32, BlasLt::kF32), "describing a product");
    set(operation, blas.operation_set, BlasLt::kTransposeA, transposed);
    if (s.bias) set(operation, blas.operation_set, BlasLt::kEpilogue, BlasLt::kEpilogueBias);
    const auto layout = [&](BlasLt::Layout& at, int64_t rows, int64_t cols) {
      blas.check(blas.layout_create(&at, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(cols), rows),
                 "describing a matrix");
    };
    layout(w, s.depth, s.outs);
    layout(x, s.depth, s.rows);
    layout(out, s.outs, s.rows);
    set(x, blas.layout_set, BlasLt::kBatchStride, s.rows * s.depth);
    set(out, blas.layout_set, BlasLt::kBatchStride, s.rows * s.outs);
  }
  ~Plan() {
    for (const BlasLt::Layout layout : {w, x, out})
      if (layout != nullptr) blas.layout_destroy(layout);
    if (operation != nullptr) blas.operation_destroy(operation);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  template <typename T, typename Set, typename Value>
  void set(T object, Set set_attribute, int attribute, const Value& value) const {
    blas.check(set_attribute(object, attribute, &value, sizeof(Value)), "describing a product");
  }
  void set_bias(const void* bias) const { set(operation, blas.operation_set, BlasLt::kBiasPointer, bias); }
  void set_batch(int64_t pictures) {
    if (batch == pictures) return;
    for (const BlasLt::Layout layout : {w, x, out})
      set(layout, blas.layout_set, BlasLt::kBatchCount, static_cast<int32_t>(pictures));
    batch = pictures;
  }
  // The best algorithm for one picture, if there is one within the workspace.
  bool ask(BlasLt::Handle handle);
  // Whether the algorithm also runs that many pictures at once.
  bool batches(BlasLt::Handle handle, int64_t pictures);

  const BlasLt& blas;
  MatmulShape shape;
  BlasLt::Operation operation = nullptr;
  BlasLt::Layout w = nullptr, x = nullptr, out = nullptr;
  int64_t batch = 1;
  bool served = false;
  BlasLt::Algorithm algorithm{};
  std::map<int64_t, bool> batchable;
};

bool Matmul::Plan::ask(BlasLt::Handle handle) {
  BlasLt::Preference preference = nullptr;
  blas.check(blas.preference_create(&preference), "describing what is wanted");
  const Owned<BlasLt::Preference> owned(preference, blas.preference_destroy);
  set(preference, blas.preference_set, BlasLt::kMaxWorkspace, static_cast<size_t>(kWorkspaceBytes));
  set(preference, blas.preference_set, BlasLt::kReductionMask, BlasLt::kReduceInComputeType);
  for (const int matrix : {BlasLt::kAlignA, BlasLt::kAlignB, BlasLt::kAlignC, BlasLt::kAlignD})
    set(preference, blas.preference_set, matrix, static_cast<uint32_t>(kRowAlign));
  std::array<BlasLt::Candidate, kCandidates> found{};
  int count = 0;
  const BlasLt::Status status = blas.heuristic(handle, operation, w, x, out, out, preference, kCandidates, found.data(), &count);
  if (status == BlasLt::kNotSupported) return false;
  blas.check(status, "asking for an algorithm");
  for (const BlasLt::Candidate& candidate : std::span(found).first(static_cast<size_t>(count))) {
    if (candidate.state != 0 || candidate.workspace_bytes > static_cast<size_t>(kWorkspaceBytes)) continue;
    algorithm = candidate.algorithm;
    return true;
  }
  return false;
}

bool Matmul::Plan::batches(BlasLt::Handle handle, int64_t pictures) {
  if (pictures == 1) return true;
  const auto [found, asked] = batchable.try_emplace(pictures, false);
  if (!asked) return found->second;
  set_batch(pictures);
  BlasLt::Candidate result{};
  const BlasLt::Status status = blas.check_algorithm(handle, operation, w, x, out, out, &algorithm, &result);
  found->second = status == 0 && result.state == 0 && result.workspace_bytes <= static_cast<size_t>(kWorkspaceBytes);
  return found->second;
}

Matmul::Matmul(Gpu& gpu) : gpu_(gpu), blas_(open_blas_lt()), version_(version_text(blas_)) {
  gpu_.use();
  blas_.check(blas_.create(&handle_), "opening the library");
  workspace_ = gpu_.allocate(kWorkspaceBytes);
}

Matmul::~Matmul() {
  gpu_.release(workspace_);  // waits for the products that use it
  plans_.clear();
  blas_.destroy(handle_);
}

Matmul::Plan* Matmul::plan(const MatmulShape& shape) {
  const auto [found, is_new] = plans_.try_emplace(shape, nullptr);
  if (is_new) {
    gpu_.use();
    found->second = std::make_unique<Plan>(blas_, shape);
    found->second->served = found->second->ask(handle_);
  }
  return found->second.get();
}

bool Matmul::serves(const MatmulShape& shape) {
  return blas_may_serve(shape) && plan(shape)->served;
}

void Matmul::run(const MatmulShape& s, int64_t pictures, void* out, const void* x, const void* w, const void* bias,
                 const void* residual) {
  Plan& p = *plan(s);
  invariant(p.served && s.bias == (bias != nullptr) && s.residual == (residual != nullptr), "a product cuBLASLt does not serve");
  gpu_.use();
  if (s.bias) p.set_bias(bias);
  const int64_t together = p.batches(handle_, pictures) ? pictures : 1;
  p.set_batch(together);
  const float one = 1, beta = s.residual ? 1 : 0;
  const auto at = [&](const void* data, int64_t row, int64_t picture) {
    return static_cast<const std::byte*>(data) + picture * s.rows * row * size_of(s.type);
  };
  for (int64_t i = 0; i < pictures; i += together) {
    auto* to = const_cast<std::byte*>(at(out, s.outs, i));
    const void* add = s.residual ? at(residual, s.outs, i) : to;
    blas_.check(blas_.matmul(handle_, p.operation, &one, w, p.w, at(x, s.depth, i), p.x, &beta, add, p.out, to, p.out,
                             &p.algorithm, workspace_, static_cast<size_t>(kWorkspaceBytes), gpu_.stream()),
                "a product");
  }
}

}  // namespace cudream
