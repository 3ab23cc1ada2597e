// Products and convolutions, of which the device has two kinds: BlockProducts (oneDNN) and TileProducts (AMX).
//
// Both cut a layer into blocks that one thread computes whole, so the bytes do not depend on the number of threads. How
// BlockProducts cuts depends on the layer and one picture's rows alone, since oneDNN may sum in another order for another
// block; TileProducts sums in one order whatever the cut. So the bytes do not depend on the batch either.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/team.h"
#include "kernels/device.h"

namespace cudream {

class Products {
 public:
  virtual ~Products() = default;
  virtual int64_t packed_bytes(Use use, const Shape& shape) const = 0;
  virtual Weight pack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) = 0;
  virtual void linear(const View& out, const View& x, const Linear& l, const Epilogue& e) = 0;
  virtual void geglu(const View& out, const View& x, const Linear& l) = 0;
  virtual void conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& args) = 0;
};

std::unique_ptr<Products> make_block_products(DType compute, const Kernels& kernels, Team& team);
std::unique_ptr<Products> make_tile_products(const Kernels& kernels, Team& team);  // bf16

// One float per channel for each picture, or for all of them: a bias plus what an epilogue adds to it, or a gate.
class ChannelRows {
 public:
  ChannelRows() = default;
  ChannelRows(const Kernels& kernels, const Weight* bias, const View& add);
  const float* row(int64_t picture) const { return first_ == nullptr ? nullptr : first_ + picture * stride_; }

 private:
  std::vector<float> sums_;
  const float* first_ = nullptr;  // null: none
  int64_t stride_ = 0;            // from picture to picture
};

inline int64_t ceil_div(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
inline int64_t rounded_up(int64_t a, int64_t b) {
  return ceil_div(a, b) * b;
}
inline std::byte* offset(void* p, int64_t elements, DType type) {
  return static_cast<std::byte*>(p) + elements * size_of(type);
}

}  // namespace cudream
