// The cases. Each function makes one from its sizes; the two tables are at the end.
#include "tests/kernels/verb_cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/half.h"

namespace cudream {
namespace {

// The i-th value of a stream: about normal (the sum of four uniform numbers), standard deviation 1, exact in bf16. From a
// table, since the largest cases have a hundred million values; its prime length keeps rows and channels out of step.
float value_at(uint32_t seed, int64_t i, float mean, float deviation) {
  constexpr size_t kLength = 65521;
  static const std::vector<float> kTable = [] {
    std::mt19937 random(1);
    std::vector<float> table(kLength);
    for (float& v : table)
      for (int part = 0; part < 4; part++) v += (static_cast<float>(random()) * 0x1p-32f - 0.5f) * 1.7320508f;
    return table;
  }();
  return static_cast<float>(bf16(mean + deviation * kTable[(seed * 7919u + static_cast<size_t>(i)) % kLength]));
}

Shape with_pictures(int64_t pictures, const Shape& one) {
  Shape all;
  all.rank = one.rank + 1;
  all.n[0] = pictures;
  for (int i = 0; i < one.rank; i++) all.n[static_cast<size_t>(i) + 1] = one[i];
  return all;
}

}  // namespace

VerbStage::~VerbStage() {
  for (const Weight& w : weights_) device_.release(w.data.data, w.data.bytes());
  for (const Block& b : blocks_) device_.release(b.at, b.bytes);
}

View VerbStage::make(const Shape& shape, DType type) {
  const int64_t bytes = shape.size() * size_of(type);
  blocks_.push_back({device_.allocate(bytes), bytes});
  return View(blocks_.back().at, type, shape);
}

View VerbStage::filled(const Shape& shape, DType type, const std::vector<float>& values) {
  const View view = make(shape, type);
  if (type == DType::f32) {
    device_.upload(view, std::as_bytes(std::span(values)));
  } else {
    std::vector<uint16_t> narrow;
    narrow.reserve(values.size());
    for (const float v : values) narrow.push_back(type == DType::f16 ? f16(v).bits : bf16(v).bits);
    device_.upload(view, std::as_bytes(std::span(narrow)));
  }
  return view;
}

View VerbStage::input(const Shape& one, DType type, float mean) {
  const uint32_t seed = next_seed_++;
  std::vector<float> values;
  for (int64_t p = 0; p < pictures_; p++)
    for (int64_t i = 0; i < one.size(); i++) values.push_back(value_at(seed, (first_ + p) * one.size() + i, mean, 1));
  if (poisoned_ && seed == 1)
    for (int64_t p = 1; p <= pictures_; p++)
      values[static_cast<size_t>(p * one.size() - 1)] = std::numeric_limits<float>::quiet_NaN();
  return filled(with_pictures(pictures_, one), type, values);
}

View VerbStage::shared_input(const Shape& all, DType type) {
  const uint32_t seed = next_seed_++;
  std::vector<float> values;
  for (int64_t i = 0; i < all.size(); i++) values.push_back(value_at(seed, i, 0, 1));
  return filled(all, type, values);
}

View VerbStage::integers(const Shape& all, const std::vector<int32_t>& values) {
  const View view = make(all, DType::i32);
  device_.upload(view, std::as_bytes(std::span(values)));
  return view;
}

View VerbStage::output(const Shape& one, DType type) {
  return make(with_pictures(pictures_, one), type);
}

const Weight* VerbStage::weight(Use use, const Shape& shape) {
  const uint32_t seed = next_seed_++;
  const int64_t fan_in = shape.size() / shape[0];
  const float deviation = 1 / std::sqrt(static_cast<float>(fan_in));
  std::vector<float> values;
  for (int64_t i = 0; i < shape.size(); i++) values.push_back(value_at(seed, i, 0, deviation));
  weights_.push_back(device_.prepack(use, DType::f32, shape, std::as_bytes(std::span(values))));
  return &weights_.back();
}

const Weight* VerbStage::vector(int64_t n, float mean) {
  const uint32_t seed = next_seed_++;
  std::vector<float> values;
  for (int64_t i = 0; i < n; i++) values.push_back(value_at(seed, i, mean, 0.5f));
  weights_.push_back(device_.prepack(Use::vector, DType::f32, {n}, std::as_bytes(std::span(values))));
  return &weights_.back();
}

Norm VerbStage::norm(int64_t channels, float eps) {
  const Weight* gain = vector(channels, 1);
  return {gain, vector(channels), eps};
}

std::vector<std::byte> bytes_of(Device& device, const View& x) {
  std::vector<std::byte> bytes(static_cast<size_t>(x.bytes()));
  device.download(bytes, x);
  return bytes;
}

std::vector<float> values_of(Device& device, const View& x) {
  std::vector<float> values;
  if (x.dtype == DType::f32) {
    values.resize(static_cast<size_t>(x.shape.size()));
    device.download(std::as_writable_bytes(std::span(values)), x);
    return values;
  }
  const std::vector<std::byte> bytes = bytes_of(device, x);
  for (size_t at = 0; at < bytes.size(); at += 2) {
    f16 half;
    bf16 brain;
    std::memcpy(x.dtype == DType::f16 ? &half.bits : &brain.bits, &bytes[at], 2);
    values.push_back(x.dtype == DType::f16 ? static_cast<float>(half) : static_cast<float>(brain));
  }
  return values;
}

namespace {

// Which parts of an epilogue a case has.
struct Ends {
  bool bias = true, add = false, add_shared = false, gate = false, residual = false, in_place = false;
  Act act = Act::none;
};

std::string describe(const Ends& e) {
  std::string text = e.bias ? "" : " no bias";
  if (e.add) text += e.add_shared ? " + add[1]" : " + add";
  if (e.act != Act::none) text += fmt::format(" act{}", static_cast<int>(e.act));
  if (e.gate) text += " * gate";
  if (e.residual) text += e.in_place ? " + residual in place" : " + residual";
  return text;
}

// The epilogue's tensors for an output [pictures, one...], which itself becomes the residual where that is in place.
Epilogue make_ends(VerbStage& s, const Ends& e, const Shape& one, View& out) {
  Epilogue made{.act = e.act};
  if (e.add) made.add = e.add_shared ? s.shared_input({1, one.back()}, s.compute()) : s.input({one.back()});
  if (e.gate) made.gate = s.input({one.back()});
  if (e.residual) made.residual = s.input(one);
  out = e.in_place ? made.residual : s.output(one);
  return made;
}

VerbCase linear(int64_t rows, int64_t in, int64_t out, const Ends& ends = {}) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({rows, in});
    const Linear l{s.weight(Use::linear, {out, in}), ends.bias ? s.vector(out) : nullptr};
    View y;
    const Epilogue e = make_ends(s, ends, {rows, out}, y);
    return {[=, &s] { s.device().linear(y, x, l, e); }, y};
  };
  return {fmt::format("linear {}x{}->{}{}", rows, in, out, describe(ends)), prepare, 2.0 * static_cast<double>(rows * in * out)};
}

