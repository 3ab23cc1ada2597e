// libcublasLt for the virtual GPU: the functions that products need, by their documentation. What the library refuses is
// refused with the same status, and what this double does not make with CUBLAS_STATUS_NOT_SUPPORTED; standard error says why.
//
// Work is queued on the stream like a kernel, so captures, deferral and injected launch failures apply to it.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <vector>

#include "tests/vgpu/blaslt/product.h"
#include "tests/vgpu/driver/driver.h"

using namespace cudream::vgpu;
using namespace cudream::vgpu::blaslt;

struct cublasLtContext {
  bool alive = true;
};

namespace {

constexpr size_t kVersion = 130100;

template <typename T>
class Handles {
 public:
  T* make(T value) { return owned_.emplace_back(std::make_unique<T>(std::move(value))).get(); }
  T* find(const void* handle) const {
    const auto found = std::find_if(owned_.begin(), owned_.end(), [&](const auto& o) { return o.get() == handle; });
    return found == owned_.end() ? nullptr : found->get();
  }
  cublasStatus_t destroy(const void* handle) {
    return std::erase_if(owned_, [&](const auto& o) { return o.get() == handle; }) > 0 ? CUBLAS_STATUS_SUCCESS
                                                                                       : CUBLAS_STATUS_INVALID_VALUE;
  }

