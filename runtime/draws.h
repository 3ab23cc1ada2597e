// Every random number of a run, in the order the reference draws them: from seeds, or from a file for checks.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/types.h"
#include "loader/safetensors.h"
#include "runtime/rng.h"

namespace cudream {

class Draws {
 public:
  virtual ~Draws() = default;
  // Unit normal values for a batch of latents, [N,C,h,w] in that order, as the reference lays them out.
  virtual std::vector<float> draw(const Shape& nchw) = 0;
};

// Picture i of a batch draws from a generator of its own: it draws what it would draw alone.
class SeededDraws : public Draws {
 public:
  SeededDraws(const std::string& rng, std::span<const uint64_t> seeds);
  std::vector<float> draw(const Shape& nchw) override;

 private:
  std::vector<std::unique_ptr<NoiseSource>> sources_;
};

// Draw k is the tensor "noise.k" of a safetensors file. Throws Error(bad_file) when it is absent or of another shape.
class FileDraws : public Draws {
 public:
  explicit FileDraws(const std::filesystem::path& path) : file_(path) {}
  std::vector<float> draw(const Shape& nchw) override;

 private:
  SafetensorsFile file_;
  int next_ = 0;
};

// The noise of a seed turned by `strength` towards that of another: spherical interpolation ("Animating rotation with quaternion
// curves", Shoemake 1985) of the columns of each channel, as A1111's variations do it. Both are [N,C,h,w].
std::vector<float> varied(std::span<const float> noise, std::span<const float> other, double strength, const Shape& nchw);

}  // namespace cudream
