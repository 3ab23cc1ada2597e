// Seeded and recorded noise.
#include "runtime/draws.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"

namespace cudream {

SeededDraws::SeededDraws(const std::string& rng, std::span<const uint64_t> seeds) {
  for (const uint64_t seed : seeds) sources_.push_back(make_noise_source(rng, seed));
}

std::vector<float> SeededDraws::draw(const Shape& nchw) {
  invariant(nchw[0] == static_cast<int64_t>(sources_.size()), "noise for {} pictures of {}", nchw[0], sources_.size());
  std::vector<float> all;
  for (const auto& source : sources_) {
    const std::vector<float> one = source->normal(nchw.size() / nchw[0]);
    all.insert(all.end(), one.begin(), one.end());
  }
  return all;
}

std::vector<float> FileDraws::draw(const Shape& nchw) {
  const TensorInfo& tensor = file_.at(fmt::format("noise.{}", next_++));
  const bool fits = tensor.shape.size() == 4 && std::equal(tensor.shape.begin(), tensor.shape.end(), nchw.n.begin(),
                                                           [](uint64_t a, int64_t b) { return a == static_cast<uint64_t>(b); });
  if (!fits)
    throw fail(Code::bad_file, "{}: {} is {}, but this run draws {}", file_.path().string(), tensor.name, tensor.str(),
               nchw.str());
  return file_.floats(tensor);
}

std::vector<float> varied(std::span<const float> noise, std::span<const float> other, double strength, const Shape& nchw) {
  if (strength >= 1) return {other.begin(), other.end()};
  std::vector<float> out(noise.size());
  const auto height = static_cast<size_t>(nchw[2]), width = static_cast<size_t>(nchw[3]);
  for (size_t channel = 0; channel < noise.size(); channel += height * width)
    for (size_t x = 0; x < width; x++) {
      double a = 0, b = 0, ab = 0;
      for (size_t i = channel + x; i < channel + height * width; i += width) {
        a += static_cast<double>(noise[i]) * noise[i];
        b += static_cast<double>(other[i]) * other[i];
        ab += static_cast<double>(noise[i]) * other[i];
      }
      const double angle = std::acos(std::clamp(ab / std::sqrt(a * b), -1.0, 1.0)), whole = std::sin(angle);
      const bool parallel = std::abs(whole) < 1e-6;  // also columns of one value: there is no arc to go along
      const double from = parallel ? 1 - strength : std::sin((1 - strength) * angle) / whole;
      const double to = parallel ? strength : std::sin(strength * angle) / whole;
      for (size_t i = channel + x; i < channel + height * width; i += width)
        out[i] = static_cast<float>(from * noise[i] + to * other[i]);
    }
  return out;
}

}  // namespace cudream