// y [rows, out / 2]. A device without the fused verb is given its composition, as Ops does.
VerbCase geglu(int64_t rows, int64_t in, int64_t out) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({rows, in});
    const bool fused = s.device().has(Fused::geglu);
    const Linear l{s.weight(fused ? Use::geglu : Use::linear, {out, in}), s.vector(out)};
    const View y = s.output({rows, out / 2});
    if (fused) return {[=, &s] { s.device().geglu(y, x, l); }, y};
    const View both = s.output({rows, out}), gate = s.output({rows, out / 2});
    return {[=, &s] {
              s.device().linear(both, x, l, {});
              s.device().act(gate, both.slice(2, out / 2, out), Act::gelu);
              s.device().multiply(y, both.slice(2, 0, out / 2), gate);
            },
            y};
  };
  return {fmt::format("geglu {}x{}->{}", rows, in, out), prepare, 2.0 * static_cast<double>(rows * in * out)};
}

struct Filter {
  int64_t kernel = 3;
  int stride = 1, before = 1, after = 1;
  int64_t up_height = 0, up_width = 0;
};

VerbCase conv(int64_t height, int64_t width, int64_t in, int64_t out, const Filter& f = {}, const Ends& ends = {}) {
  const int64_t h = f.up_height > 0 ? f.up_height : height, w = f.up_width > 0 ? f.up_width : width;
  const auto reach = [&](int64_t n) { return (n + f.before + f.after - f.kernel) / f.stride + 1; };
  const int64_t oh = reach(h), ow = reach(w);
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({height, width, in});
    const Conv c{s.weight(Use::conv, {out, in, f.kernel, f.kernel}), ends.bias ? s.vector(out) : nullptr};
    View y;
    const Epilogue e = make_ends(s, ends, {oh, ow, out}, y);
    const ConvArgs args{f.stride, f.before, f.after, f.up_height, f.up_width, e};
    return {[=, &s] { s.device().conv2d(y, x, c, args); }, y};
  };
  std::string name = fmt::format("conv {}x{} {}->{} k{}", height, width, in, out, f.kernel);
  if (f.stride != 1) name += fmt::format(" stride {} pad {},{}", f.stride, f.before, f.after);
  if (f.up_height > 0) name += fmt::format(" up {}x{}", f.up_height, f.up_width);
  return {name + describe(ends), prepare, 2.0 * static_cast<double>(oh * ow * in * out * f.kernel * f.kernel)};
}
VerbCase pointwise_conv(int64_t height, int64_t width, int64_t in, int64_t out, const Ends& ends = {}) {
  return conv(height, width, in, out, {.kernel = 1, .before = 0, .after = 0}, ends);
}

