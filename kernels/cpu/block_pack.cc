// From the bytes of a file to packed weights: each slice is converted and reordered through one core's cache.
#include <algorithm>
#include <utility>

#include "core/error.h"
#include "kernels/cpu/block_products.h"

namespace cudream {
namespace {

constexpr int64_t kSliceBytes = int64_t{1} << 20;  // half of a second-level cache
constexpr int64_t kSliceStep = 64;                 // output channels: a multiple of every blocking oneDNN uses

// Cuts channels [first, first + count) into even slices of about kSliceBytes.
void cut(std::vector<PackedWeight::Slice>& slices, int64_t first, int64_t count, int64_t channel_bytes) {
  const int64_t parts = std::max<int64_t>(1, (count * channel_bytes + kSliceBytes - 1) / kSliceBytes);
  const int64_t each = ((count + parts - 1) / parts + kSliceStep - 1) / kSliceStep * kSliceStep;
  for (int64_t at = 0; at < count; at += each) {
    PackedWeight::Slice& s = slices.emplace_back();
    s.first = first + at;
    s.count = std::min(each, count - at);
  }
}

// A block like those the layer will be run with, to ask oneDNN for its preferred layout.
BlockShape typical_block(const PackedWeight& w, int64_t out, DType type) {
  BlockShape s{
      .in = w.in, .out = out, .height = 256, .out_height = 256, .kernel = w.kernel, .type = type, .out_type = type, .bias = true};
  if (w.kernel == 0) return s;
  s.height = s.width = s.out_height = s.out_width = 16;
  s.pad_top = s.pad_left = s.pad_bottom = s.pad_right = w.kernel / 2;
  return s;
}

int64_t padded(const dnnl::memory::desc& d) {
  return rounded_up(static_cast<int64_t>(d.get_size()), kBlockAlign);
}

}  // namespace

// How a weight is cut, each slice in its layout and with no memory yet.
PackedWeight BlockProducts::slices_of(Use use, const Shape& shape) const {
  PackedWeight packed;
  packed.in = shape[1];
  packed.kernel = use == Use::conv && shape[2] > 1 ? shape[2] : 0;
  const int64_t channel = shape.size() / shape[0], parts = use == Use::geglu ? 2 : 1, out = shape[0] / parts;
  for (int64_t i = 0; i < parts; i++) cut(packed.slices, i * out, out, channel * size_of(compute_));
  for (PackedWeight::Slice& s : packed.slices) s.layout = primitives_.preferred_weights(typical_block(packed, s.count, compute_));
  return packed;
}

int64_t BlockProducts::packed_bytes(Use use, const Shape& shape) const {
  int64_t bytes = 0;
  for (const PackedWeight::Slice& s : slices_of(use, shape).slices) bytes += padded(s.layout);
  return bytes;
}

Weight BlockProducts::pack(Use use, DType stored, const Shape& shape, const RawBytes& raw, void* at) {
  const auto packed = std::make_shared<PackedWeight>(slices_of(use, shape));
  auto* next = static_cast<std::byte*>(at);
  for (PackedWeight::Slice& s : packed->slices) s.at = std::exchange(next, next + padded(s.layout));
  const int64_t channel = shape.size() / shape[0], channel_bytes = channel * size_of(stored);
  team_.run(static_cast<int64_t>(packed->slices.size()), [&](int64_t i, int thread) {
    const PackedWeight::Slice& s = packed->slices[static_cast<size_t>(i)];
    const int64_t dense_bytes = rounded_up(s.count * channel * size_of(compute_), kBlockAlign);
    std::byte *dense = team_.scratch(thread, dense_bytes + s.count * channel_bytes), *rows = dense + dense_bytes;
    if (stored == compute_) rows = dense;
    raw({rows, static_cast<size_t>(s.count * channel_bytes)}, s.first * channel_bytes);
    if (stored != compute_) kernels_.convert({dense, compute_}, {rows, stored}, s.count * channel);
    primitives_.reorder(Primitives::dense_weights(compute_, s.count, packed->in, packed->kernel), dense, s.layout, s.at);
  });
  return Weight{.use = use, .shape = shape, .data = View(at, compute_, shape), .layout = packed};
}

}  // namespace cudream
