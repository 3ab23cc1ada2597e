// Products and convolutions: weights packed in slices of output channels, work cut into blocks of rows.
//
// A block (one slice, some rows of one picture) is computed by one thread, and how a layer is cut depends on the layer and
// one picture's rows alone. So the bytes depend neither on the number of threads nor on the batch, whatever oneDNN does
// inside a block. Slices keep the weights in use inside one core's second-level cache, and let a thread use them for every
// picture of a batch before it reads the next ones.
#pragma once

#include <span>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/primitives.h"
#include "kernels/cpu/team.h"
#include "kernels/device.h"

namespace cudream {

class Products {
 public:
  Products(DType compute, const Kernels& kernels, Team& team, PagePool& memory);

  Weight pack(Use use, DType stored, const Shape& shape, std::span<const std::byte> raw);
  void linear(const View& out, const View& x, const Linear& l, const Epilogue& e);
  void geglu(const View& out, const View& x, const Linear& l);
  void conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& args);

 private:
  struct Layer;
  struct Block;
  struct Call;
  Layer product_layer(const View& out, const View& x, const Weight& w) const;
  void set_bias(Layer& layer, const Weight* bias, const View& add);
  Call call_for(const PackedWeight& w, const PackedWeight::Slice& slice, const BlockShape& shape);
  void run(Layer& layer);
  void run_block(const Layer& layer, int64_t slice, int64_t picture, int64_t block, int thread);
  void finish(const Layer& layer, int64_t picture, int64_t first, std::byte* y, int64_t rows, const PackedWeight::Slice& s);
  void upsample(std::byte* to, const Layer& layer, int64_t picture, const Block& b) const;

  DType compute_;
  const Kernels& kernels_;
  Team& team_;
  PagePool& memory_;
  Primitives primitives_;
};

}  // namespace cudream
