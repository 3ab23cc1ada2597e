// Values from a table, and the ways there and back.
#include "tests/kernels/verb_stage.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/half.h"

namespace cudream {
namespace {

// The i-th value of a stream: about normal (the sum of four uniform numbers), standard deviation 1, exact in bf16. From a
// table, since the largest cases have a hundred million values; its prime length keeps rows and channels out of step.
float value_at(uint32_t seed, int64_t i, float mean, float deviation) {
  constexpr size_t kLength = 65521;
  static const std::vector<float> kTable = [] {
    std::mt19937 random(1);
    std::vector<float> table(kLength);
    for (float& v : table)
      for (int part = 0; part < 4; part++) v += (static_cast<float>(random()) * 0x1p-32f - 0.5f) * 1.7320508f;
    return table;
  }();
  return static_cast<float>(bf16(mean + deviation * kTable[(seed * 7919u + static_cast<size_t>(i)) % kLength]));
}

Shape with_pictures(int64_t pictures, const Shape& one) {
  Shape all;
  all.rank = one.rank + 1;
  all.n[0] = pictures;
  for (int i = 0; i < one.rank; i++) all.n[static_cast<size_t>(i) + 1] = one[i];
  return all;
}

}  // namespace

VerbStage::~VerbStage() {
  for (const Weight& w : weights_) device_.release(w.data.data, w.data.bytes());
  for (const Block& b : blocks_) device_.release(b.at, b.bytes);
}

View VerbStage::make(const Shape& shape, DType type) {
  const int64_t bytes = shape.size() * size_of(type);
  blocks_.push_back({device_.allocate(bytes), bytes});
  return View(blocks_.back().at, type, shape);
}

View VerbStage::filled(const Shape& shape, DType type, const std::vector<float>& values) {
  const View view = make(shape, type);
  if (type == DType::f32) {
    device_.upload(view, std::as_bytes(std::span(values)));
  } else {
    std::vector<uint16_t> narrow;
    narrow.reserve(values.size());
    for (const float v : values) narrow.push_back(type == DType::f16 ? f16(v).bits : bf16(v).bits);
    device_.upload(view, std::as_bytes(std::span(narrow)));
  }
  return view;
}

View VerbStage::input(const Shape& one, DType type, float mean) {
  const uint32_t seed = next_seed_++;
  std::vector<float> values;
  for (int64_t p = 0; p < pictures_; p++)
    for (int64_t i = 0; i < one.size(); i++) values.push_back(value_at(seed, (first_ + p) * one.size() + i, mean, 1));
  if (poisoned_ && seed == 1)
    for (int64_t p = 1; p <= pictures_; p++)
      values[static_cast<size_t>(p * one.size() - 1)] = std::numeric_limits<float>::quiet_NaN();
  return filled(with_pictures(pictures_, one), type, values);
}

View VerbStage::shared_input(const Shape& all, DType type) {
  const uint32_t seed = next_seed_++;
  std::vector<float> values;
  for (int64_t i = 0; i < all.size(); i++) values.push_back(value_at(seed, i, 0, 1));
  return filled(all, type, values);
}

View VerbStage::integers(const Shape& all, const std::vector<int32_t>& values) {
  const View view = make(all, DType::i32);
  device_.upload(view, std::as_bytes(std::span(values)));
  return view;
}

View VerbStage::output(const Shape& one, DType type) {
  return make(with_pictures(pictures_, one), type);
}

const Weight* VerbStage::weight(Use use, const Shape& shape) {
  const uint32_t seed = next_seed_++;
  const int64_t fan_in = shape.size() / shape[0];
  const float deviation = 1 / std::sqrt(static_cast<float>(fan_in));
  std::vector<float> values;
  for (int64_t i = 0; i < shape.size(); i++) values.push_back(value_at(seed, i, 0, deviation));
  weights_.push_back(device_.prepack(use, DType::f32, shape, std::as_bytes(std::span(values))));
  return &weights_.back();
}

const Weight* VerbStage::vector(int64_t n, float mean) {
  const uint32_t seed = next_seed_++;
  std::vector<float> values;
  for (int64_t i = 0; i < n; i++) values.push_back(value_at(seed, i, mean, 0.5f));
  weights_.push_back(device_.prepack(Use::vector, DType::f32, {n}, std::as_bytes(std::span(values))));
  return &weights_.back();
}

Norm VerbStage::norm(int64_t channels, float eps) {
  const Weight* gain = vector(channels, 1);
  return {gain, vector(channels), eps};
}

std::vector<std::byte> bytes_of(Device& device, const View& x) {
  std::vector<std::byte> bytes(static_cast<size_t>(x.bytes()));
  device.download(bytes, x);
  return bytes;
}

std::vector<float> values_of(Device& device, const View& x) {
  std::vector<float> values;
  if (x.dtype == DType::f32) {
    values.resize(static_cast<size_t>(x.shape.size()));
    device.download(std::as_writable_bytes(std::span(values)), x);
    return values;
  }
  const std::vector<std::byte> bytes = bytes_of(device, x);
  for (size_t at = 0; at < bytes.size(); at += 2) {
    f16 half;
    bf16 brain;
    std::memcpy(x.dtype == DType::f16 ? &half.bits : &brain.bits, &bytes[at], 2);
    values.push_back(x.dtype == DType::f16 ? static_cast<float>(half) : static_cast<float>(brain));
  }
  return values;
}

std::vector<float> run_values(Device& device, const VerbCase& c, int64_t pictures, int64_t first) {
  VerbStage stage(device, pictures, first);
  const VerbRun made = c.prepare(stage);
  made.run();
  return values_of(device, made.out);
}

std::vector<std::byte> run_bytes(Device& device, const VerbCase& c, int64_t pictures, int64_t first) {
  VerbStage stage(device, pictures, first);
  const VerbRun made = c.prepare(stage);
  made.run();
  return bytes_of(device, made.out);
}

double relative_l2(const std::vector<float>& got, const std::vector<float>& want) {
  if (got.size() != want.size()) return std::numeric_limits<double>::infinity();
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i++) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / std::max(norm, 1e-30));
}

}  // namespace cudream
