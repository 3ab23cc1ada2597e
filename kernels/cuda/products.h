// linear, geglu and conv2d on one GPU: makes a Product of a call, asks who serves it (product.h), and launches.
#pragma once

#include "kernels/cuda/args.h"
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/product.h"
#include "kernels/device.h"

namespace cudream {

class Products {
 public:
  // Takes the workspace of split sums, unless `compute` is f32, which tiles do not serve. The GPU must outlive this.
  Products(Gpu& gpu, DType compute);
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  void linear(View out, View x, const Linear&, const Epilogue&);
  void joined_linear(View out, View x, View x2, const Linear&, const Epilogue&);
  void geglu(View out, View x, const Linear&);
  void conv2d(View out, View x, const Conv&, const ConvArgs&);

 private:
  void rows(Product::Kind, View out, View x, const Linear&, const Epilogue&);
  template <typename Params>
  void launch_tiles(const Product&, Params);
  ProductParams product_params(const Product&, View out, const Weight* w, const Weight* bias, const Epilogue&) const;

  Gpu& gpu_;
  float* shares_ = nullptr;
  unsigned* arrived_ = nullptr;  // behind the shares
};

}  // namespace cudream
