// Names, inputs and calls.
#include "tests/kernels/verb_makers.h"

#include <fmt/format.h>

#include <cmath>

namespace cudream::makers {
namespace {

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

}  // namespace

VerbCase linear(int64_t rows, int64_t in, int64_t out, const Ends& ends) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({rows, in});
    const Linear l{s.weight(Use::linear, {out, in}), ends.bias ? s.vector(out) : nullptr};
    View y;
    const Epilogue e = make_ends(s, ends, {rows, out}, y);
    return {[=, &s] { s.device().linear(y, x, l, e); }, y};
  };
  return {fmt::format("linear {}x{}->{}{}", rows, in, out, describe(ends)), prepare, 2.0 * static_cast<double>(rows * in * out)};
}

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

VerbCase conv(int64_t height, int64_t width, int64_t in, int64_t out, const Filter& f, const Ends& ends) {
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

VerbCase pointwise_conv(int64_t height, int64_t width, int64_t in, int64_t out, const Ends& ends) {
  return conv(height, width, in, out, {.kernel = 1, .before = 0, .after = 0}, ends);
}

VerbCase joined_linear(int64_t height, int64_t width, const Both& in, int64_t out, const Ends& ends) {
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

VerbCase group_norm(int64_t height, int64_t width, int64_t channels, int groups, Act act, float mean) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({height, width, channels}, mean), y = s.output({height, width, channels});
    const Norm n = s.norm(channels, 1e-5f);
    return {[=, &s] { s.device().group_norm(y, x, n, {groups, act}); }, y};
  };
  return {
      fmt::format("group_norm {}x{}x{} groups {} act{} mean {}", height, width, channels, groups, static_cast<int>(act), mean),
      prepare};
}

VerbCase layer_norm(int64_t rows, int64_t channels, float mean) {
  const auto prepare = [=](VerbStage& s) -> VerbRun {
    const View x = s.input({rows, channels}, mean), y = s.output({rows, channels});
    const Norm n = s.norm(channels, 1e-5f);
    return {[=, &s] { s.device().layer_norm(y, x, n); }, y};
  };
  return {fmt::format("layer_norm {}x{} mean {}", rows, channels, mean), prepare};
}

VerbCase act(int64_t rows, int64_t channels, Act a, bool strided, bool in_place) {
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

}  // namespace cudream::makers
