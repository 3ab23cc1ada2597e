// The verbs: choose, then launch.
#include "kernels/cuda/cuda_device.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/error.h"
#include "kernels/cuda/args.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/lattice.h"
#include "kernels/cuda/libraries.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/upload_ring.h"

namespace cudream {
namespace {

constexpr int64_t kBarriers = 1024;

const float* vector(const Weight* w) {
  return w == nullptr ? nullptr : w->data.as<float>();
}

Tokens tokens(const View& v) {
  return {v.data, v.stride[0], v.stride[1]};
}

bool aligned(const View& v) {
  return reinterpret_cast<uintptr_t>(v.data) % 16 == 0;
}

// Whether all rows of the last axis begin at multiples of 16 bytes.
bool row_vectors(const View& v) {
  bool all = aligned(v);
  for (size_t axis = 0; axis + 1 < static_cast<size_t>(v.shape.rank); axis++) all &= v.stride[axis] * size_of(v.dtype) % 16 == 0;
  return all;
}

int64_t rows_of_one(const View& x) {
  return x.shape.rows() / x.shape[0];
}

class CudaDevice final : public Device {
 public:
  CudaDevice(int ordinal, DType precision, const Providers& providers)
      : ordinal_(ordinal), gpu_(ordinal), products_(gpu_, precision), libraries_(gpu_, providers) {
    info_ = {.kind = fmt::format("cuda:{}", ordinal),
             .description = gpu_.description(),
             .compute = precision,
             .memory_bytes = gpu_.memory_bytes(),
             .multiprocessors = gpu_.card().multiprocessors};
    invariant(SliceParams::kSmall.blocks * gpu_.card().multiprocessors <= kBarriers, "more blocks at once than barriers");
    barriers_ = static_cast<unsigned*>(gpu_.allocate(kBarriers * static_cast<int64_t>(sizeof(unsigned)) + kMomentsBytes));
    constexpr std::array<unsigned, kBarriers> kOpen{};
    gpu_.upload(barriers_, std::as_bytes(std::span(kOpen)));
  }
  ~CudaDevice() override { gpu_.release(barriers_); }
  CudaDevice(const CudaDevice&) = delete;
  CudaDevice& operator=(const CudaDevice&) = delete;

  const DeviceInfo& info() const override { return info_; }
  std::unique_ptr<Device> in_float() const override { return open_cuda(ordinal_, DType::f32); }
  int64_t free_bytes() const override { return gpu_.free_bytes(); }
  void* allocate_host(int64_t bytes) override { return gpu_.allocate_host(bytes); }
  void release_host(void* at) noexcept override { gpu_.release_host(at); }
  std::string libraries_used() const override { return libraries_.used(); }
  void upload(View to, std::span<const std::byte> from) override { gpu_.upload(to.data, from); }
  void download(std::span<std::byte> to, View from) override { gpu_.download(to, from.data); }
  std::unique_ptr<Replay> record(const std::function<void()>& body) override { return gpu_.record(body); }
  bool has(Fused f) const override { return f == Fused::geglu || f == Fused::join; }

  int64_t packed_bytes(Use use, DType, const Shape& shape) const override { return shape.size() * size_of(packed_type(use)); }

  using Device::prepack;
  // Rows pass through the ring and are cast and moved into their layout by the device.
  Weight prepack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) override {
    if (ring_ == nullptr) ring_ = std::make_unique<UploadRing>(gpu_);
    Weight w{.use = use, .shape = shape, .data = View(at, packed_type(use), shape)};
    const int64_t rows = shape[0], row_bytes = shape.size() / rows * size_of(stored);
    invariant(row_bytes <= UploadRing::kSlotBytes, "a weight with rows of {} bytes", row_bytes);
    const int64_t seam = use == Use::geglu ? rows / 2 : rows;  // the halves of a geglu weight go to different places
    for (int64_t from = 0, count = 0; from < rows; from += count) {
      count = std::min(UploadRing::kSlotBytes / row_bytes, (from < seam ? seam : rows) - from);
      const int64_t start = from * row_bytes;
      const void* slot =
          ring_->send(count * row_bytes, [&](std::span<std::byte> to, int64_t offset) { raw(to, start + offset); });
      place_rows(w, stored, slot, from, count);
      ring_->used();
    }
    return w;
  }
  int64_t packing_bytes() const override { return UploadRing::kBytes; }
  void end_packing() override { ring_.reset(); }