// Channels of two inputs, one behind the other.
struct Both {
  int64_t first, second;
};

// Calls `whole` with the two inputs joined in memory, where the device does not read them where they lie.
template <typename Parts, typename Whole>
std::function<void()> on_both(VerbStage& s, View x, View x2, const Parts& parts, const Whole& whole) {
  if (s.device().has(Fused::join)) return [=] { parts(x, x2); };
  const int64_t first = x.shape[3], all = first + x2.shape[3];
  const View both = s.output({x.shape[1], x.shape[2], all});
  return [=, &s] {
    s.device().copy(both.slice(3, 0, first), x);
    s.device().copy(both.slice(3, first, all), x2);
    whole(both);
  };
}

VerbCase joined_linear(int64_t height, int64_t width, const Both& in, int64_t out, const Ends& ends = {}) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({height, width, in.first}), x2 = s.input({height, width, in.second});
    const Linear l{s.weight(Use::linear, {out, in.first + in.second}), ends.bias ? s.vector(out) : nullptr};
    View y;
    const Epilogue e = make_ends(s, ends, {height, width, out}, y);
    return {on_both(
                s, x, x2, [=, &s](const View& a, const View& b) { s.device().joined_linear(y, a, b, l, e); },
                [=, &s](const View& both) { s.device().linear(y, both, l, e); }),
            y};
  };
  return {fmt::format("linear {}x{} {}+{}->{}{}", height, width, in.first, in.second, out, describe(ends)), prepare,
          2.0 * static_cast<double>(height * width * (in.first + in.second) * out)};
}

