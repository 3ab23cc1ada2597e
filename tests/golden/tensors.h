// Tensors recorded from the reference implementation: where they lie, and how ours are compared with them.
#pragma once

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "core/types.h"
#include "loader/safetensors.h"

namespace cudream {

// CUDREAM_GOLDEN names the whole set; the part that tests need lies here.
inline std::filesystem::path golden() {
  const char* given = std::getenv("CUDREAM_GOLDEN");
  return given != nullptr ? std::filesystem::path(given) : std::filesystem::path(CUDREAM_SOURCE_DIR "/tests/golden");
}

// A recorded run, without the suffixes of its files: "sdxl/txt2img_ddim5". Of the whole set, or of what is recorded beside it.
inline std::filesystem::path recorded_run(const std::string& run) {
  const std::filesystem::path whole = golden() / "golden" / run;
  if (std::filesystem::exists(whole.string() + ".safetensors")) return whole;
  return std::filesystem::path(CUDREAM_SOURCE_DIR "/tests/golden/golden") / run;
}

// A golden model: "sd1.safetensors", or a folder.
inline std::filesystem::path golden_model(const std::string& name) {
  const std::filesystem::path here = golden() / "models" / name;
  return std::filesystem::exists(here) ? here : std::filesystem::path(CUDREAM_BINARY_DIR "/golden/models") / name;
}

inline Shape shape_of(const TensorInfo& t) {
  Shape s;
  for (const uint64_t d : t.shape) s.n[static_cast<size_t>(s.rank++)] = static_cast<int64_t>(d);
  return s;
}

// [N,C,H,W] -> [N,H,W,C]; other ranks as they are.
inline Shape channels_last(const Shape& s) {
  return s.rank == 4 ? Shape{s[0], s[2], s[3], s[1]} : s;
}
inline std::vector<float> channels_last(const std::vector<float>& x, const Shape& s) {
  if (s.rank != 4) return x;
  std::vector<float> y(x.size());
  const int64_t pixels = s[2] * s[3];
  for (int64_t i = 0; i < s.size(); i++) {
    const int64_t n = i / (s[1] * pixels), c = i / pixels % s[1], p = i % pixels;
    y[static_cast<size_t>((n * pixels + p) * s[1] + c)] = x[static_cast<size_t>(i)];
  }
  return y;
}

// |got - want| / |want| over the whole tensor; infinite when they cannot be compared.
inline double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i++) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / norm);
}

}  // namespace cudream
