// Who serves a call, and measuring it.
#include "kernels/cuda/libraries.h"

#include <algorithm>

#include "core/log.h"
#include "kernels/cuda/args.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/lattice.h"

namespace cudream {
namespace {

constexpr int kRuns = 5, kCallsInARun = 10;
constexpr double kSecondsOfARun = 1e-3;  // enough: an event marks half a microsecond

// What comes between the sum and the residual.
bool is_shaped(const Epilogue& e) {
  return e.act != Act::none || e.gate;
}

std::string key_of(const LinearSplit& s) {
  return fmt::format("linear {} {}x{}x{}{}{}{}", name_of(s.shape.type), s.shape.rows, s.shape.depth, s.shape.outs,
                     s.shape.bias ? " bias" : "", s.shape.residual ? " residual" : "", s.finish ? " finish" : "");
}

std::string key_of(const ConvSplit& s) {
  const DnnConvolution& c = s.shape;
  return fmt::format("conv2d {} {}x{}x{}x{} kernel {} stride {} pad {},{}{}{}{}", name_of(c.type), c.height, c.width, c.channels,
                     c.outs, c.kernel, c.stride, c.pad_before, c.pad_after, c.bias ? " bias" : "", c.residual ? " residual" : "",
                     s.finish ? " finish" : "");
}

std::string key_of(const DnnAttention& a) {
  return fmt::format("attention {} {}x{} {} heads of {} tokens {},{},{}", name_of(a.type), a.length, a.keys, a.heads, a.size,
                     a.q_token, a.k_token, a.v_token);
}

// Null, with a note in the debug log (doctor says it too), where a library is wanted but not named: then what is there is used.
template <typename T>
std::unique_ptr<T> open(Gpu& gpu, LibraryUse provider, bool wanted) {
  const bool named = provider == LibraryUse::always;
  if (provider == LibraryUse::never || (!named && !wanted)) return nullptr;
  try {
    return std::make_unique<T>(gpu);
  } catch (const Error& e) {
    if (named || e.code() != Code::device) throw;
    log(LogLevel::debug, "not used: {}", e.what());
    return nullptr;
  }
}

}  // namespace

LinearSplit split_linear(DType type, int64_t rows, int64_t depth, int64_t outs, bool bias, const Epilogue& e) {
  const bool bias_inside = bias && type == DType::f32;
  LinearSplit split{.shape = {type, rows, depth, outs, bias_inside, static_cast<bool>(e.residual)},
                    .finish = is_shaped(e) || e.add || bias != bias_inside};
  split.possible = blas_may_serve(split.shape) && !(is_shaped(e) && e.residual);
  return split;
}

ConvSplit split_conv(const View& x, const Shape& w, bool bias, const ConvArgs& a) {
  ConvSplit split{.shape = {.type = x.dtype,
                            .height = x.shape[1],
                            .width = x.shape[2],
                            .channels = x.shape[3],
                            .outs = w[0],
                            .kernel = static_cast<int>(w[2]),
                            .stride = a.stride,
                            .pad_before = a.pad_left_top,
                            .pad_after = a.pad_right_bottom,
                            .bias = bias,
                            .residual = static_cast<bool>(a.e.residual)},
                  .finish = is_shaped(a.e) || a.e.add};
  const bool upsampled = a.up_height > 0 && (a.up_height != x.shape[1] || a.up_width != x.shape[2]);
  split.possible = dnn_may_serve(split.shape) && !upsampled && !(is_shaped(a.e) && a.e.residual);
  return split;
}

Libraries::Libraries(Gpu& gpu, const Providers& providers) : gpu_(gpu), providers_(providers) {
  const std::filesystem::path file = tuning_file(gpu.model());
  std::error_code ignored;
  const bool measured = providers.has(LibraryUse::automatic) && std::filesystem::exists(file, ignored),
             wanted = providers.tune || measured;
  matmul_ = open<Matmul>(gpu, providers.gemm, wanted);
  const bool conv = providers.conv == LibraryUse::always, attention = providers.attention == LibraryUse::always;
  dnn_ = open<DnnRunner>(gpu, conv || attention ? LibraryUse::always : std::min(providers.conv, providers.attention), wanted);
  const TuningOf of{.card = gpu.model(),
                    .driver = gpu.driver_version(),
                    .cublaslt = matmul_ != nullptr ? matmul_->version() : "",
                    .cudnn = dnn_ != nullptr ? dnn_->version() : ""};
  tuning_ = Tuning(of);
  if (!measured) return;
  try {
    tuning_ = Tuning::read(file, of);
  } catch (const Error& e) {
    log(LogLevel::warn, "{}", e.what());
  }
}

void Libraries::linear(const View& out, const View& x, const Linear& l, const Epilogue& e, const Own& own) {
  const int64_t pictures = x.shape[0];
  const LinearSplit split = split_linear(x.dtype, x.shape.rows() / pictures, l.w->shape[1], l.w->shape[0], l.b != nullptr, e);
  if (matmul_ == nullptr || providers_.gemm == LibraryUse::never || !split.possible || !matmul_->serves(split.shape))
    return own(out);
  choose(providers_.gemm, "linear", key_of(split), out, own, [&](const View& to) {
    const bool bias_inside = split.shape.bias;
    matmul_->run(split.shape, pictures, to.data, x.data, l.w->data.data, bias_inside ? l.b->data.data : nullptr, e.residual.data);
    if (split.finish) finish(to, bias_inside ? nullptr : l.b, e);
  });
}

void Libraries::conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& a, const Own& own) {
  if (dnn_ == nullptr || providers_.conv == LibraryUse::never) return own(out);
  const ConvSplit split = split_conv(x, c.w->shape, c.b != nullptr, a);
  if (!split.possible || !dnn_->serves(split.shape)) return own(out);
  choose(providers_.conv, "conv2d", key_of(split), out, own, [&](const View& to) {
    const int64_t pictures = x.shape[0];
    std::vector<DnnRunner::Operand> operands{
        {kDnnX, x.data, x.bytes() / pictures}, {kDnnW, c.w->data.data, 0}, {kDnnOut, to.data, to.bytes() / pictures}};
    if (split.shape.bias) operands.push_back({kDnnBias, c.b->data.data, 0});
    if (split.shape.residual) operands.push_back({kDnnResidual, a.e.residual.data, to.bytes() / pictures});
    dnn_->run(split.shape, pictures, operands);
    if (split.finish) finish(to, nullptr, a.e);
  });
}

