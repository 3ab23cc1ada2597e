// The trace of a run, for checks: token ids, text states, every step's latent and the picture, in one safetensors file.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "loader/safetensors.h"

namespace cudream {

class Trace {
 public:
  void add(const std::string& name, std::vector<uint64_t> shape, std::span<const float> values);
  void add(const std::string& name, std::vector<uint64_t> shape, std::span<const int32_t> values);
  // Adds one row to a tensor that grows along a new first axis: the latents of the steps.
  void append(const std::string& name, std::vector<uint64_t> row_shape, std::span<const float> values);
  void write(const std::filesystem::path&, Exists) const;

 private:
  struct Entry {
    FileType type = FileType::f32;
    std::vector<uint64_t> shape;
    std::vector<std::byte> bytes;
  };
  std::map<std::string, Entry> entries_;
};

}  // namespace cudream
