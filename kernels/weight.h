// The weight store: networks say what they need while they are constructed, the loader fills it, the device packs it.
#pragma once

#include <deque>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device.h"

namespace cudream {

// One weight that a network asked for. `parts` are the canonical names of the stored tensors it is made of, joined along
// axis 0 (q, k and v of one attention become one matrix); `shape` is that of the whole.
struct WeightRequest {
  std::vector<std::string> parts;
  Shape part_shape;  // of each part, all alike
  Weight weight;     // filled by fill()
};

class Weights;

// Owns the weights of one model on one device. Requests are noted while networks are constructed, then filled in any order.
class WeightStore {
 public:
  WeightStore() = default;
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;
  ~WeightStore();

  Weights root();
  const std::deque<WeightRequest>& requests() const { return requests_; }
  // Packs the raw bytes (row-major, the whole joined weight) of the i-th request onto the device, which must outlive this.
  void fill(size_t i, Device& device, DType stored, std::span<const std::byte> raw);
  int64_t bytes() const;  // on the device

 private:
  friend class Weights;
  const Weight* request(std::vector<std::string> parts, Use use, const Shape& part_shape);
  std::deque<WeightRequest> requests_;  // a deque: networks keep pointers
  Device* device_ = nullptr;
};

// A cursor into canonical names: w / "down_blocks" / 0 / "resnets" / 1.
class Weights {
 public:
  Weights(WeightStore& store, std::string path) : store_(&store), path_(std::move(path)) {}
  Weights operator/(std::string_view name) const;
  Weights operator/(int index) const { return *this / std::to_string(index); }

  // The tensor named path.leaf, with the shape it has in a file.
  const Weight* get(std::string_view leaf, Use use, const Shape& shape) const;
  // Several tensors of one shape, packed one below the other: path.<name>.<leaf> for each name.
  const Weight* join(std::initializer_list<std::string_view> names, std::string_view leaf, Use use, const Shape& shape) const;

 private:
  WeightStore* store_;
  std::string path_;
};

// The common layers. `w` is the layer's own place: linear(w / "to_q", in, out) asks for to_q.weight and to_q.bias.
Linear linear(const Weights& w, int64_t in, int64_t out, bool bias = true, Use use = Use::linear);
Linear joined_linear(const Weights& w, std::initializer_list<std::string_view> names, int64_t in, int64_t out_each, bool bias);
Conv conv(const Weights& w, int64_t in, int64_t out, int64_t kernel);
Norm norm(const Weights& w, int64_t channels, float eps);

}  // namespace cudream
