// Golden data of the runtime's tests: JSON and tensors from tests/runtime/data, and the distance the tolerances are in.
#pragma once

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "core/file.h"
#include "loader/safetensors.h"

namespace cudream {

inline std::filesystem::path data_path(const std::string& name) {
  return std::filesystem::path(CUDREAM_SOURCE_DIR) / "tests/runtime/data" / name;
}

inline nlohmann::json golden_json(const std::string& name) {
  return nlohmann::json::parse(read_text(data_path(name), size_t{1} << 24));
}

// |got - want| / |want| over all elements; infinite when they cannot be compared.
inline double relative_l2(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size()) return INFINITY;
  double difference = 0, norm = 0;
  for (size_t i = 0; i < got.size(); i++) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return norm > 0 ? std::sqrt(difference / norm) : (difference > 0 ? INFINITY : 0);
}

inline double largest_difference(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < got.size(); i++) largest = std::fmax(largest, std::abs(static_cast<double>(got[i]) - want[i]));
  return largest;
}

}  // namespace cudream
