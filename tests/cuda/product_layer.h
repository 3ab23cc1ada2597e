// One layer of real width on any device: its inputs are made from seeds, so two devices, two batches and two processes agree.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/half.h"
#include "kernels/cuda/product.h"
#include "kernels/device.h"

namespace cudream {

struct ProductLayer {
  Product::Kind kind = Product::Kind::linear;
  int64_t height = 1, width = 1, in = 32, out = 32;  // linear and geglu: height x width rows
  int64_t kernel = 1;
  int stride = 1;
  bool doubled = false;     // by nearest neighbours, before the filter
  bool asymmetric = false;  // no zeros left and top, as the VAE shrinks
  bool ends = false;        // bias, add, act, gate (in f32), residual; geglu: bias
  Act act = Act::silu;

  int64_t out_size(int64_t n) const {
    const int64_t enlarged = doubled ? 2 * n : n, zeros = asymmetric ? 1 : 2 * (kernel / 2);
    return (enlarged + zeros - kernel) / stride + 1;
  }
  int64_t rows() const { return kind == Product::Kind::conv ? out_size(height) * out_size(width) : height * width; }
  int64_t columns() const { return kind == Product::Kind::geglu ? out / 2 : out; }
};

// Runs a layer for pictures [first, first + pictures). `kept` names the columns of the output that are made at all (empty: all),
// so that the slow reference need not make the rest.
class LayerRun {
 public:
  LayerRun(Device& device, const ProductLayer& layer) : device_(device), layer_(layer) {}
  ~LayerRun() {
    for (const View& v : views_) device_.release(v.data, v.bytes());
    for (const Weight& w : weights_) device_.release(w.data.data, w.data.bytes());
  }
  LayerRun(const LayerRun&) = delete;
  LayerRun& operator=(const LayerRun&) = delete;

  View run(int64_t pictures, int64_t first = 0, const std::vector<int64_t>& kept = {}) {
    const ProductLayer& l = layer_;
    std::vector<int64_t> columns = kept;
    for (int64_t c = 0; kept.empty() && c < l.columns(); c++) columns.push_back(c);
    const auto n = static_cast<int64_t>(columns.size());
    const bool conv = l.kind == Product::Kind::conv, geglu = l.kind == Product::Kind::geglu;

    // Rows of the weight: those of the kept columns; geglu's gates follow its values.
    std::vector<int64_t> rows = columns;
    for (int64_t c : columns)
      if (geglu) rows.push_back(l.columns() + c);
    weights_.reserve(2);
    const int64_t depth = l.in * l.kernel * l.kernel;
    const Weight* w = weight(conv    ? Use::conv
                             : geglu ? Use::geglu
                                     : Use::linear,
                             conv ? Shape{n, l.in, l.kernel, l.kernel} : Shape{static_cast<int64_t>(rows.size()), l.in},
                             gathered(1, rows, depth, 1 / std::sqrt(static_cast<float>(depth))));
    const Weight* b = l.ends ? weight(Use::vector, {static_cast<int64_t>(rows.size())}, gathered(2, rows, 1, 0.5f)) : nullptr;

    const Shape in = conv ? Shape{pictures, l.height, l.width, l.in} : Shape{pictures, l.height * l.width, l.in};
    const Shape out = conv ? Shape{pictures, l.out_size(l.height), l.out_size(l.width), n} : Shape{pictures, l.rows(), n};
    const View x = view(in, values(3, first * in.size() / pictures, in.size(), 1));
    const View y = view(out, {});
    Epilogue e;
    if (l.ends && !geglu) {
      e.act = l.act;
      e.add = view({pictures, n}, per_picture(4, pictures, first, columns));
      e.gate = view({pictures, n}, per_picture(5, pictures, first, columns), DType::f32);
      std::vector<float> residual;
      for (int64_t p = 0; p < pictures; p++)
        for (int64_t row = 0; row < l.rows(); row++)
          for (const int64_t c : columns) residual.push_back(value(6, ((first + p) * l.rows() + row) * l.columns() + c));
      e.residual = view(out, residual);
    }
    const int64_t up = l.doubled ? 2 : 0;
    const int before = l.asymmetric ? 0 : static_cast<int>(l.kernel / 2), after = static_cast<int>(l.kernel / 2);
    if (conv) device_.conv2d(y, x, {w, b}, {l.stride, before, after, up * l.height, up * l.width, e});
    if (geglu) device_.has(Fused::geglu) ? device_.geglu(y, x, {w, b}) : composed_geglu(y, x, {w, b});
    if (!conv && !geglu) device_.linear(y, x, {w, b}, e);
    return y;
  }