 private:
  std::vector<std::unique_ptr<T>> owned_;
};

struct State {
  Handles<cublasLtContext> contexts;
  Handles<Operation> operations;
  Handles<Layout> layouts;
  Handles<Preference> preferences;
};

State& state() {
  static State s;
  return s;
}

// A part of a descriptor by attribute: its place and size; null for an attribute that is not known.
struct Field {
  void* at;
  size_t bytes;
};
template <typename T>
Field field(T& at) {
  return {&at, sizeof(T)};
}

Field find_field(Layout& l, int attribute) {
  switch (attribute) {
    case CUBLASLT_MATRIX_LAYOUT_TYPE: return field(l.type);
    case CUBLASLT_MATRIX_LAYOUT_ORDER: return field(l.order);
    case CUBLASLT_MATRIX_LAYOUT_ROWS: return field(l.rows);
    case CUBLASLT_MATRIX_LAYOUT_COLS: return field(l.cols);
    case CUBLASLT_MATRIX_LAYOUT_LD: return field(l.ld);
    case CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT: return field(l.batch);
    case CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET: return field(l.stride);
    default: return {};
  }
}
Field find_field(Operation& o, int attribute) {
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA: return field(o.transpose_a);
    case CUBLASLT_MATMUL_DESC_TRANSB: return field(o.transpose_b);
    case CUBLASLT_MATMUL_DESC_EPILOGUE: return field(o.epilogue);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER: return field(o.bias);
    case CUBLASLT_MATMUL_DESC_BIAS_BATCH_STRIDE: return field(o.bias_stride);
    default: return {};
  }
}
Field find_field(Preference& p, int attribute) {
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: return field(p.workspace);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK: return field(p.reductions);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES: return field(p.align[0]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES: return field(p.align[1]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES: return field(p.align[2]);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES: return field(p.align[3]);
    default: return {};
  }
}

template <typename T>
cublasStatus_t set(const Handles<T>& handles, const void* handle, int attribute, const void* value, size_t bytes) {
  T* object = handles.find(handle);
  if (object == nullptr || value == nullptr) return refuse(CUBLAS_STATUS_INVALID_VALUE, "no such descriptor, or no value");
  const Field f = find_field(*object, attribute);
  if (f.at == nullptr) return refuse(CUBLAS_STATUS_INVALID_VALUE, fmt::format("attribute {} is not known", attribute).c_str());
  if (f.bytes != bytes)
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  fmt::format("attribute {} has {} bytes, not {}", attribute, f.bytes, bytes).c_str());
  std::memcpy(f.at, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

// The descriptors of one call, all of which must be there.
struct Described {
  const Operation* op;
  const Layout *a, *b, *c, *d;
  Described(cublasLtMatmulDesc_t o, cublasLtMatrixLayout_t la, cublasLtMatrixLayout_t lb, cublasLtMatrixLayout_t lc,
            cublasLtMatrixLayout_t ld)
      : op(state().operations.find(o)),
        a(state().layouts.find(la)),
        b(state().layouts.find(lb)),
        c(state().layouts.find(lc)),
        d(state().layouts.find(ld)) {}
  bool complete() const { return op != nullptr && a != nullptr && b != nullptr && c != nullptr && d != nullptr; }
  Problem problem() const { return {*op, *a, *b, *c, *d}; }
};

// What the heuristic likes depends on the whole problem, batch included: that is what a caller must not let decide.
std::vector<Algorithm> candidates(const Problem& p, const Preference& preference) {
  const uint64_t promised = *std::min_element(std::begin(preference.align), std::end(preference.align));
  if (std::min(promised, p.alignment()) < 16) return {{.align = static_cast<uint64_t>(p.d.element())}};
  const auto tiles = (p.m() + 63) / 64 * ((p.n() + 63) / 64) * static_cast<uint64_t>(p.d.batch);
  const bool may_split = (preference.reductions & CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE) != 0 && p.k() >= 32;
  std::vector<Algorithm> found;
  if (may_split && tiles < 64) found.push_back({.order = tiles % 2, .splits = tiles < 4 ? 4u : tiles < 16 ? 3u : 2u});
  found.push_back({.order = tiles % 2});
  std::erase_if(found, [&](const Algorithm& a) { return p.workspace(a) > preference.workspace; });
  return found;
}

cublasStatus_t check_algorithm(const Problem& p, const Algorithm& algorithm) {
  if (algorithm.magic != Algorithm::kMagic) return refuse(CUBLAS_STATUS_INVALID_VALUE, "an algorithm that nobody initialized");
  if (const cublasStatus_t status = p.check(); status != CUBLAS_STATUS_SUCCESS) return status;
  if (p.alignment() < algorithm.align)
    return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "leading dimensions or strides below the algorithm's alignment");
  return CUBLAS_STATUS_SUCCESS;
}

void report(const Driver& driver, const Context& context, const Queued& q) {
  if (driver.options.report.empty()) return;
  std::FILE* file = std::fopen(driver.options.report.c_str(), "a");
  if (file == nullptr) return;
  const Problem p = q.problem();
  fmt::print(file,
             "{{\"kernel\":\"cublasLtMatmul\",\"device\":\"{}\",\"m\":{},\"n\":{},\"k\":{},\"batch\":{},\"order\":{},"
             "\"splits\":{}}}\n",
             context.model->key, p.m(), p.n(), p.k(), q.d.batch, q.algorithm.order, q.algorithm.splits);
  std::fclose(file);
}

void launch(Driver& driver, Context& context, const Queued& q) {
  std::string why;
  if (++driver.launches == driver.options.fail_launch)
    why = "fails as CUDREAM_VGPU_FAIL_LAUNCH asks";
  else
    why = run(q, driver.memory, context.ordinal);
  if (why.empty()) return report(driver, context, q);
  fmt::print(stderr, "virtual GPU: cublasLtMatmul: {}\n", why);
  context.failed = CUDA_ERROR_LAUNCH_FAILED;
}

uint64_t address(const void* at) {
  return reinterpret_cast<uint64_t>(at);
}

}  // namespace

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (handle == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const CUresult in_context = call_in_context([](Driver&, Context&) { return CUDA_SUCCESS; });
  if (in_context != CUDA_SUCCESS) return refuse(CUBLAS_STATUS_NOT_INITIALIZED, "no context is current");
  *handle = state().contexts.make({});
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  return state().contexts.destroy(handle);
}
size_t cublasLtGetVersion() {
  return kVersion;
}
const char* cublasLtGetStatusString(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
    case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed to the function";
    case CUBLAS_STATUS_NOT_SUPPORTED: return "the functionality requested is not supported";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "the GPU program failed to execute";
    default: return "another error";
  }
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* at, cublasComputeType_t compute, cudaDataType_t scale) {
  *at = reinterpret_cast<cublasLtMatmulDesc_t>(state().operations.make({.compute = compute, .scale = scale}));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t handle) {
  return state().operations.destroy(handle);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t handle, cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return set(state().operations, handle, attribute, value, bytes);
}
cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* at, cudaDataType type, uint64_t rows, uint64_t cols,
                                          int64_t ld) {
  *at = reinterpret_cast<cublasLtMatrixLayout_t>(state().layouts.make({.type = type, .rows = rows, .cols = cols, .ld = ld}));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t handle) {
  return state().layouts.destroy(handle);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t handle, cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  return set(state().layouts, handle, attribute, value, bytes);
}
cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* at) {
  *at = reinterpret_cast<cublasLtMatmulPreference_t>(state().preferences.make({}));
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t handle) {
  return state().preferences.destroy(handle);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t handle,
                                                    cublasLtMatmulPreferenceAttributes_t attribute, const void* value,
                                                    size_t bytes) {
  return set(state().preferences, handle, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
                                              cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference_handle, int wanted,
                                              cublasLtMatmulHeuristicResult_t results[], int* count) {
  if (state().contexts.find(handle) == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Described described(op, a, b, c, d);
  const Preference* preference = state().preferences.find(preference_handle);
  if (!described.complete() || preference == nullptr || results == nullptr || count == nullptr || wanted <= 0)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "a descriptor is missing, or no result is wanted");
  const Problem p = described.problem();
  *count = 0;
  if (const cublasStatus_t status = p.check(); status != CUBLAS_STATUS_SUCCESS) return status;
  for (const Algorithm& algorithm : candidates(p, *preference)) {
    if (*count == wanted) break;
    cublasLtMatmulHeuristicResult_t& r = results[(*count)++];
    r = {.algo = std::bit_cast<cublasLtMatmulAlgo_t>(algorithm),
         .workspaceSize = p.workspace(algorithm),
         .state = CUBLAS_STATUS_SUCCESS,
         .wavesCount = 1};
  }
  return *count > 0 ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_NOT_SUPPORTED;
}

cublasStatus_t cublasLtMatmulAlgoCheck(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
                                       cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                       const cublasLtMatmulAlgo_t* algo, cublasLtMatmulHeuristicResult_t* result) {
  if (state().contexts.find(handle) == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Described described(op, a, b, c, d);
  if (!described.complete() || algo == nullptr || result == nullptr)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "a descriptor is missing");
  const auto algorithm = std::bit_cast<Algorithm>(*algo);
  const cublasStatus_t status = check_algorithm(described.problem(), algorithm);
  result->state = status;
  if (status == CUBLAS_STATUS_SUCCESS) result->workspaceSize = described.problem().workspace(algorithm);
  return status;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op, const void* alpha, const void* a,
                              cublasLtMatrixLayout_t a_layout, const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algo, void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  if (state().contexts.find(handle) == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  const Described described(op, a_layout, b_layout, c_layout, d_layout);
  if (!described.complete() || alpha == nullptr || beta == nullptr || a == nullptr || b == nullptr || d == nullptr)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "a descriptor or a pointer is missing");
  if (algo == nullptr) return refuse(CUBLAS_STATUS_NOT_SUPPORTED, "an algorithm must be given here");
  const Problem p = described.problem();
  const auto algorithm = std::bit_cast<Algorithm>(*algo);
  if (const cublasStatus_t status = check_algorithm(p, algorithm); status != CUBLAS_STATUS_SUCCESS) return status;
  Queued q{p.op, p.a, p.b, p.c, p.d, algorithm, 0, 0, address(a), address(b), address(c), address(d), address(workspace)};
  std::memcpy(&q.alpha, alpha, sizeof(float));
  std::memcpy(&q.beta, beta, sizeof(float));
  if (q.beta != 0 && c == nullptr) return refuse(CUBLAS_STATUS_INVALID_VALUE, "beta without C");
  if (c == d && (p.c.ld != p.d.ld || p.c.stride != p.d.stride))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "C is D in another layout");
  if (p.has_bias() && p.op.bias == nullptr) return refuse(CUBLAS_STATUS_INVALID_VALUE, "a bias epilogue without a bias");
  const uint64_t need = p.workspace(algorithm);
  if (need > workspace_bytes || (need > 0 && workspace == nullptr))
    return refuse(CUBLAS_STATUS_INVALID_VALUE, "the workspace is smaller than the algorithm's");
  const CUresult queued = call_in_context([&](Driver& driver, Context& context) {
    Stream* at = find_stream(context, stream);
    if (at == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    return enqueue(*at, [&driver, &context, q] { launch(driver, context, q); });
  });
  return queued == CUDA_SUCCESS ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}
