// From the bytes of a file to packed weights: each slice is converted and reordered through one core's cache.
#include <algorithm>

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

}  // namespace

Weight BlockProducts::pack(Use use, DType stored, const Shape& shape, std::span<const std::byte> raw) {
  auto packed = std::make_shared<PackedWeight>();
  packed->in = shape[1];
  packed->kernel = use == Use::conv && shape[2] > 1 ? shape[2] : 0;
  const int64_t taps = packed->kernel == 0 ? 1 : packed->kernel * packed->kernel;
  const int64_t channel = packed->in * taps, out = shape[0];
  const int64_t parts = use == Use::geglu ? 2 : 1;
  for (int64_t i = 0; i < parts; i++) cut(packed->slices, i * out / parts, out / parts, channel * size_of(compute_));

  int64_t bytes = 0;
  const auto padded = [](const dnnl::memory::desc& d) { return (static_cast<int64_t>(d.get_size()) + 255) / 256 * 256; };
  for (PackedWeight::Slice& s : packed->slices) {
    s.layout = primitives_.preferred_weights(typical_block(*packed, s.count, compute_));
    bytes += padded(s.layout);
  }
  std::byte* at = memory_.take(bytes);
  Weight weight{.use = use, .shape = shape, .data = View(at, compute_, shape), .layout = packed};
  for (PackedWeight::Slice& s : packed->slices) {
    s.at = at;
    at += padded(s.layout);
  }
  team_.run(static_cast<int64_t>(packed->slices.size()), [&](int64_t i, int thread) {
    const PackedWeight::Slice& s = packed->slices[static_cast<size_t>(i)];
    std::byte* dense = team_.scratch(thread, s.count * channel * size_of(compute_));
    kernels_.convert({dense, compute_}, {raw.data() + s.first * channel * size_of(stored), stored}, s.count * channel);
    primitives_.reorder(Primitives::dense_weights(compute_, s.count, packed->in, packed->kernel), dense, s.layout, s.at);
  });
  return weight;
}

}  // namespace cudream
