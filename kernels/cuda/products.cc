// From a verb's views to launches.
#include "kernels/cuda/products.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "kernels/cuda/lattice.h"

namespace cudream {
namespace {

constexpr int64_t kCounters = kSharesBytes / (2 * kTile64x64.rows * kTile64x64.cols * 4);

PerChannel per_channel(const View& v) {
  return {v.data, v.shape[0] == 1 ? 0 : v.stride[0], v.dtype};
}

const float* vector(const Weight* w) {
  return w == nullptr ? nullptr : w->data.as<float>();
}

EpilogueParams epilogue(const Weight* bias, const Epilogue& e) {
  return {vector(bias), per_channel(e.add), per_channel(e.gate), e.residual.data, e.act};
}

bool aligned(const void* at, size_t bytes) {
  return reinterpret_cast<uintptr_t>(at) % bytes == 0;
}

// Whether four neighbours of `v` lie on an address that one access may have, in every row.
bool in_fours(const View& v, DType compute) {
  return !v || ((v.dtype == DType::f32 || v.dtype == compute) && v.stride[0] % 4 == 0 &&
                aligned(v.data, 4 * static_cast<size_t>(size_of(v.dtype))));
}

bool regular(const View& out, const View& x, const Weight* w, const Weight* bias, const Epilogue& e) {
  return aligned(x.data, 16) && aligned(w->data.data, 16) && aligned(out.data, 8) && aligned(vector(bias), 16) &&
         in_fours(e.add, x.dtype) && in_fours(e.gate, x.dtype) && aligned(e.residual.data, 8);
}

int64_t rows_of_one(const View& x) {
  return x.shape.rows() / x.shape[0];
}

constexpr int64_t kCoordinate = 1 << 15;  // conv_product.cu keeps them in 16 bits

// The filter's input as it is enlarged, and whether that is once or twice the stored size, as tiles want it.
struct Enlarged {
  int64_t height, width;
  bool regular;
};
Enlarged enlarged(const View& x, const ConvArgs& a) {
  const int64_t h = a.up_height > 0 ? a.up_height : x.shape[1], w = a.up_width > 0 ? a.up_width : x.shape[2];
  const bool same = h == x.shape[1] && w == x.shape[2], doubled = h == 2 * x.shape[1] && w == 2 * x.shape[2];
  return {h, w, (same || doubled) && h < kCoordinate && w < kCoordinate};
}

ConvParams plain_conv(const View& out, const View& x, const Conv& c, const ConvArgs& a) {
  const Enlarged up = enlarged(x, a);
  kernel_int(x.shape.size() / x.shape[0]);  // the kernel's offsets within a picture
  return {.x = x.data,
          .x2 = nullptr,
          .w = c.w->data.data,
          .out = out.data,
          .height = kernel_int(x.shape[1]),
          .width = kernel_int(x.shape[2]),
          .channels = kernel_int(x.shape[3]),
          .channels2 = 0,
          .up_height = kernel_int(up.height),
          .up_width = kernel_int(up.width),
          .out_height = kernel_int(out.shape[1]),
          .out_width = kernel_int(out.shape[2]),
          .outs = kernel_int(out.shape[3]),
          .kernel = kernel_int(c.w->shape[2]),
          .stride = a.stride,
          .pad = a.pad_left_top,
          .epilogue = epilogue(c.b, a.e)};
}

// The same convolution for the kernels in tiles, which enlarge twice or not at all.
ConvProductParams tiled(const ConvParams& c, const ProductParams& product) {
  return {.product = product,
          .x = c.x,
          .x2 = c.x2,
          .height = c.height,
          .width = c.width,
          .channels = c.channels,
          .channels2 = c.channels2,
          .out_height = c.out_height,
          .out_width = c.out_width,
          .kernel = c.kernel,
          .stride = c.stride,
          .pad = c.pad,
          .doubled = c.up_height == 2 * c.height};
}

}  // namespace

Products::Products(Gpu& gpu, DType compute) : gpu_(gpu) {
  if (compute == DType::f32) return;
  const std::vector<unsigned> zeros(kCounters);
  shares_ = static_cast<float*>(gpu_.allocate(kSharesBytes + kCounters * static_cast<int64_t>(sizeof(unsigned))));
  arrived_ = reinterpret_cast<unsigned*>(shares_ + kSharesBytes / sizeof(float));
  gpu_.upload(arrived_, std::as_bytes(std::span(zeros)));
}

Products::~Products() {
  if (shares_ != nullptr) gpu_.release(shares_);
}

ProductParams Products::product_params(const Product& p, View out, const Weight* w, const Weight* bias, const Epilogue& e) const {
  return {.w = w->data.data,
          .out = out.data,
          .shares = shares_,
          .arrived = arrived_,
          .rows = kernel_int(p.rows * out.shape[0]),
          .outs = kernel_int(p.outs),
          .steps = kernel_int(p.steps()),
          .rows_per_picture = kernel_int(p.rows),
          .epilogue = epilogue(bias, e)};
}

template <typename Params>
void Products::launch_tiles(const Product& p, Params params) {
  const TileChoice choice = choose_tile(p, gpu_.card());
  const TileShape& shape = choice.tile.shape;
  const int64_t across = (p.outs + shape.cols - 1) / shape.cols, down = (params.product.rows + shape.rows - 1) / shape.rows;
  const int64_t tiles = across * down;
  const int64_t most = choice.splits == 1 ? tiles : kSharesBytes / (choice.splits * shape.rows * shape.cols * 4);
  for (int64_t first = 0; first < tiles; first += most) {
    params.product.first_tile = kernel_int(first);
    const Dim grid{static_cast<unsigned>(std::min(most, tiles - first)), static_cast<unsigned>(choice.splits)};
    gpu_.launch({entry_of(p.kind, choice.tile, p.type), grid, static_cast<unsigned>(shape.threads()),
                 static_cast<unsigned>(shape.shared_bytes())},
                params);
  }
}

void Products::rows(Product::Kind kind, View out, View x, const Linear& l, const Epilogue& e) {
  const Product p{.kind = kind,
                  .type = x.dtype,
                  .rows = rows_of_one(x),
                  .outs = l.w->shape[0],
                  .channels = l.w->shape[1],
                  .regular = regular(out, x, l.w, l.b, e)};
  switch (provider_of(p)) {
    case Provider::tiles: launch_tiles(p, LinearProductParams{product_params(p, out, l.w, l.b, e), x.data}); return;
    case Provider::plain: {
      const auto choose = kind == Product::Kind::geglu ? choose_geglu : choose_linear;
      gpu_.launch(choose(p.type, p.rows, p.outs, x.shape[0]), LinearParams{.x = x.data,
                                                                           .w = l.w->data.data,
                                                                           .out = out.data,
                                                                           .rows = kernel_int(p.rows),
                                                                           .depth = kernel_int(p.channels),
                                                                           .outs = kernel_int(p.outs),
                                                                           .epilogue = epilogue(l.b, e)});
    }
  }
}

void Products::linear(View out, View x, const Linear& l, const Epilogue& e) {
  rows(Product::Kind::linear, out, x, l, e);
}

// A convolution of 1x1, whose depth may have several parts. Rows of a linear weight are such filters.
void Products::joined_linear(View out, View x, View x2, const Linear& l, const Epilogue& e) {
  const int64_t more = x2.shape[3];
  const bool small = x.shape[1] < kCoordinate && x.shape[2] < kCoordinate;
  for (const View& v : {x, x2}) kernel_int(v.shape.size() / v.shape[0]);  // the kernel's offsets within a picture
  const Product p{.kind = Product::Kind::conv,
                  .type = x.dtype,
                  .rows = rows_of_one(x),
                  .outs = l.w->shape[0],
                  .channels = l.w->shape[1],
                  .regular = small && more % kTileStep == 0 && aligned(x2.data, 16) && regular(out, x, l.w, l.b, e)};
  const ConvParams plain{.x = x.data,
                         .x2 = x2.data,
                         .w = l.w->data.data,
                         .out = out.data,
                         .height = kernel_int(x.shape[1]),
                         .width = kernel_int(x.shape[2]),
                         .channels = kernel_int(x.shape[3]),
                         .channels2 = kernel_int(more),
                         .up_height = kernel_int(x.shape[1]),
                         .up_width = kernel_int(x.shape[2]),
                         .out_height = kernel_int(x.shape[1]),
                         .out_width = kernel_int(x.shape[2]),
                         .outs = kernel_int(p.outs),
                         .kernel = 1,
                         .stride = 1,
                         .pad = 0,
                         .epilogue = epilogue(l.b, e)};
  switch (provider_of(p)) {
    case Provider::tiles: launch_tiles(p, tiled(plain, product_params(p, out, l.w, l.b, e))); return;
    case Provider::plain: gpu_.launch(choose_conv({p.type, out.shape[1], out.shape[2], p.outs, p.channels}, x.shape[0]), plain);
  }
}

void Products::geglu(View out, View x, const Linear& l) {
  rows(Product::Kind::geglu, out, x, l, {});
}

void Products::conv2d(View out, View x, const Conv& c, const ConvArgs& a) {
  const Enlarged up = enlarged(x, a);
  const Product p{.kind = Product::Kind::conv,
                  .type = x.dtype,
                  .rows = out.shape[1] * out.shape[2],
                  .outs = out.shape[3],
                  .channels = x.shape[3],
                  .taps = c.w->shape[2] * c.w->shape[3],
                  .regular = up.regular && regular(out, x, c.w, c.b, a.e)};
  switch (provider_of(p)) {
    case Provider::tiles: launch_tiles(p, tiled(plain_conv(out, x, c, a), product_params(p, out, c.w, c.b, a.e))); return;
    case Provider::plain: {
      const bool enlarges = up.height != x.shape[1] || up.width != x.shape[2];
      const bool vectors = !enlarges && aligned(x.data, 16) && aligned(c.w->data.data, 16);
      gpu_.launch(choose_conv({p.type, out.shape[1], out.shape[2], p.outs, p.channels, p.taps, vectors}, x.shape[0]),
                  plain_conv(out, x, c, a));
    }
  }
}

}  // namespace cudream
