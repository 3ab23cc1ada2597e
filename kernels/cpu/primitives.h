// oneDNN's primitives, each for one block on one thread, kept by shape.
//
// oneDNN never sees more than one block: it would choose and split by batch and by threads, and bytes would move with both.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <dnnl.hpp>
#include <map>
#include <memory>
#include <vector>

#include "core/types.h"

namespace cudream {

// A product of rows, x [height, in] W + bias, or a convolution of some rows of one picture, x [height, width, in].
// Inputs and outputs are dense.
struct BlockShape {
  int64_t in = 0, out = 0;  // channels
  int64_t height = 1, width = 1, out_height = 1, out_width = 1;
  int64_t kernel = 0, stride = 1;  // kernel 0: a product
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  DType type = DType::f32, out_type = DType::f32;
  bool bias = false;
  auto operator<=>(const BlockShape&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 takes <=> for a 0
};

// One primitive, and for each thread the handles it fills in.
class Primitive {
 public:
  Primitive(const dnnl::primitive_desc_base& desc, const dnnl::primitive& primitive, const dnnl::engine& engine, int threads);
  int64_t scratch_bytes() const { return scratch_bytes_; }
  void run(int thread, const void* x, const void* weights, const float* bias, void* out, void* scratch);

 private:
  struct Handles {
    dnnl::stream stream;
    std::vector<dnnl::memory> memories;  // x, weights, bias, out, scratch
    std::vector<dnnl_exec_arg_t> args;
  };
  dnnl::primitive primitive_;
  int64_t scratch_bytes_ = 0;
  std::vector<Handles> handles_;
};

class Primitives {
 public:
  explicit Primitives(int threads) : threads_(threads) {}

  // The layout of weights that this block is fastest with.
  dnnl::memory::desc preferred_weights(const BlockShape& shape);
  // Made on first use. Null: oneDNN has only its reference code for this block with weights in this layout.
  Primitive* find(const BlockShape& shape, const dnnl::memory::desc& weights);
  // From one layout to another, on the calling thread.
  void reorder(const dnnl::memory::desc& from, const void* source, const dnnl::memory::desc& to, void* target);
  // Dense row-major [out, in] (kernel 0) or [out, in, kernel, kernel].
  static dnnl::memory::desc dense_weights(DType type, int64_t out, int64_t in, int64_t kernel);

 private:
  struct Entry {
    BlockShape shape;
    dnnl::memory::desc weights;
    std::unique_ptr<Primitive> primitive;
  };
  int threads_;
  dnnl::engine engine_{dnnl::engine::kind::cpu, 0};
  std::map<BlockShape, dnnl::memory::desc> preferred_;
  std::map<BlockShape, std::vector<Entry>> made_;  // one entry for each layout of weights it was asked for
};

}  // namespace cudream
