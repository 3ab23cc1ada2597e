// The verbs: each cut into jobs for the team. A job's bytes depend on one row of axis 0 alone.
#include "kernels/cpu/cpu_device.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/products.h"
#include "kernels/cpu/team.h"

namespace cudream {
namespace {

constexpr int64_t kRun = 16384;     // elements of a job of a pointwise verb
constexpr int64_t kNormParts = 16;  // of a picture, in GroupNorm's sums: fixed, since it decides the order of summation

std::byte* at(const View& v, int64_t element) {
  return static_cast<std::byte*>(v.data) + element * size_of(v.dtype);
}
In in(const View& v, int64_t element = 0) {
  return {at(v, element), v.dtype};
}
Out out_of(const View& v, int64_t element = 0) {
  return {at(v, element), v.dtype};
}
const float* floats(const Weight* w) {
  return w->data.as<float>();
}

// Where row i of the view's rows (all axes but the last) begins.
int64_t row_start(const View& v, int64_t i) {
  int64_t element = 0;
  for (int axis = v.shape.rank - 1; axis-- > 0;) {
    element += i % v.shape[axis] * v.stride[static_cast<size_t>(axis)];
    i /= v.shape[axis];
  }
  return element;
}

class CpuDevice final : public Device {
 public:
  CpuDevice(const Isa& isa, DType compute, int threads) : isa_(isa), kernels_(*isa.kernels), team_(threads) {
    products_ = compute == DType::bf16 && kernels_.tiles != nullptr ? make_tile_products(kernels_, team_)
                                                                    : make_block_products(compute, kernels_, team_);
    const int64_t bytes = static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE);
    info_ = {.kind = "cpu",
             .description = fmt::format("{}, {}, {} thread{}", processor_name(), isa.name, threads, threads == 1 ? "" : "s"),
             .compute = compute,
             .memory_bytes = bytes};
  }

  const DeviceInfo& info() const override { return info_; }
  std::unique_ptr<Device> in_float() const override { return open_cpu(DType::f32, team_.threads(), isa_); }
  void upload(View to, std::span<const std::byte> from) override { std::memcpy(to.data, from.data(), from.size()); }
  void download(std::span<std::byte> to, View from) override { std::memcpy(to.data(), from.data, to.size()); }

  int64_t packed_bytes(Use use, DType stored, const Shape& shape) const override;
  using Device::prepack;
  Weight prepack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) override;

  void linear(View out, View x, const Linear& l, const Epilogue& e) override { products_->linear(out, x, l, e); }
  void conv2d(View out, View x, const Conv& c, const ConvArgs& args) override { products_->conv2d(out, x, c, args); }
  bool has(Fused f) const override { return f == Fused::geglu; }
  void geglu(View out, View x, const Linear& l) override { products_->geglu(out, x, l); }
  void attention(View out, View q, View k, View v, const AttentionArgs& args) override;
  void group_norm(View out, View x, const Norm& n, const NormArgs& args) override;
  void layer_norm(View out, View x, const Norm& n) override;
  void act(View out, View x, Act a) override;
  void multiply(View out, View a, View b) override;
  void combine(View out, std::span<const Term> terms) override;
  void lerp(View out, View a, View b, View weight) override;
  void copy(View out, View x) override;
  void gather(View out, const Weight& table, View ids) override;
  void sinusoid(View out, View t, float max_period, bool flip, float shift) override;

 protected:
  void* take(int64_t bytes) override { return memory_.take(bytes); }
  void give(void* slab) noexcept override { memory_.give(slab); }

 private:
  // Calls body(row) for every row of `shape` (all axes but the last), many rows a job.
  template <typename Body>
  void for_rows(const Shape& shape, const Body& body) {
    const int64_t rows = shape.rows(), each = std::max<int64_t>(1, kRun / std::max<int64_t>(1, shape.back()));
    team_.run(ceil_div(rows, each), [&](int64_t job, int) {
      for (int64_t row = job * each; row < std::min(rows, (job + 1) * each); row++) body(row);
    });
  }
  // Calls body(from, count) over a dense array.
  template <typename Body>
  void for_runs(int64_t elements, const Body& body) {
    team_.run(ceil_div(elements, kRun), [&](int64_t job, int) { body(job * kRun, std::min(kRun, elements - job * kRun)); });
  }

