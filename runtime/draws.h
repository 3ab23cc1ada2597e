// Every random number of a run, in the order the reference draws them: from seeds, or from a file for checks.
#pragma once

#include <filesystem>
#include <memory>
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

// Picture i of a batch draws from a generator of its own, seeded with seed + i: it draws what it would draw alone.
class SeededDraws : public Draws {
 public:
  SeededDraws(const std::string& rng, uint64_t seed, int batch);
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

}  // namespace cudream
