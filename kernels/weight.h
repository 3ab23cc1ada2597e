// The weight store: networks say what they need while they are constructed, the loader fills it, the device packs it.
#pragma once

#include <deque>
#include <initializer_list>
#include <map>
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

// A request and the type its bytes are stored in.
struct StoredWeight {
  size_t request = 0;
  DType type = DType::f32;
};

// Where the weights of a model lie on a device, decided before any is read. All in one slab, or in turn: the slab has room for
// the largest part, and the parts wait in the host's memory.
struct WeightLayout {
  std::map<std::string, int64_t> parts;  // bytes of text_encoder (all of them), unet, vae
  std::vector<int64_t> offsets;          // of each request, in the slab
  bool in_turn = false;
  int64_t device_bytes() const;
  int64_t host_bytes() const;
};

// The part that a canonical name belongs to: "text_encoder_2.text_model..." -> "text_encoder".
std::string part_of(std::string_view name);

// Owns the weights of one model on one device. Requests are noted while networks are constructed, then laid out and filled.
class WeightStore {
 public:
  WeightStore() = default;
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;
  ~WeightStore();

  Weights root();
  const std::deque<WeightRequest>& requests() const { return requests_; }

  // One after another in this order, which is that of filling. In turn: each part begins at the slab's start.
  WeightLayout lay_out(const Device& device, std::span<const StoredWeight> order, bool in_turn) const;
  // Takes the memory. The device must outlive this. Throws Error(out_of_memory).
  void reserve(Device& device, WeightLayout layout);
  // Packs the bytes of the i-th request (row-major, the whole joined weight) into its place.
  void fill(size_t i, DType stored, const RawBytes& raw);
  // The same for a request that is filled already. In turn: its part is on the device, and is put aside again afterwards.
  void refill(size_t i, DType stored, const RawBytes& raw);
  // In turn: the part that was filled last is complete and waits in the host's memory from now on.
  void put_aside(const std::string& part);
  // In turn: makes this the part on the device. Otherwise all are there.
  void bring(const std::string& part);
  const WeightLayout& layout() const { return layout_; }

  // For tests of single weights: packs into a slab of its own.
  void fill(size_t i, Device& device, DType stored, std::span<const std::byte> raw);

 private:
  friend class Weights;
  const Weight* request(std::vector<std::string> parts, Use use, const Shape& part_shape);
  std::deque<WeightRequest> requests_;  // a deque: networks keep pointers
  Device* device_ = nullptr;
  WeightLayout layout_;
  std::vector<std::pair<void*, int64_t>> slabs_;  // and their bytes
  std::byte* slab_ = nullptr;                     // of the layout
  std::map<std::string, std::byte*> aside_;       // in turn: the parts in the host's memory
  std::string present_;                           // in turn: the part on the device
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
Conv conv(const Weights& w, int64_t in, int64_t out, int64_t kernel, bool bias = true);
Norm norm(const Weights& w, int64_t channels, float eps);

}  // namespace cudream