void Libraries::attention(const View& out, const View& q, const View& k, const View& v, const AttentionArgs& a, const Own& own) {
  if (dnn_ == nullptr || providers_.attention == LibraryUse::never || a.causal || a.key_lengths) return own(out);
  const DnnAttention shape{.type = q.dtype,
                           .length = q.shape[1],
                           .keys = k.shape[1],
                           .heads = a.heads,
                           .size = q.shape[2] / a.heads,
                           .q_token = q.stride[1],
                           .k_token = k.stride[1],
                           .v_token = v.stride[1]};
  if (!dnn_->serves(shape)) return own(out);
  choose(providers_.attention, "attention", key_of(shape), out, own, [&](const View& to) {
    const auto picture = [](const View& view) { return view.stride[0] * size_of(view.dtype); };
    dnn_->run(shape, q.shape[0],
              {{kDnnQ, q.data, picture(q)},
               {kDnnK, k.data, picture(k)},
               {kDnnV, v.data, picture(v)},
               {kDnnOut, to.data, picture(to)},
               {kDnnScale, &a.scale, 0}});
  });
}

// `out` [N,...,outs] holds sums, the residual among them.
void Libraries::finish(const View& out, const Weight* bias, const Epilogue& e) {
  const auto channels = [](const View& v) { return PerChannel{v.data, v.shape[0] == 1 ? 0 : v.stride[0], v.dtype}; };
  const int64_t pictures = out.shape[0], outs = out.shape.back(), rows = out.shape.rows() / pictures;
  const EpilogueParams rest{.bias = bias != nullptr ? bias->data.as<float>() : nullptr,
                            .add = channels(e.add),
                            .gate = channels(e.gate),
                            .residual = nullptr,
                            .act = e.act};
  gpu_.launch(choose_finish(out.dtype, rows * outs, pictures),
              FinishParams{.out = out.data, .rows = kernel_int(rows), .outs = kernel_int(outs), .epilogue = rest});
}

void Libraries::choose(LibraryUse wanted, const char* verb, const std::string& key, const View& out, const Own& own,
                       const Own& library) {
  if (!is_library(wanted, key, out, own, library)) return own(out);
  served_[verb].insert(key);
  library(out);
}

bool Libraries::is_library(LibraryUse wanted, const std::string& key, const View& out, const Own& own, const Own& library) {
  if (wanted != LibraryUse::automatic) return wanted == LibraryUse::always;
  std::optional<Figures> figures = tuning_.find(key);
  if (!figures && providers_.tune && !gpu_.recording()) {
    figures = {seconds(out, own) * 1e6, seconds(out, library) * 1e6};
    log(LogLevel::info, "measured {}: ours {:.1f} us, the library's {:.1f} us", key, figures->own_us, figures->library_us);
    tuning_.add(key, *figures);
    tuning_.write(tuning_file(gpu_.model()));
  }
  return figures && figures->library_us < figures->own_us;
}

// The best of a few runs, into memory that nobody reads: `out` may be what the call adds to. In a recording, as steps are: what
// the host does for a call is no part of it.
double Libraries::seconds(const View& like, const Own& body) {
  const auto release = [this](void* at) { gpu_.release(at); };
  const std::unique_ptr<void, decltype(release)> scratch(gpu_.allocate(like.bytes()), release);
  const View to(scratch.get(), like.dtype, like.shape);
  body(to);  // plans are made and code is loaded here
  const double once = gpu_.seconds([&] { body(to); });
  const int calls = std::clamp(static_cast<int>(kSecondsOfARun / std::max(once, 1e-9)), 1, kCallsInARun);
  const std::unique_ptr<Replay> recording = gpu_.record([&] {
    for (int call = 0; call < calls; call++) body(to);
  });
  double best = once;
  for (int run = 0; run < kRuns; run++) best = std::min(best, gpu_.seconds([&] { recording->run(); }) / calls);
  return std::max(best, 1e-9);  // the clock of a card has steps
}

std::string Libraries::used() const {
  std::string blas, dnn;
  for (const auto& [verb, keys] : served_) {
    std::string& list = verb == "linear" ? blas : dnn;
    list += fmt::format("{}{} {}", list.empty() ? "" : ", ", keys.size(), verb);
  }
  if (!blas.empty()) blas = fmt::format("cuBLASLt {} ({})", matmul_->version(), blas);
  if (!dnn.empty()) dnn = fmt::format("cuDNN {} ({})", dnn_->version(), dnn);
  return blas + (blas.empty() || dnn.empty() ? "" : "; ") + dnn;
}

}  // namespace cudream