VerbCase joined_group_norm(int64_t height, int64_t width, const Both& in, int groups, Act act) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({height, width, in.first}, 0.5f), x2 = s.input({height, width, in.second}, -1),
               y = s.output({height, width, in.first + in.second});
    const Norm n = s.norm(in.first + in.second, 1e-5f);
    const NormArgs args{groups, act};
    return {on_both(
                s, x, x2, [=, &s](const View& a, const View& b) { s.device().joined_group_norm(y, a, b, n, args); },
                [=, &s](const View& both) { s.device().group_norm(y, both, n, args); }),
            y};
  };
  return {
      fmt::format("group_norm {}x{} {}+{} groups {} act{}", height, width, in.first, in.second, groups, static_cast<int>(act)),
      prepare};
}

struct Heads {
  int heads = 1;
  int64_t size = 64;
  bool causal = false, packed = false;  // packed: q, k and v are slices of one matrix
  std::vector<int32_t> lengths;         // of each picture
};

VerbCase attention(int64_t rows, int64_t keys, const Heads& h) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const int64_t width = h.heads * h.size;
    View q, k, v;
    if (h.packed) {
      const View all = s.input({rows, 3 * width});
      q = all.slice(2, 0, width), k = all.slice(2, width, 2 * width), v = all.slice(2, 2 * width, 3 * width);
    } else {
      q = s.input({rows, width}), k = s.input({keys, width}), v = s.input({keys, width});
    }
    const View y = s.output({rows, width});
    AttentionArgs args{.heads = h.heads, .scale = 1 / std::sqrt(static_cast<float>(h.size)), .causal = h.causal};
    if (!h.lengths.empty()) {
      std::vector<int32_t> lengths;
      for (int64_t p = 0; p < s.pictures(); p++) lengths.push_back(h.lengths[static_cast<size_t>(p) % h.lengths.size()]);
      args.key_lengths = s.integers({s.pictures()}, lengths);
    }
    return {[=, &s] { s.device().attention(y, q, k, v, args); }, y};
  };
  return {fmt::format("attention {}x{} {} heads of {}{}{}{}", rows, keys, h.heads, h.size, h.causal ? " causal" : "",
                      h.packed ? " packed" : "", h.lengths.empty() ? "" : " lengths"),
          prepare, 4.0 * static_cast<double>(rows * keys * h.heads * h.size)};
}

VerbCase group_norm(int64_t height, int64_t width, int64_t channels, int groups, Act act, float mean = 0.5f) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({height, width, channels}, mean), y = s.output({height, width, channels});
    const Norm n = s.norm(channels, 1e-5f);
    return {[=, &s] { s.device().group_norm(y, x, n, {groups, act}); }, y};
  };
  return {
      fmt::format("group_norm {}x{}x{} groups {} act{} mean {}", height, width, channels, groups, static_cast<int>(act), mean),
      prepare};
}

VerbCase layer_norm(int64_t rows, int64_t channels, float mean = 0.5f) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({rows, channels}, mean), y = s.output({rows, channels});
    const Norm n = s.norm(channels, 1e-5f);
    return {[=, &s] { s.device().layer_norm(y, x, n); }, y};
  };
  return {fmt::format("layer_norm {}x{} mean {}", rows, channels, mean), prepare};
}

VerbCase act(int64_t rows, int64_t channels, Act a, bool strided, bool in_place = false) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View all = s.input({rows, strided ? channels + 3 : channels});
    const View x = strided ? all.slice(2, 3, channels + 3) : all, y = in_place ? x : s.output({rows, channels});
    return {[=, &s] { s.device().act(y, x, a); }, y};
  };
  return {
      fmt::format("act{} {}x{}{}{}", static_cast<int>(a), rows, channels, strided ? " strided" : "", in_place ? " in place" : ""),
      prepare};
}

VerbCase multiply(int64_t rows, int64_t channels) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View all = s.input({rows, 2 * channels}), y = s.output({rows, channels});
    return {[=, &s] { s.device().multiply(y, all.slice(2, 0, channels), all.slice(2, channels, 2 * channels)); }, y};
  };
  return {fmt::format("multiply {}x{}", rows, channels), prepare};
}