  const Isa isa_;
  const Kernels& kernels_;
  DeviceInfo info_;
  PagePool memory_;
  Team team_;
  std::unique_ptr<Products> products_;
};

int64_t CpuDevice::packed_bytes(Use use, DType stored, const Shape& shape) const {
  if (use != Use::vector && use != Use::table) return products_->packed_bytes(use, shape);
  return shape.size() * size_of(use == Use::vector ? DType::f32 : stored);
}

Weight CpuDevice::prepack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) {
  if (use != Use::vector && use != Use::table) return products_->pack(use, stored, shape, raw, at);
  // Vectors are float on every device. Tables stay as stored: gather reads few rows of them.
  const DType type = use == Use::vector ? DType::f32 : stored;
  Weight w{.use = use, .shape = shape, .data = View(at, type, shape)};
  if (type == stored) {
    raw({w.data.as<std::byte>(), static_cast<size_t>(w.data.bytes())}, 0);
  } else {
    std::vector<std::byte> bytes(static_cast<size_t>(shape.size() * size_of(stored)));
    raw(bytes, 0);
    kernels_.convert(out_of(w.data), {bytes.data(), stored}, shape.size());
  }
  return w;
}

void CpuDevice::attention(View out, View q, View k, View v, const AttentionArgs& args) {
  const AttentionKernels& kernel = q.dtype == DType::bf16 ? *kernels_.attention_bf16 : *kernels_.attention_f32;
  const int64_t pictures = q.shape[0], rows = q.shape[1], keys = k.shape[1], heads = args.heads, size = q.shape[2] / heads;
  const auto count = [&](int64_t n) { return args.key_lengths ? args.key_lengths.as<int32_t>()[n] : keys; };
  const auto padded = [](int64_t bytes) { return ceil_div(bytes, 256) * 256; };
  const int64_t key_bytes = padded(kernel.keys_bytes(keys, size)), value_bytes = padded(kernel.values_bytes(keys, size));
  std::byte* packed = team_.shared_scratch(pictures * heads * (key_bytes + value_bytes));
  const auto place = [&](int64_t i) { return packed + i * (key_bytes + value_bytes); };
  const auto head = [&](const View& view, int64_t i) { return at(view, i / heads * view.stride[0] + i % heads * size); };

  team_.run(pictures * heads, [&](int64_t i, int) {
    kernel.pack(place(i), place(i) + key_bytes, head(k, i), k.stride[1], head(v, i), v.stride[1], count(i / heads), size);
  });
  const int64_t each = kernel.row_step * std::max<int64_t>(1, 192 / kernel.row_step), parts = ceil_div(rows, each);
  team_.run(pictures * heads * parts, [&](int64_t job, int thread) {
    const int64_t i = job / parts, first = job % parts * each;
    AttentionRows a{.q_stride = q.stride[1], .out_stride = out.stride[1], .keys = place(i), .values = place(i) + key_bytes};
    a.q = head(q, i) + first * q.stride[1] * size_of(q.dtype);
    a.out = head(out, i) + first * out.stride[1] * size_of(out.dtype);
    a.first = first;
    a.rows = std::min(each, rows - first);
    a.count = count(i / heads);
    a.size = size;
    a.scale = args.scale;
    a.causal = args.causal;
    a.scratch = team_.scratch(thread, kernel.scratch_bytes(size));
    kernel.rows(a);
  });
}

