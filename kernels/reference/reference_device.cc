// Every verb as its definition reads, in float with sums in double. Slow on purpose: nothing here is clever.
#include "kernels/reference/reference_device.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#include "core/error.h"
#include "core/half.h"

namespace cudream {
namespace {

// Copied out, never cast: stored weights may lie on any address.
template <typename T>
T element_of(const View& v, int64_t element) {
  T value;
  std::memcpy(&value, v.as<std::byte>() + element * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

float load(const View& v, int64_t element) {
  switch (v.dtype) {
    case DType::f32: return element_of<float>(v, element);
    case DType::f16: return static_cast<float>(element_of<f16>(v, element));
    case DType::bf16: return static_cast<float>(element_of<bf16>(v, element));
    case DType::f8e4m3: return f8e4m3_to_float(v.as<uint8_t>()[element]);
    case DType::f8e5m2: return f8e5m2_to_float(v.as<uint8_t>()[element]);
    case DType::i32: return static_cast<float>(element_of<int32_t>(v, element));
    case DType::u8: return static_cast<float>(v.as<uint8_t>()[element]);
  }
  return 0;
}

void store(const View& v, int64_t element, float value) {
  switch (v.dtype) {
    case DType::f32: v.as<float>()[element] = value; return;
    case DType::f16: v.as<f16>()[element] = f16(value); return;
    case DType::bf16: v.as<bf16>()[element] = bf16(value); return;
    case DType::i32: v.as<int32_t>()[element] = static_cast<int32_t>(value); return;
    default: throw fail(Code::internal, "store to {}", name_of(v.dtype));
  }
}

// Where the i-th element in row-major order lies.
int64_t place(const View& v, int64_t i) {
  int64_t at = 0;
  for (int axis = v.shape.rank; axis-- > 0;) {
    at += i % v.shape[axis] * v.stride[static_cast<size_t>(axis)];
    i /= v.shape[axis];
  }
  return at;
}

float get(const View& v, int64_t i) {
  return load(v, place(v, i));
}
void set(const View& v, int64_t i, float value) {
  store(v, place(v, i), value);
}

double activate(double x, Act a) {
  switch (a) {
    case Act::none: return x;
    case Act::silu: return x / (1 + std::exp(-x));
    case Act::gelu: return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Act::quick_gelu: return x / (1 + std::exp(-1.702 * x));
    case Act::relu: return x < 0 ? 0 : x;  // NaN stays NaN
    case Act::tanh: return std::tanh(x);
  }
  return x;
}

float value_of(const Weight* w, int64_t i) {
  return w == nullptr ? 0.f : load(w->data, i);
}

// y = residual + gate * act(y + add), for channel c of row n at element i of out.
float finish(double y, const Epilogue& e, const View& out, int64_t i) {
  const int64_t c = i % out.shape.back(), n = i / (out.shape.size() / out.shape[0]);
  const auto per_channel = [&](const View& v) { return get(v, (v.shape[0] == 1 ? 0 : n) * v.shape[1] + c); };
  if (e.add) y += per_channel(e.add);
  y = activate(y, e.act);
  if (e.gate) y *= per_channel(e.gate);
  if (e.residual) y += get(e.residual, i);
  return static_cast<float>(y);
}

// x with the channels of x2 behind its own, in `values`.
View joined(const View& x, const View& x2, std::vector<float>& values) {
  const int64_t rows = x.shape.rows(), own = x.shape.back(), more = x2.shape.back();
  for (int64_t row = 0; row < rows; row++) {
    for (int64_t c = 0; c < own; c++) values.push_back(get(x, row * own + c));
    for (int64_t c = 0; c < more; c++) values.push_back(get(x2, row * more + c));
  }
  return View(values.data(), DType::f32, x.shape.with(x.shape.rank - 1, own + more));
}

class ReferenceDevice final : public Device {
 public:
  ReferenceDevice() {
    info_ = {.kind = "reference", .description = "plain float, one thread, the oracle of the tests", .compute = DType::f32};
  }
  const DeviceInfo& info() const override { return info_; }

  void* take(int64_t bytes) override {
    void* at = ::operator new (static_cast<size_t>(bytes), std::align_val_t{kAlign}, std::nothrow);
    if (at == nullptr) throw fail(Code::out_of_memory, "no memory for {} bytes", bytes);
    return at;
  }
  void give(void* slab) noexcept override { ::operator delete (slab, std::align_val_t{kAlign}); }
  void upload(View to, std::span<const std::byte> from) override { std::memcpy(to.data, from.data(), from.size()); }
  void download(std::span<std::byte> to, View from) override { std::memcpy(to.data(), from.data, to.size()); }

  int64_t packed_bytes(Use, DType, const Shape& shape) const override { return shape.size() * 4; }
  using Device::prepack;
  Weight prepack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) override {
    std::vector<std::byte> bytes(static_cast<size_t>(shape.size() * size_of(stored)));
    raw(bytes, 0);
    const View from(bytes.data(), stored, shape);
    Weight w{.use = use, .shape = shape, .data = View(at, DType::f32, shape)};
    for (int64_t i = 0; i < shape.size(); i++) store(w.data, i, load(from, i));
    return w;
  }

  void linear(View out, View x, const Linear& l, const Epilogue& e) override {
    const int64_t in = l.w->shape[1], outs = l.w->shape[0];
    for (int64_t i = 0; i < out.shape.size(); i++) {
      const int64_t row = i / outs, o = i % outs;
      const float *row_x = x.as<float>() + row * in, *row_w = l.w->data.as<float>() + o * in;
      double sum = value_of(l.b, o);
      for (int64_t c = 0; c < in; c++) sum += static_cast<double>(row_x[c]) * row_w[c];
      set(out, i, finish(sum, e, out, i));
    }
  }

  void conv2d(View out, View x, const Conv& c, const ConvArgs& a) override {
    const int64_t ins = x.shape[3], kernel = c.w->shape[2], outs = out.shape[3];
    const int64_t h = a.up_height > 0 ? a.up_height : x.shape[1], w = a.up_width > 0 ? a.up_width : x.shape[2];
    for (int64_t i = 0; i < out.shape.size(); i++) {
      const int64_t o = i % outs, ox = i / outs % out.shape[2], oy = i / outs / out.shape[2] % out.shape[1],
                    n = i / outs / out.shape[2] / out.shape[1];
      double sum = value_of(c.b, o);
      for (int64_t ky = 0; ky < kernel; ky++)
        for (int64_t kx = 0; kx < kernel; kx++) {
          const int64_t y = oy * a.stride + ky - a.pad_left_top, xx = ox * a.stride + kx - a.pad_left_top;
          if (y < 0 || y >= h || xx < 0 || xx >= w) continue;
          const int64_t sy = y * x.shape[1] / h, sx = xx * x.shape[2] / w;  // nearest, as in interpolate(size=...)
          const float* pixel = x.as<float>() + ((n * x.shape[1] + sy) * x.shape[2] + sx) * ins;
          const float* tap = c.w->data.as<float>() + o * ins * kernel * kernel + ky * kernel + kx;
          for (int64_t ch = 0; ch < ins; ch++) sum += static_cast<double>(pixel[ch]) * tap[ch * kernel * kernel];
        }
      set(out, i, finish(sum, a.e, out, i));
    }
  }

  void attention(View out, View q, View k, View v, const AttentionArgs& a) override {
    const int64_t length = q.shape[1], keys = k.shape[1], width = q.shape[2], size = width / a.heads;
    std::vector<double> score(static_cast<size_t>(keys));
    for (int64_t n = 0; n < q.shape[0]; n++)
      for (int64_t head = 0; head < a.heads; head++)
        for (int64_t row = 0; row < length; row++) {
          const int64_t at = (n * length + row) * width + head * size;
          const int64_t whole = a.key_lengths ? a.key_lengths.as<int32_t>()[n] : keys;
          const int64_t seen = a.causal ? std::min(whole, row + 1) : whole;
          double largest = -std::numeric_limits<double>::infinity(), total = 0;
          for (int64_t t = 0; t < seen; t++) {
            double s = 0;
            for (int64_t d = 0; d < size; d++)
              s += static_cast<double>(get(q, at + d)) * get(k, (n * keys + t) * width + head * size + d);
            score[static_cast<size_t>(t)] = s * a.scale;
            largest = std::max(largest, s * a.scale);
          }
          for (int64_t t = 0; t < seen; t++)
            total += score[static_cast<size_t>(t)] = std::exp(score[static_cast<size_t>(t)] - largest);
          for (int64_t d = 0; d < size; d++) {
            double sum = 0;
            for (int64_t t = 0; t < seen; t++)
              sum += score[static_cast<size_t>(t)] * get(v, (n * keys + t) * width + head * size + d);
            set(out, at + d, static_cast<float>(sum / total));
          }
        }
  }

  void group_norm(View out, View x, const Norm& n, const NormArgs& a) override {
    const int64_t channels = x.shape.back(), pixels = x.shape.size() / x.shape[0] / channels, each = channels / a.groups;
    for (int64_t row = 0; row < x.shape[0]; row++)
      for (int64_t g = 0; g < a.groups; g++) {
        const auto index = [&](int64_t i) { return (row * pixels + i / each) * channels + g * each + i % each; };
        normalize(out, x, n, a.act, pixels * each, index);
      }
  }

  bool has(Fused f) const override { return f == Fused::join; }
  void joined_linear(View out, View x, View x2, const Linear& l, const Epilogue& e) override {
    std::vector<float> both;
    linear(out, joined(x, x2, both), l, e);
  }
  void joined_group_norm(View out, View x, View x2, const Norm& n, const NormArgs& a) override {
    std::vector<float> both;
    group_norm(out, joined(x, x2, both), n, a);
  }

  void layer_norm(View out, View x, const Norm& n) override {
    const int64_t width = x.shape.back();
    for (int64_t row = 0; row < x.shape.rows(); row++)
      normalize(out, x, n, Act::none, width, [&](int64_t i) { return row * width + i; });
  }

  void act(View out, View x, Act a) override {
    for (int64_t i = 0; i < out.shape.size(); i++) set(out, i, static_cast<float>(activate(get(x, i), a)));
  }
  void multiply(View out, View a, View b) override {
    for (int64_t i = 0; i < out.shape.size(); i++) set(out, i, get(a, i) * get(b, i));
  }
  void combine(View out, std::span<const Term> terms) override {
    for (int64_t i = 0; i < out.shape.size(); i++) {
      double sum = 0;
      for (const Term& t : terms) sum += static_cast<double>(t.scale) * get(t.x, i);
      set(out, i, static_cast<float>(sum));
    }
  }
  void lerp(View out, View a, View b, View weight) override {
    for (int64_t i = 0; i < out.shape.size(); i++) set(out, i, get(a, i) + get(weight, i) * (get(b, i) - get(a, i)));
  }
  void copy(View out, View x) override {
    for (int64_t i = 0; i < out.shape.size(); i++) set(out, i, get(x, i));
  }
  void gather(View out, const Weight& table, View ids) override {
    const int64_t width = table.shape[1];
    for (int64_t i = 0; i < out.shape.size(); i++) {
      const int32_t id = ids.as<int32_t>()[i / width];
      invariant(id >= 0 && id < table.shape[0], "gather of row {} of {}", id, table.shape[0]);
      set(out, i, value_of(&table, id * width + i % width));
    }
  }
  void sinusoid(View out, View t, float max_period, bool flip, float shift) override {
    const int64_t half = out.shape[1] / 2;
    for (int64_t n = 0; n < out.shape[0]; n++)
      for (int64_t i = 0; i < half; i++) {
        // The frequency is rounded to float before the product, as the training code did.
        const auto frequency = static_cast<float>(
            std::exp(-std::log(static_cast<double>(max_period)) * static_cast<double>(i) / (static_cast<double>(half) - shift)));
        const double angle = static_cast<double>(get(t, n) * frequency);
        set(out, n * 2 * half + (flip ? half : 0) + i, static_cast<float>(std::sin(angle)));
        set(out, n * 2 * half + (flip ? 0 : half) + i, static_cast<float>(std::cos(angle)));
      }
  }

 private:
  static constexpr size_t kAlign = 256;

  // Normalizes `count` elements found by index(i); the channel of an element chooses gain and bias.
  template <typename Index>
  static void normalize(const View& out, const View& x, const Norm& n, Act a, int64_t count, const Index& index) {
    double mean = 0, variance = 0;
    for (int64_t i = 0; i < count; i++) mean += get(x, index(i));
    mean /= static_cast<double>(count);
    for (int64_t i = 0; i < count; i++) variance += (get(x, index(i)) - mean) * (get(x, index(i)) - mean);
    const double scale = 1 / std::sqrt(variance / static_cast<double>(count) + n.eps);
    for (int64_t i = 0; i < count; i++) {
      const int64_t at = index(i), c = at % x.shape.back();
      set(out, at, static_cast<float>(activate((get(x, at) - mean) * scale * value_of(n.g, c) + value_of(n.b, c), a)));
    }
  }

  DeviceInfo info_;
};

}  // namespace

std::unique_ptr<Device> open_reference() {
  return std::make_unique<ReferenceDevice>();
}

}  // namespace cudream
