// What both kinds of products share.
#include "kernels/cpu/products.h"

namespace cudream {

ChannelRows::ChannelRows(const Kernels& kernels, const Weight* bias, const View& add) {
  if (bias != nullptr) first_ = bias->data.as<float>();
  if (!add) return;
  const int64_t rows = add.shape[0], channels = add.shape[1];
  sums_.resize(static_cast<size_t>(rows * channels));
  for (int64_t n = 0; n < rows; n++) {
    float* row = sums_.data() + n * channels;
    kernels.convert({row, DType::f32}, {offset(add.data, n * add.stride[0], add.dtype), add.dtype}, channels);
    if (bias != nullptr) kernels.finish({row, DType::f32}, {row, DType::f32}, {.residual = {first_, DType::f32}}, channels);
  }
  first_ = sums_.data();
  stride_ = rows == 1 ? 0 : channels;
}

}  // namespace cudream