// Sums are taken about a pivot, the picture's first pixel, so that nearly constant channels lose no digits; the parts and
// the channels of a group are joined in double.
void CpuDevice::group_norm(View out, View x, const Norm& n, const NormArgs& args) {
  const int64_t pictures = x.shape[0], channels = x.shape.back(), pixels = x.shape.size() / pictures / channels;
  const int64_t each = ceil_div(pixels, kNormParts), parts = ceil_div(pixels, each), group = channels / args.groups;
  const int64_t doubles = pictures * parts * 2 * channels, singles = pictures * 4 * channels;
  auto* sums = reinterpret_cast<double*>(team_.shared_scratch(doubles * 8 + singles * 4));
  auto* pivots = reinterpret_cast<float*>(sums + doubles);
  float *middles = pivots + pictures * channels, *scales = middles + pictures * channels, *shifts = scales + pictures * channels;
  const auto pixel = [&](int64_t picture, int64_t i) { return (picture * pixels + i) * channels; };

  std::fill_n(sums, doubles, 0.0);
  for (int64_t p = 0; p < pictures; p++) kernels_.convert({pivots + p * channels, DType::f32}, in(x, pixel(p, 0)), channels);
  team_.run(pictures * parts, [&](int64_t job, int) {
    const int64_t p = job / parts, first = job % parts * each;
    double* sum = sums + job * 2 * channels;
    kernels_.channel_sums(sum, sum + channels, in(x, pixel(p, first)), pivots + p * channels, std::min(each, pixels - first),
                          channels);
  });
  for (int64_t p = 0; p < pictures; p++) {
    for (int64_t part = 1; part < parts; part++)
      for (int64_t i = 0; i < 2 * channels; i++)
        sums[p * parts * 2 * channels + i] += sums[(p * parts + part) * 2 * channels + i];
    const double *sum = sums + p * parts * 2 * channels, *square = sum + channels;
    const float* pivot = pivots + p * channels;
    const auto count = static_cast<double>(pixels);
    for (int64_t g = 0; g < args.groups; g++) {
      double mean = 0, variance = 0;
      for (int64_t c = g * group; c < (g + 1) * group; c++) mean += static_cast<double>(pivot[c]) + sum[c] / count;
      mean /= static_cast<double>(group);
      for (int64_t c = g * group; c < (g + 1) * group; c++) {
        const double d = static_cast<double>(pivot[c]) + sum[c] / count - mean;  // of the channel's mean
        variance += square[c] / count - sum[c] / count * (sum[c] / count) + d * d;
      }
      const double scale = 1 / std::sqrt(variance / static_cast<double>(group) + static_cast<double>(n.eps));
      for (int64_t c = g * group; c < (g + 1) * group; c++) {
        const double gain = scale * static_cast<double>(floats(n.g)[c]);
        const auto middle = static_cast<float>(mean);
        middles[p * channels + c] = middle;
        scales[p * channels + c] = static_cast<float>(gain);
        shifts[p * channels + c] =
            static_cast<float>(static_cast<double>(floats(n.b)[c]) - (mean - static_cast<double>(middle)) * gain);
      }
    }
  }
  const int64_t run = std::max<int64_t>(1, kRun / channels), runs = ceil_div(pixels, run);
  team_.run(pictures * runs, [&](int64_t job, int) {
    const int64_t p = job / runs, first = job % runs * run;
    kernels_.normalize(out_of(out, pixel(p, first)), in(x, pixel(p, first)), middles + p * channels, scales + p * channels,
                       shifts + p * channels, std::min(run, pixels - first), channels, args.act);
  });
}

void CpuDevice::layer_norm(View out, View x, const Norm& n) {
  const int64_t channels = x.shape.back();
  for_rows(x.shape, [&](int64_t row) {
    kernels_.layer_norm(out_of(out, row * channels), in(x, row * channels), floats(n.g), floats(n.b), n.eps, channels);
  });
}

void CpuDevice::act(View out, View x, Act a) {
  for_rows(x.shape,
           [&](int64_t row) { kernels_.act(out_of(out, row_start(out, row)), in(x, row_start(x, row)), x.shape.back(), a); });
}