  void linear(View out, View x, const Linear& l, const Epilogue& e) override {
    libraries_.linear(out, x, l, e, [&](const View& to) { products_.linear(to, x, l, e); });
  }
  void geglu(View out, View x, const Linear& l) override { products_.geglu(out, x, l); }
  void joined_linear(View out, View x, View x2, const Linear& l, const Epilogue& e) override {
    products_.joined_linear(out, x, x2, l, e);
  }
  void conv2d(View out, View x, const Conv& c, const ConvArgs& a) override {
    libraries_.conv2d(out, x, c, a, [&](const View& to) { products_.conv2d(to, x, c, a); });
  }

  void attention(View out, View q, View k, View v, const AttentionArgs& a) override {
    libraries_.attention(out, q, k, v, a, [&](const View& to) { own_attention(to, q, k, v, a); });
  }

  void group_norm(View out, View x, const Norm& n, const NormArgs& a) override { joined_group_norm(out, x, {}, n, a); }
  void joined_group_norm(View out, View x, View x2, const Norm& n, const NormArgs& a) override {
    NormParams p = norm_params(out, x, n, rows_of_one(x));
    p.x2 = x2.data;
    p.groups = a.groups;
    p.act = a.act;
    const bool vectors = row_vectors(x) && row_vectors(x2) && row_vectors(out) && (a.act == Act::none || a.act == Act::silu);
    const GroupNormLayer layer{x.dtype, p.pixels, p.channels, p.groups, vectors};
    if (const auto slices = choose_slices(layer, gpu_.card()))
      norm_by_slices(*slices, p, x.shape[0]);
    else
      gpu_.launch(choose_group_norm(x.dtype, a.groups, x.shape[0]), p);
  }
  void layer_norm(View out, View x, const Norm& n) override {
    const int64_t rows = x.shape.rows();
    gpu_.launch(choose_layer_norm(x.dtype, rows, x.shape.back(), row_vectors(x) && row_vectors(out)),
                norm_params(out, x, n, rows));
  }

  void act(View out, View x, Act a) override {
    ActParams p{.act = a};
    p.lattice = join_axes({out, x}, {&p.out, &p.x});
    gpu_.launch(choose_pointwise("act", out.shape.size(), neighbours(p.lattice, {&p.out, &p.x})), p);
  }
  void multiply(View out, View a, View b) override {
    MultiplyParams p{};
    p.lattice = join_axes({out, a, b}, {&p.out, &p.a, &p.b});
    gpu_.launch(choose_pointwise("multiply", out.shape.size(), neighbours(p.lattice, {&p.out, &p.a, &p.b})), p);
  }
  void lerp(View out, View a, View b, View weight) override {
    LerpParams p{};
    p.lattice = join_axes({out, a, b, weight}, {&p.out, &p.a, &p.b, &p.weight});
    gpu_.launch(choose_pointwise("lerp", out.shape.size(), neighbours(p.lattice, {&p.out, &p.a, &p.b, &p.weight})), p);
  }
  void copy(View out, View x) override {
    CopyParams p{};
    p.lattice = join_axes({out, x}, {&p.out, &p.x});
    gpu_.launch(choose_pointwise("copy", out.shape.size(), neighbours(p.lattice, {&p.out, &p.x})), p);
  }
  void combine(View out, std::span<const Term> terms) override {
    invariant(terms.size() <= CombineParams::kMaxTerms, "combine of {} terms", terms.size());
    CombineParams p{.out = out.as<float>(), .terms = static_cast<int>(terms.size()), .size = kernel_int(out.shape.size())};
    bool vectors = p.size % 4 == 0 && aligned(out);
    for (size_t i = 0; i < terms.size(); i++) {
      p.x[i] = terms[i].x.as<float>();
      p.scale[i] = terms[i].scale;
      vectors &= aligned(terms[i].x);
    }
    gpu_.launch(choose_pointwise("combine", out.shape.size(), vectors ? 4 : 1), p);
  }
  void gather(View out, const Weight& table, View ids) override {
    invariant(ids.dense() && out.dense(), "gather takes dense ids");
    const bool vectors = table.shape[1] % 4 == 0 && aligned(out) && aligned(table.data);
    gpu_.launch(choose_pointwise("gather", out.shape.size(), vectors ? 4 : 1),
                GatherParams{.out = out.as<float>(),
                             .table = table.data.data,
                             .ids = ids.as<int>(),
                             .type = table.data.dtype,
                             .rows = kernel_int(ids.shape.size()),
                             .width = kernel_int(table.shape[1]),
                             .entries = kernel_int(table.shape[0])});
  }
  void sinusoid(View out, View t, float max_period, bool flip, float shift) override {
    const int64_t half = out.shape[1] / 2;
    gpu_.launch(choose_pointwise("sinusoid", out.shape[0] * half, 1),
                SinusoidParams{.out = out.as<float>(),
                               .t = t.as<float>(),
                               .stride = t.stride[0],
                               .rate = -std::log2(static_cast<double>(max_period)) / (static_cast<double>(half) - shift),
                               .rows = kernel_int(out.shape[0]),
                               .half = kernel_int(half),
                               .flip = flip});
  }