VerbCase combine(int64_t elements, int terms) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    std::vector<Term> sum;
    sum.reserve(static_cast<size_t>(terms));
    for (int i = 0; i < terms; i++) sum.push_back({0.75f - static_cast<float>(i), s.input({elements}, DType::f32)});
    const View y = sum.front().x;
    return {[=, &s] { s.device().combine(y, sum); }, y};
  };
  return {fmt::format("combine {} terms of {}", terms, elements), prepare};
}

VerbCase lerp(int64_t elements) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View a = s.input({elements}, DType::f32), b = s.input({elements}, DType::f32), w = s.input({elements}, DType::f32);
    const View y = s.output({elements}, DType::f32);
    return {[=, &s] { s.device().lerp(y, a, b, w); }, y};
  };
  return {fmt::format("lerp {}", elements), prepare};
}

// A cast into a slice of a wider tensor, as concatenation does.
VerbCase copy(int64_t rows, int64_t channels, bool widen) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({rows, channels}, widen ? s.compute() : DType::f32);
    const View y = s.output({rows, channels + 5}, widen ? DType::f32 : s.compute());
    const View rest = s.input({rows, 5});
    return {[=, &s] {
              s.device().copy(y.slice(2, 0, channels), x);
              s.device().copy(y.slice(2, channels, channels + 5), rest);
            },
            y};
  };
  return {fmt::format("copy {}x{} {}", rows, channels, widen ? "to f32" : "from f32"), prepare};
}

VerbCase gather(int64_t rows, int64_t width) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const Weight* table = s.weight(Use::table, {rows, width});
    std::vector<int32_t> ids;
    for (int64_t p = 0; p < s.pictures(); p++)
      for (const int64_t id : {rows - 1, int64_t{0}, rows / 2}) ids.push_back(static_cast<int32_t>(id));
    const View y = s.output({3, width}, DType::f32), which = s.integers({s.pictures(), 3}, ids);
    return {[=, &s] { s.device().gather(y, *table, which); }, y};
  };
  return {fmt::format("gather {}x{}", rows, width), prepare};
}

VerbCase sinusoid(int64_t channels, bool flip, float shift) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View t = s.input({}, DType::f32, 500), y = s.output({channels}, DType::f32);
    return {[=, &s] { s.device().sinusoid(y, t, 10000, flip, shift); }, y};
  };
  return {fmt::format("sinusoid {} flip {} shift {}", channels, flip, shift), prepare};
}

std::vector<VerbCase> small(std::vector<VerbCase> cases) {
  for (VerbCase& c : cases) c.small = true;
  return cases;
}

}  // namespace

