// Noise on the host: one seed gives the same numbers whatever device runs the networks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string_view>
#include <vector>

namespace cudream {

// Draws of unit normal numbers. Draw k depends on the seed and on the sizes of the draws before it.
class NoiseSource {
 public:
  virtual ~NoiseSource() = default;
  virtual std::vector<float> normal(int64_t count) = 0;
};

// What a PyTorch generator on the CPU draws: mt19937 (Matsumoto and Nishimura 1998) seeded with the low 32 bits of `seed`,
// then Box-Muller over blocks of sixteen, or in double, value by value, for fewer than sixteen.
class TorchCpuNoise : public NoiseSource {
 public:
  explicit TorchCpuNoise(uint64_t seed) : engine_(static_cast<uint32_t>(seed)) {}
  std::vector<float> normal(int64_t count) override;

 private:
  float uniform24();
  double uniform53();
  double scalar();

  std::mt19937 engine_;
  std::optional<double> kept_;  // the second value of a scalar pair, for the next draw
};

// What a PyTorch generator on CUDA draws while every element has a thread of its own (about 2e5 elements): Philox4x32-10
// ("Parallel random numbers: as easy as 1, 2, 3", Salmon et al. 2011), key = seed, counter = (draw, 0, element, 0).
class PhiloxNoise : public NoiseSource {
 public:
  explicit PhiloxNoise(uint64_t seed) : seed_(seed) {}
  std::vector<float> normal(int64_t count) override;

 private:
  uint64_t seed_;
  uint32_t draw_ = 0;
};

// Ten rounds of Philox4x32.
std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// "torch-cpu" or "philox"; anything else is Error(usage).
std::unique_ptr<NoiseSource> make_noise_source(std::string_view name, uint64_t seed);

}  // namespace cudream