 protected:
  void* take(int64_t bytes) override { return gpu_.allocate(bytes); }
  void give(void* slab) noexcept override { gpu_.release(slab); }

 private:
  DType packed_type(Use use) const { return use == Use::vector ? DType::f32 : info_.compute; }

  void norm_by_slices(const Slices& s, const NormParams& p, int64_t pictures) {
    const int64_t each = p.channels / p.groups;  // channels of a group
    Launch launch = s.launch;
    launch.grid.y = static_cast<unsigned>(std::min(s.at_once, pictures * s.chunks));
    gpu_.launch(launch, SliceParams{.norm = p,
                                    .moments = barriers_ + kBarriers,
                                    .barriers = barriers_,
                                    .parts = kernel_int(pictures * s.chunks),
                                    .slice = kernel_int(s.pixels),
                                    .chunks = kernel_int(s.chunks),
                                    .chunk = kernel_int(s.chunk),
                                    .groups = kernel_int(s.chunk / each),
                                    .each = kernel_int(each),
                                    .rows = kernel_int(s.rows),
                                    .runs = kernel_int(s.runs),
                                    .held = kernel_int(s.held)});
  }

  void own_attention(const View& out, const View& q, const View& k, const View& v, const AttentionArgs& a) {
    const int64_t size = q.shape[2] / a.heads;
    const AttentionLayer layer{q.dtype,  q.shape[1],
                               a.heads,  size,
                               a.causal, row_vectors(q) && row_vectors(k) && row_vectors(v) && k.stride[1] == v.stride[1]};
    gpu_.launch(choose_attention(layer, q.shape[0]), AttentionParams{.q = tokens(q),
                                                                     .k = tokens(k),
                                                                     .v = tokens(v),
                                                                     .out = out.data,
                                                                     .key_lengths = a.key_lengths.as<const int>(),
                                                                     .length = kernel_int(q.shape[1]),
                                                                     .keys = kernel_int(k.shape[1]),
                                                                     .heads = a.heads,
                                                                     .size = kernel_int(size),
                                                                     .log2_scale = a.scale * 1.44269504088896341f,
                                                                     .causal = a.causal});
  }

  // Copies `count` stored rows, which lie at `slot`, to their places in `w` as type and layout of it.
  void place_rows(const Weight& w, DType stored, const void* slot, int64_t from, int64_t count) {
    const int64_t taps = w.use == Use::conv ? w.shape[2] * w.shape[3] : 1;
    const int64_t row = w.shape.size() / w.shape[0], inputs = row / taps, half = w.shape[0] / 2;
    const Shape shape{count, taps, inputs};
    // Filters lie [outs,inputs,taps] in a file and [outs,taps,inputs] here; geglu's rows alternate between its halves.
    View x(const_cast<void*>(slot), stored, shape), out(w.data.data, w.data.dtype, shape);
    x.stride = {row, 1, taps};
    int64_t first = from;
    if (w.use == Use::geglu) {
      out.stride[0] = 2 * row;
      first = from < half ? 2 * from : 2 * (from - half) + 1;
    }
    out.data = static_cast<std::byte*>(out.data) + first * row * size_of(out.dtype);
    copy(out, x);
  }

  static NormParams norm_params(const View& out, const View& x, const Norm& n, int64_t rows) {
    return {.x = x.data,
            .x2 = nullptr,
            .out = out.data,
            .gain = vector(n.g),
            .bias = vector(n.b),
            .pixels = kernel_int(rows),
            .channels = kernel_int(out.shape.back()),
            .own_channels = kernel_int(x.shape.back()),
            .groups = 1,
            .eps = n.eps,
            .act = Act::none};
  }

  const int ordinal_;
  Gpu gpu_;
  Products products_;
  Libraries libraries_;
  DeviceInfo info_;
  unsigned* barriers_ = nullptr;      // of GroupNorms; behind them what their slices have of each group
  std::unique_ptr<UploadRing> ring_;  // while weights are packed
};

}  // namespace

std::unique_ptr<Device> open_cuda(int ordinal, std::optional<DType> precision, const Providers& providers) {
  const DType type = precision.value_or(DType::f16);
  if (type != DType::f16 && type != DType::bf16 && type != DType::f32)
    throw fail(Code::usage, "--precision {}: a CUDA device computes in f16, bf16 or f32", name_of(type));
  return std::make_unique<CudaDevice>(ordinal, type, providers);
}

std::string cublaslt_version() {
  return version_text(open_blas_lt());
}
std::string cudnn_version() {
  return version_text(open_dnn());
}

}  // namespace cudream
