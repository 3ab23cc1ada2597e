// Requests, cursors and the common layers.
#include "kernels/weight.h"

#include <algorithm>

#include "core/error.h"

namespace cudream {

int64_t WeightLayout::device_bytes() const {
  int64_t sum = 0, most = 0;
  for (const auto& [name, bytes] : parts) {
    sum += bytes;
    most = std::max(most, bytes);
  }
  return in_turn ? most : sum;
}

int64_t WeightLayout::host_bytes() const {
  int64_t sum = 0;
  for (const auto& [name, bytes] : parts) sum += bytes;
  return in_turn ? sum : 0;
}

std::string part_of(std::string_view name) {
  std::string_view part = name.substr(0, name.find('.'));
  if (part.ends_with("_2")) part.remove_suffix(2);
  return std::string(part);
}

WeightStore::~WeightStore() {
  for (const auto& [slab, bytes] : slabs_) device_->release(slab, bytes);
  for (const auto& [part, at] : aside_) device_->release_host(at);
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

WeightLayout WeightStore::lay_out(const Device& device, std::span<const StoredWeight> order, bool in_turn) const {
  WeightLayout layout{.offsets = std::vector<int64_t>(requests_.size()), .in_turn = in_turn};
  int64_t all = 0;
  for (const auto& [request, type] : order) {
    const Weight& w = requests_[request].weight;
    const int64_t bytes = (device.packed_bytes(w.use, type, w.shape) + kBlockAlign - 1) / kBlockAlign * kBlockAlign;
    int64_t& part = layout.parts[part_of(w.name)];
    layout.offsets[request] = in_turn ? part : all;
    part += bytes;
    all += bytes;
  }
  return layout;
}

void WeightStore::reserve(Device& device, WeightLayout layout) {
  invariant(slabs_.empty(), "a store is laid out twice");
  device_ = &device;
  layout_ = std::move(layout);
  slabs_.emplace_back(device.allocate(layout_.device_bytes()), layout_.device_bytes());
  slab_ = static_cast<std::byte*>(slabs_.back().first);
  if (!layout_.in_turn) return;
  for (const auto& [part, bytes] : layout_.parts) aside_[part] = static_cast<std::byte*>(device.allocate_host(bytes));
}

void WeightStore::fill(size_t i, DType stored, const RawBytes& raw) {
  Weight& w = requests_[i].weight;
  invariant(!w.data && slab_ != nullptr, "weight {} is filled twice, or has no place", w.name);
  Weight packed = device_->prepack(w.use, stored, w.shape, raw, slab_ + layout_.offsets[i]);
  packed.name = w.name;
  w = std::move(packed);
}

void WeightStore::fill(size_t i, Device& device, DType stored, std::span<const std::byte> raw) {
  Weight& w = requests_[i].weight;
  invariant(!w.data, "weight {} is filled twice", w.name);
  device_ = &device;
  Weight packed = device.prepack(w.use, stored, w.shape, raw);
  slabs_.emplace_back(packed.data.data, device.packed_bytes(w.use, stored, w.shape));
  packed.name = w.name;
  w = std::move(packed);
}

void WeightStore::put_aside(const std::string& part) {
  if (!layout_.in_turn) return;
  const int64_t bytes = layout_.parts.at(part);
  device_->download({aside_.at(part), static_cast<size_t>(bytes)}, View(slab_, DType::u8, {bytes}));
  present_ = part;
}

void WeightStore::bring(const std::string& part) {
  if (!layout_.in_turn || present_ == part) return;
  const int64_t bytes = layout_.parts.at(part);
  device_->upload(View(slab_, DType::u8, {bytes}), {aside_.at(part), static_cast<size_t>(bytes)});
  present_ = part;
}

void WeightStore::refill(size_t i, DType stored, const RawBytes& raw) {
  requests_[i].weight.data = {};
  fill(i, stored, raw);
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

Conv conv(const Weights& w, int64_t in, int64_t out, int64_t kernel, bool bias) {
  return {w.get("weight", Use::conv, {out, in, kernel, kernel}), bias ? w.get("bias", Use::vector, {out}) : nullptr};
}

Norm norm(const Weights& w, int64_t channels, float eps) {
  return {w.get("weight", Use::vector, {channels}), w.get("bias", Use::vector, {channels}), eps};
}

}  // namespace cudream