void CpuDevice::multiply(View out, View a, View b) {
  for_rows(a.shape, [&](int64_t row) {
    kernels_.multiply(out_of(out, row_start(out, row)), in(a, row_start(a, row)), in(b, row_start(b, row)), a.shape.back());
  });
}

void CpuDevice::combine(View out, std::span<const Term> terms) {
  const int64_t elements = out.shape.size();
  for_runs(elements, [&](int64_t from, int64_t count) {
    const float* x[8];
    float scale[8];
    for (size_t t = 0; t < terms.size(); t++) {
      x[t] = terms[t].x.as<float>() + from;
      scale[t] = terms[t].scale;
    }
    kernels_.combine(out.as<float>() + from, x, scale, static_cast<int>(terms.size()), count);
  });
}

void CpuDevice::lerp(View out, View a, View b, View weight) {
  for_runs(out.shape.size(), [&](int64_t from, int64_t count) {
    kernels_.lerp(out.as<float>() + from, a.as<float>() + from, b.as<float>() + from, weight.as<float>() + from, count);
  });
}

void CpuDevice::copy(View out, View x) {
  const auto size = static_cast<size_t>(size_of(x.dtype));
  for_rows(x.shape, [&](int64_t row) {
    std::byte *to = at(out, row_start(out, row)), *from = at(x, row_start(x, row));
    if (out.dtype == x.dtype) {
      std::memcpy(to, from, static_cast<size_t>(x.shape.back()) * size);
    } else {
      kernels_.convert({to, out.dtype}, {from, x.dtype}, x.shape.back());
    }
  });
}

void CpuDevice::gather(View out, const Weight& table, View ids) {
  const int64_t width = table.shape[1];
  for (int64_t i = 0; i < ids.shape.size(); i++) {
    const int32_t id = ids.as<int32_t>()[i];
    invariant(id >= 0 && id < table.shape[0], "gather of row {} of {}", id, table.shape[0]);
    kernels_.convert(out_of(out, i * width), in(table.data, id * width), width);
  }
}

void CpuDevice::sinusoid(View out, View t, float max_period, bool flip, float shift) {
  const int64_t half = out.shape[1] / 2;
  for (int64_t n = 0; n < out.shape[0]; n++) {
    float* row = out.as<float>() + n * 2 * half;
    for (int64_t i = 0; i < half; i++) {
      // The frequency is rounded to float before the product, as the training code did.
      const auto frequency = static_cast<float>(
          std::exp(-std::log(static_cast<double>(max_period)) * static_cast<double>(i) / (static_cast<double>(half) - shift)));
      const auto angle = static_cast<double>(t.as<float>()[n * t.stride[0]] * frequency);
      row[(flip ? half : 0) + i] = static_cast<float>(std::sin(angle));
      row[(flip ? 0 : half) + i] = static_cast<float>(std::cos(angle));
    }
  }
}

int processors_of_this_process() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
}

}  // namespace

std::unique_ptr<Device> open_cpu(std::optional<DType> precision, int threads) {
  const std::vector<Isa> isas = supported_isas();
  if (isas.empty())
    throw fail(Code::unsupported, "this processor ({}) has no AVX2, which the cpu device needs; use --device reference",
               processor_name());
  return open_cpu(precision, threads, isas.front());
}

std::unique_ptr<Device> open_cpu(std::optional<DType> precision, int threads, const Isa& isa) {
  const DType compute = precision.value_or(isa.bf16 ? DType::bf16 : DType::f32);
  if (compute != DType::f32 && compute != DType::bf16)
    throw fail(Code::usage, "the cpu device computes in f32 or bf16, not in {}", name_of(compute));
  if (compute == DType::bf16 && !isa.bf16)
    throw fail(Code::unsupported, "this processor ({}, {}) does not multiply bf16; use --precision f32", processor_name(),
               isa.name);
  return std::make_unique<CpuDevice>(isa, compute, threads > 0 ? threads : processors_of_this_process());
}

}  // namespace cudream
