// Noise on the host; see rng.h.
#include "runtime/rng.h"

#include <cmath>
#include <numbers>
#include <span>

#include "core/error.h"

namespace cudream {
namespace {

constexpr int64_t kBlock = 16;  // values that one Box-Muller block makes: eight cosines, then eight sines

// Uniform [0, 1) numbers in place -> unit normal ones (Box and Muller 1958). The first eight are radii, the others angles.
void to_normal(std::span<float, kBlock> block) {
  for (size_t i = 0; i < kBlock / 2; i++) {
    const double radius = std::sqrt(-2 * std::log(static_cast<double>(1 - block[i])));
    const double angle = 2 * std::numbers::pi * static_cast<double>(block[i + 8]);
    block[i] = static_cast<float>(radius * std::cos(angle));
    block[i + 8] = static_cast<float>(radius * std::sin(angle));
  }
}

}  // namespace

float TorchCpuNoise::uniform24() {
  return static_cast<float>(engine_() & 0xffffff) * 0x1p-24f;
}

double TorchCpuNoise::uniform53() {
  const uint64_t high = engine_(), low = engine_();
  return static_cast<double>(((high << 32) | low) & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
}

double TorchCpuNoise::scalar() {
  if (kept_) {
    const double value = *kept_;
    kept_.reset();
    return value;
  }
  const double angle = 2 * std::numbers::pi * uniform53();
  const double radius = std::sqrt(-2 * std::log1p(-uniform53()));
  kept_ = radius * std::sin(angle);
  return radius * std::cos(angle);
}

std::vector<float> TorchCpuNoise::normal(int64_t count) {
  std::vector<float> out(static_cast<size_t>(count));
  if (count < kBlock) {
    for (float& value : out) value = static_cast<float>(scalar());
    return out;
  }
  for (float& value : out) value = uniform24();
  const auto block = [&](int64_t from) { return std::span<float, kBlock>(out.data() + from, kBlock); };
  for (int64_t from = 0; from + kBlock <= count; from += kBlock) to_normal(block(from));
  if (count % kBlock != 0) {  // a ragged end: the last sixteen are drawn anew
    for (float& value : block(count - kBlock)) value = uniform24();
    to_normal(block(count - kBlock));
  }
  return out;
}

std::array<uint32_t, 4> philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; round++) {
    const uint64_t p0 = uint64_t{0xD2511F53} * counter[0], p1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(p1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(p0)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

std::vector<float> PhiloxNoise::normal(int64_t count) {
  // The uniform numbers are single precision, as on the GPU: their rounding shows in the angle.
  constexpr float kUnit = 0x1p-32f, kTurn = static_cast<float>(0x1p-32 * 2 * std::numbers::pi);
  const std::array key{static_cast<uint32_t>(seed_), static_cast<uint32_t>(seed_ >> 32)};
  std::vector<float> out(static_cast<size_t>(count));
  for (size_t i = 0; i < out.size(); i++) {
    const auto bits = philox4x32({draw_, 0, static_cast<uint32_t>(i), 0}, key);
    const float u = static_cast<float>(bits[0]) * kUnit + kUnit / 2;
    const float angle = static_cast<float>(bits[1]) * kTurn + kTurn / 2;
    const double radius = std::sqrt(-2 * std::log(static_cast<double>(u)));
    out[i] = static_cast<float>(radius * std::sin(static_cast<double>(angle)));
  }
  draw_++;
  return out;
}

std::unique_ptr<NoiseSource> make_noise_source(std::string_view name, uint64_t seed) {
  if (name == "torch-cpu") return std::make_unique<TorchCpuNoise>(seed);
  if (name == "philox") return std::make_unique<PhiloxNoise>(seed);
  throw fail(Code::usage, "--rng {}: no such generator; there are torch-cpu (what PyTorch draws on a CPU) and philox (on CUDA)",
             name);
}

}  // namespace cudream
