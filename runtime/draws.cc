// Seeded and recorded noise.
#include "runtime/draws.h"

#include "core/error.h"

namespace cudream {

SeededDraws::SeededDraws(const std::string& rng, uint64_t seed, int batch) {
  for (int i = 0; i < batch; i++) sources_.push_back(make_noise_source(rng, seed + static_cast<uint64_t>(i)));
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

}  // namespace cudream
