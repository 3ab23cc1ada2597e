// The loops of LayerNorm and GroupNorm.
#include "kernels/cpu/simd.h"
#include "kernels/cpu/simd_loops.h"

namespace cudream::CUDREAM_ISA {
namespace {

// Sums of up to kShort rows are kept in float before they are added to the doubles: short enough that their rounding does
// not show, long enough that the doubles cost nothing.
constexpr int64_t kShort = 32;

template <typename T>
void channel_sums_as(T type, double* sum, double* square, const In& x, const float* pivot, int64_t rows, int64_t channels) {
  const auto* p = elements(type, x);
  for (int64_t row = 0; row < rows; row += kShort) {
    const int64_t end = row + kShort < rows ? row + kShort : rows;
    for_lanes(channels, [&](int64_t c, int64_t lanes) {
      const Floats middle = load<F32>(pivot + c, lanes);
      Floats s{}, q{};
      for (int64_t r = row; r < end; r++) {
        const Floats d = load<T>(p + r * channels + c, lanes) - middle;
        s += d;
        q += d * d;
      }
      for (int64_t i = 0; i < lanes; i++) {
        sum[c + i] += static_cast<double>(s[i]);
        square[c + i] += static_cast<double>(q[i]);
      }
    });
  }
}

template <typename To, typename From, typename Body>
[[gnu::always_inline]] inline void normalize_as(To to, From from, const Out& out, const In& x, const float* middle,
                                                const float* scale, const float* shift, int64_t rows, int64_t channels,
                                                Body&& body) {
  auto* o = elements(to, out);
  const auto* p = elements(from, x);
  for (int64_t r = 0; r < rows; r++, o += channels, p += channels)
    for_lanes(channels, [&](int64_t c, int64_t lanes) {
      const Floats v =
          (load<From>(p + c, lanes) - load<F32>(middle + c, lanes)) * load<F32>(scale + c, lanes) + load<F32>(shift + c, lanes);
      store<To>(o + c, body(v), lanes);
    });
}

}  // namespace

void channel_sums(double* sum, double* square, In x, const float* pivot, int64_t rows, int64_t channels) {
  with_type(x.type, [&](auto type) { channel_sums_as(type, sum, square, x, pivot, rows, channels); });
}

void normalize(Out out, In x, const float* middle, const float* scale, const float* shift, int64_t rows, int64_t channels,
               Act a) {
  with_type(out.type, [&](auto to) {
    with_type(x.type, [&](auto from) {
      if (a == Act::silu) {
        normalize_as(to, from, out, x, middle, scale, shift, rows, channels,
                     [&](Floats v) { return activate(to, v, Act::silu); });
      } else {
        normalize_as(to, from, out, x, middle, scale, shift, rows, channels, [&](Floats v) { return activate(to, v, a); });
      }
    });
  });
}

void layer_norm(Out out, In x, const float* gain, const float* bias, float eps, int64_t channels) {
  with_type(x.type, [&](auto from) {
    using From = decltype(from);
    const auto* p = elements(from, x);
    const auto count = static_cast<float>(channels);
    Floats sum{};
    for_lanes(channels, [&](int64_t c, int64_t lanes) { sum += load<From>(p + c, lanes); });
    // The mean is rounded to float; what that leaves, `rest`, is the mean of the differences from it.
    const float mean = sum_of(sum) / count;
    Floats differences{}, squares{};
    for_lanes(channels, [&](int64_t c, int64_t lanes) {
      Floats d = load<From>(p + c, lanes) - mean;
      for (int64_t i = lanes; i < kLanes; i++) d[i] = 0;
      differences += d;
      squares += d * d;
    });
    const float rest = sum_of(differences) / count;
    const float scale = 1.0f / __builtin_sqrtf(sum_of(squares) / count - rest * rest + eps);
    with_type(out.type, [&](auto to) {
      auto* o = elements(to, out);
      for_lanes(channels, [&](int64_t c, int64_t lanes) {
        const Floats d = (load<From>(p + c, lanes) - mean - rest) * scale;
        store<decltype(to)>(o + c, d * load<F32>(gain + c, lanes) + load<F32>(bias + c, lanes), lanes);
      });
    });
  });
}

}  // namespace cudream::CUDREAM_ISA