const std::vector<VerbCase>& small_verb_cases() {
  static const std::vector<VerbCase> kCases = small({
      // one element, odd sizes, several blocks of rows, several slices of weights
      linear(1, 1, 1),
      linear(1, 1, 1, {.bias = false}),
      linear(3, 5, 7),
      linear(77, 128, 384, {.bias = false}),
      linear(1, 320, 1280, {.act = Act::silu}),
      linear(300, 40, 33, {.residual = true}),
      linear(15, 64, 40),
      linear(16, 64, 16),
      linear(31, 320, 96, {.residual = true, .in_place = true}),
      linear(17, 1280, 1000),
      linear(600, 1344, 70, {.add = true}),
      linear(64, 96, 96, {.residual = true, .in_place = true}),
      linear(9, 33, 65, {.add = true, .gate = true, .residual = true, .act = Act::gelu}),
      linear(9, 64, 64, {.bias = false, .add = true, .add_shared = true, .act = Act::quick_gelu}),
      linear(5, 2048, 600, {.gate = true}),
      geglu(1, 2, 2),
      geglu(70, 96, 768),
      geglu(33, 640, 1900),
      conv(1, 1, 1, 1),
      conv(1, 7, 3, 5),
      conv(5, 1, 5, 3),
      conv(8, 8, 4, 64),
      conv(9, 13, 9, 33),
      conv(40, 33, 32, 48, {}, {.residual = true}),
      conv(33, 64, 64, 64, {}, {.add = true}),
      conv(8, 8, 640, 192, {}, {.add = true, .add_shared = true, .residual = true, .in_place = true}),
      conv(16, 16, 96, 96, {}, {.gate = true, .residual = true, .act = Act::silu}),
      conv(12, 10, 20, 3, {}, {.bias = false}),
      conv(20, 15, 32, 40),
      conv(5, 17, 64, 32),
      conv(9, 8, 768, 48, {}, {.residual = true, .in_place = true}),
      conv(100, 100, 1024, 3, {}, {.residual = true}),
      conv(4, 6, 64, 64, {.up_height = 8, .up_width = 11}),
      conv(16, 16, 64, 64, {.stride = 2}),
      conv(15, 13, 32, 32, {.stride = 2}),
      conv(16, 16, 32, 64, {.stride = 2, .before = 0, .after = 1}),
      conv(17, 9, 32, 64, {.stride = 2, .before = 0, .after = 1}),
      conv(40, 280, 8, 16),
      conv(8, 8, 64, 96, {.up_height = 16, .up_width = 16}),
      conv(9, 11, 16, 24, {.up_height = 17, .up_width = 21}, {.residual = true}),
      conv(20, 20, 8, 8, {.up_height = 40, .up_width = 40}),
      pointwise_conv(9, 11, 6, 10),
      pointwise_conv(20, 20, 64, 96, {.residual = true}),
      pointwise_conv(1, 1, 4, 4),
      // heads of networks, odd heads, tails of rows and keys
      attention(1, 1, {.heads = 1, .size = 1}),
      attention(4, 1, {.heads = 2, .size = 8}),
      attention(64, 64, {.heads = 8, .size = 12, .packed = true}),
      attention(100, 77, {.heads = 8, .size = 8}),
      attention(67, 67, {.heads = 2, .size = 40, .packed = true}),
      attention(150, 300, {.heads = 1, .size = 40}),
      attention(77, 77, {.heads = 4, .size = 32, .causal = true, .packed = true}),
      attention(77, 77, {.heads = 1, .size = 64, .causal = true}),
      attention(200, 200, {.heads = 1, .size = 16, .causal = true}),
      attention(33, 77, {.heads = 3, .size = 80}),
      attention(16, 260, {.heads = 1, .size = 160}),
      attention(40, 130, {.heads = 1, .size = 512}),
      attention(130, 65, {.heads = 2, .size = 64}),
      attention(270, 33, {.heads = 1, .size = 160}),
      attention(50, 77, {.heads = 2, .size = 40, .lengths = {77, 1, 20}}),
      attention(20, 200, {.heads = 1, .size = 512, .lengths = {129, 200, 3}}),
      attention(30, 40, {.heads = 2, .size = 5}),
      attention(49, 129, {.heads = 1, .size = 4}),
      attention(20, 20, {.heads = 1, .size = 96, .causal = true, .lengths = {7, 20, 13}}),
      group_norm(1, 1, 4, 4, Act::none),
      group_norm(5, 7, 64, 32, Act::none),
      group_norm(16, 16, 96, 32, Act::silu),
      group_norm(9, 6, 60, 3, Act::silu, 1000),
      group_norm(64, 40, 24, 8, Act::silu),
      group_norm(7, 5, 1, 1, Act::none),
      group_norm(8, 8, 32, 8, Act::gelu),
      group_norm(11, 10, 40, 8, Act::silu, 100),
      group_norm(24, 24, 320, 32, Act::none),
      // two inputs: a group that has channels of both, vectors or none
      joined_linear(8, 8, {64, 96}, 96),
      joined_linear(8, 8, {640, 320}, 64, {.residual = true}),
      joined_linear(20, 20, {32, 32}, 64, {.add = true, .residual = true, .act = Act::silu}),
      joined_linear(16, 16, {96, 40}, 96, {.residual = true}),
      joined_linear(3, 5, {7, 4}, 6),
      joined_group_norm(16, 16, {64, 96}, 32, Act::silu),
      joined_group_norm(9, 6, {40, 56}, 4, Act::none),
      joined_group_norm(24, 20, {320, 160}, 32, Act::silu),
      joined_group_norm(5, 7, {7, 5}, 3, Act::silu),
      layer_norm(1, 1),
      layer_norm(50, 1280),
      layer_norm(30, 320, 100),
      layer_norm(77, 128),
      layer_norm(15, 40),
      layer_norm(5, 331, 100),
      act(5, 37, Act::silu, true),
      act(3, 64, Act::gelu, false, true),
      act(9, 100, Act::quick_gelu, true),
      act(1, 1, Act::none, false),
      act(200, 320, Act::gelu, true),
      multiply(1, 1),
      multiply(33, 45),
      multiply(33, 64),
      combine(1, 1),
      combine(40000, 8),
      combine(77, 3),
      combine(800, 2),
      lerp(1),
      lerp(20001),
      lerp(4096),
      copy(1, 1, true),
      copy(70, 333, true),
      copy(70, 333, false),
      copy(50, 64, true),
      gather(5, 768),
      gather(1, 3),
      sinusoid(320, true, 0),
      sinusoid(320, false, 1),
      sinusoid(2, true, 0),
  });
  return kCases;
}