  std::vector<std::byte> bytes(const View& v) {
    std::vector<std::byte> bytes(static_cast<size_t>(v.bytes()));
    device_.download(bytes, v);
    return bytes;
  }
  std::vector<float> floats(const View& v) {
    const std::vector<std::byte> raw = bytes(v);
    std::vector<float> values(static_cast<size_t>(v.shape.size()));
    for (size_t i = 0; i < values.size(); i++) {
      const std::byte* at = raw.data() + i * static_cast<size_t>(size_of(v.dtype));
      if (v.dtype == DType::f32) std::memcpy(&values[i], at, 4);
      f16 half;
      bf16 brain;
      if (v.dtype == DType::f16) std::memcpy(&half.bits, at, 2), values[i] = static_cast<float>(half);
      if (v.dtype == DType::bf16) std::memcpy(&brain.bits, at, 2), values[i] = static_cast<float>(brain);
    }
    return values;
  }

 private:
  // The i-th number of a stream: between -1.7 and 1.7, standard deviation 1, exact in bf16 (and f16).
  static float value(uint32_t stream, int64_t i) {
    uint64_t h = (static_cast<uint64_t>(i) + 1) * 0x9e3779b97f4a7c15u + stream * 0xbf58476d1ce4e5b9u;
    h = (h ^ (h >> 29)) * 0x94d049bb133111ebu;
    return static_cast<float>(bf16((static_cast<float>(h >> 40) * 0x1p-23f - 1) * 1.7320508f));
  }
  static std::vector<float> values(uint32_t stream, int64_t first, int64_t n, float scale) {
    std::vector<float> v;
    v.reserve(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; i++) v.push_back(static_cast<float>(bf16(scale * value(stream, first + i))));
    return v;
  }
  static std::vector<float> gathered(uint32_t stream, const std::vector<int64_t>& rows, int64_t each, float scale) {
    std::vector<float> all;
    for (const int64_t row : rows)
      for (const float v : values(stream, row * each, each, scale)) all.push_back(v);
    return all;
  }
  std::vector<float> per_picture(uint32_t stream, int64_t pictures, int64_t first, const std::vector<int64_t>& columns) const {
    std::vector<float> all;
    for (int64_t p = first; p < first + pictures; p++)
      for (const int64_t c : columns) all.push_back(value(stream, p * layer_.columns() + c));
    return all;
  }
  const Weight* weight(Use use, const Shape& shape, const std::vector<float>& v) {
    weights_.push_back(device_.prepack(use, DType::f32, shape, std::as_bytes(std::span(v))));
    return &weights_.back();
  }
  // Empty values: left as they are.
  View view(const Shape& shape, const std::vector<float>& v) { return view(shape, v, device_.info().compute); }
  View view(const Shape& shape, const std::vector<float>& v, DType type) {
    views_.emplace_back(device_.allocate(shape.size() * size_of(type)), type, shape);
    if (v.empty()) return views_.back();
    std::vector<uint16_t> narrow;
    for (const float f : v) narrow.push_back(type == DType::f16 ? f16(f).bits : bf16(f).bits);
    device_.upload(views_.back(), type == DType::f32 ? std::as_bytes(std::span(v)) : std::as_bytes(std::span(narrow)));
    return views_.back();
  }
  void composed_geglu(View y, View x, const Linear& l) {
    const int64_t n = y.shape.back();
    const View both = view({x.shape[0], x.shape[1], 2 * n}, {}), gate = view(y.shape, {});
    device_.linear(both, x, l, {});
    device_.act(gate, both.slice(2, n, 2 * n), Act::gelu);
    device_.multiply(y, both.slice(2, 0, n), gate);
  }

  Device& device_;
  ProductLayer layer_;
  std::vector<View> views_;
  std::vector<Weight> weights_;
};

}  // namespace cudream
