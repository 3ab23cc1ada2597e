// Requests, cursors and the common layers.
#include "kernels/weight.h"

#include "core/error.h"

namespace cudream {

WeightStore::~WeightStore() {
  for (WeightRequest& r : requests_)
    if (r.weight.data) device_->release(r.weight.data.data, r.weight.data.bytes());
}

Weights WeightStore::root() {
  return Weights(*this, "");
}

const Weight* WeightStore::request(std::vector<std::string> parts, Use use, const Shape& part_shape) {
  WeightRequest& r = requests_.emplace_back();
  r.parts = std::move(parts);
  r.part_shape = part_shape;
  r.weight.name = r.parts.front();
  r.weight.use = use;
  r.weight.shape = part_shape.with(0, part_shape[0] * static_cast<int64_t>(r.parts.size()));
  return &r.weight;
}

void WeightStore::fill(size_t i, Device& device, DType stored, std::span<const std::byte> raw) {
  Weight& w = requests_[i].weight;
  invariant(!w.data && (device_ == nullptr || device_ == &device), "weight {} is filled twice", w.name);
  device_ = &device;
  Weight packed = device.prepack(w.use, stored, w.shape, raw);
  packed.name = w.name;
  w = std::move(packed);
}

int64_t WeightStore::bytes() const {
  int64_t sum = 0;
  for (const WeightRequest& r : requests_) sum += r.weight.data.bytes();
  return sum;
}

Weights Weights::operator/(std::string_view name) const {
  return Weights(*store_, path_.empty() ? std::string(name) : path_ + "." + std::string(name));
}

const Weight* Weights::get(std::string_view leaf, Use use, const Shape& shape) const {
  return store_->request({(*this / leaf).path_}, use, shape);
}

const Weight* Weights::join(std::initializer_list<std::string_view> names, std::string_view leaf, Use use,
                            const Shape& shape) const {
  std::vector<std::string> parts;
  for (const std::string_view name : names) parts.push_back((*this / name / leaf).path_);
  return store_->request(std::move(parts), use, shape);
}

Linear linear(const Weights& w, int64_t in, int64_t out, bool bias, Use use) {
  return {w.get("weight", use, {out, in}), bias ? w.get("bias", Use::vector, {out}) : nullptr};
}

Linear joined_linear(const Weights& w, std::initializer_list<std::string_view> names, int64_t in, int64_t out_each, bool bias) {
  return {w.join(names, "weight", Use::linear, {out_each, in}), bias ? w.join(names, "bias", Use::vector, {out_each}) : nullptr};
}

Conv conv(const Weights& w, int64_t in, int64_t out, int64_t kernel) {
  return {w.get("weight", Use::conv, {out, in, kernel, kernel}), w.get("bias", Use::vector, {out})};
}

Norm norm(const Weights& w, int64_t channels, float eps) {
  return {w.get("weight", Use::vector, {channels}), w.get("bias", Use::vector, {channels}), eps};
}

}  // namespace cudream