namespace {

// A residual block's and a transformer's layers at one level of a UNet: `from` channels come in, `channels` go out.
void add_level(std::vector<VerbCase>& cases, int64_t size, std::initializer_list<int64_t> from, int64_t channels, int64_t context,
               int heads, bool transformer) {
  for (const int64_t in : from) {
    cases.push_back(group_norm(size, size, in, 32, Act::silu));
    cases.push_back(conv(size, size, in, channels, {}, {.add = true}));
    if (in != channels) cases.push_back(pointwise_conv(size, size, in, channels));
  }
  cases.push_back(conv(size, size, channels, channels, {}, {.residual = true}));
  if (!transformer) return;
  const int64_t rows = size * size, head = channels / heads;
  cases.push_back(layer_norm(rows, channels));
  cases.push_back(linear(rows, channels, 3 * channels, {.bias = false}));
  cases.push_back(linear(rows, channels, channels, {.residual = true}));
  cases.push_back(linear(rows, channels, channels, {.bias = false}));
  cases.push_back(linear(77, context, 2 * channels, {.bias = false}));
  cases.push_back(attention(rows, rows, {.heads = heads, .size = head, .packed = true}));
  cases.push_back(attention(rows, 77, {.heads = heads, .size = head}));
  cases.push_back(geglu(rows, channels, 8 * channels));
  cases.push_back(linear(rows, 4 * channels, channels, {.residual = true}));
}

void add_sd15_unet(std::vector<VerbCase>& cases, int64_t latent) {
  cases.push_back(conv(latent, latent, 4, 320));
  add_level(cases, latent, {320, 640, 960}, 320, 768, 8, true);
  add_level(cases, latent / 2, {320, 640, 960, 1280, 1920}, 640, 768, 8, true);
  add_level(cases, latent / 4, {640, 1280, 1920, 2560}, 1280, 768, 8, true);
  add_level(cases, latent / 8, {1280, 2560}, 1280, 768, 8, true);
  int64_t size = latent;
  for (const int64_t channels : {320, 640, 1280}) {
    cases.push_back(conv(size, size, channels, channels, {.stride = 2}));
    size /= 2;
  }
  for (const int64_t channels : {1280, 1280, 640}) {
    cases.push_back(conv(size, size, channels, channels, {.up_height = 2 * size, .up_width = 2 * size}));
    size *= 2;
  }
  cases.push_back(conv(latent, latent, 320, 4));
}

void add_vae(std::vector<VerbCase>& cases, int64_t latent) {
  cases.push_back(conv(latent, latent, 4, 512));
  cases.push_back(attention(latent * latent, latent * latent, {.heads = 1, .size = 512}));
  cases.push_back(linear(latent * latent, 512, 512, {.residual = true}));
  int64_t size = latent;
  for (const int64_t channels : {512, 512, 256, 128}) {
    cases.push_back(group_norm(size, size, channels, 32, Act::silu));
    cases.push_back(conv(size, size, channels, channels, {}, {.residual = true}));
    if (channels < 512) cases.push_back(conv(size, size, 2 * channels, channels));
    if (channels < 512) cases.push_back(pointwise_conv(size, size, 2 * channels, channels));
    if (channels > 128) cases.push_back(conv(size, size, channels, channels, {.up_height = 2 * size, .up_width = 2 * size}));
    if (size > latent) cases.push_back(conv(size, size, channels, channels, {.stride = 2, .before = 0, .after = 1}));
    size *= 2;
  }
  cases.push_back(conv(8 * latent, 8 * latent, 128, 3));
  cases.push_back(conv(8 * latent, 8 * latent, 3, 128));
  cases.push_back(conv(latent, latent, 512, 8));
}

void add_demo_model(std::vector<VerbCase>& cases) {
  cases.push_back(conv(16, 16, 4, 64));
  for (const auto& [size, in, out] : {std::tuple<int64_t, int64_t, int64_t>{16, 64, 64},
                                      {16, 128, 64},
                                      {8, 64, 96},
                                      {8, 160, 96},
                                      {4, 96, 96},
                                      {4, 192, 96},
                                      {2, 96, 96},
                                      {2, 192, 96}}) {
    cases.push_back(conv(size, size, in, out, {}, {.add = true}));
    if (in != out) cases.push_back(pointwise_conv(size, size, in, out));
    cases.push_back(attention(size * size, size * size, {.heads = 8, .size = out / 8, .packed = true}));
    cases.push_back(geglu(size * size, out, 8 * out));
    cases.push_back(linear(size * size, 4 * out, out, {.residual = true}));
  }
  for (const auto& [size, channels] : {std::pair<int64_t, int64_t>{16, 96}, {32, 96}, {64, 64}, {128, 32}}) {
    cases.push_back(group_norm(size, size, channels, 8, Act::silu));
    cases.push_back(conv(size, size, channels, channels, {}, {.residual = true}));
    if (size > 16) cases.push_back(conv(size / 2, size / 2, channels, channels, {.up_height = size, .up_width = size}));
  }
  cases.push_back(conv(128, 128, 32, 3));
}

void add_clip(std::vector<VerbCase>& cases, int64_t width, int heads) {
  cases.push_back(layer_norm(77, width));
  cases.push_back(linear(77, width, 3 * width));
  cases.push_back(attention(77, 77, {.heads = heads, .size = width / heads, .causal = true, .packed = true}));
  cases.push_back(linear(77, width, 4 * width, {.act = Act::quick_gelu}));
  cases.push_back(linear(77, 4 * width, width, {.residual = true}));
}

}  // namespace

std::vector<VerbCase> network_verb_cases() {
  std::vector<VerbCase> all, once;
  for (const int64_t latent : {64, 32}) {
    add_sd15_unet(all, latent);
    add_vae(all, latent);
  }
  all.push_back(attention(256, 256, {.heads = 10, .size = 64, .packed = true}));  // of SD 2.1 and SDXL
  all.push_back(attention(256, 77, {.heads = 10, .size = 64}));
  add_clip(all, 768, 12);
  add_clip(all, 128, 4);
  add_demo_model(all);
  for (const VerbCase& c : all)
    if (std::none_of(once.begin(), once.end(), [&](const VerbCase& o) { return o.name == c.name; })) once.push_back(c);
  return once;
}

}  // namespace cudream
