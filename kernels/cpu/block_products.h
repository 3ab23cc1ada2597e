// Products and convolutions by oneDNN: weights packed in slices of output channels, work cut into blocks of rows.
//
// Slices keep the weights in use inside one core's second-level cache, and let a thread use them for every picture of a
// batch before it reads the next ones.
#pragma once

#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/primitives.h"
#include "kernels/cpu/products.h"

namespace cudream {

class BlockProducts final : public Products {
 public:
  BlockProducts(DType compute, const Kernels& kernels, Team& team);

  int64_t packed_bytes(Use use, const Shape& shape) const override;
  Weight pack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) override;
  void linear(const View& out, const View& x, const Linear& l, const Epilogue& e) override;
  void geglu(const View& out, const View& x, const Linear& l) override;
  void conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& args) override;

 private:
  PackedWeight slices_of(Use use, const Shape& shape) const;
  struct Layer;
  struct Block;
  struct Call;
  Layer product_layer(const View& out, const View& x, const Weight& w) const;
  Call call_for(const PackedWeight& w, const PackedWeight::Slice& slice, const BlockShape& shape);
  void run(Layer& layer);
  void run_block(const Layer& layer, int64_t slice, int64_t picture, int64_t block, int thread);
  void finish(const Layer& layer, int64_t picture, int64_t first, std::byte* y, int64_t rows, const PackedWeight::Slice& s);
  void upsample(std::byte* to, const Layer& layer, int64_t picture, const Block& b) const;

  DType compute_;
  const Kernels& kernels_;
  Team& team_;
  mutable Primitives primitives_;
};

}  // namespace cudream
