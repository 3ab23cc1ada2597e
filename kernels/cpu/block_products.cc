// Cutting layers into blocks, and finishing what oneDNN leaves of an epilogue.
#include "kernels/cpu/block_products.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace cudream {
namespace {

constexpr int64_t kBlockRows = 256;    // of a product
constexpr int64_t kBlockPixels = 512;  // of a convolution, about
constexpr int64_t kBlockLines = 4;     // of a convolution, at least: a block reads two lines more than it writes

int64_t aligned(int64_t bytes) {
  return ceil_div(bytes, 256) * 256;
}

}  // namespace

// Rows of one picture that are computed together, and how.
struct BlockProducts::Block {
  BlockShape shape;                // with the first slice's channels
  int64_t x_row = 0, out_row = 0;  // lines of a convolution, rows of a product
};

// What a thread needs to compute one slice of one block.
struct BlockProducts::Call {
  Primitive* primitive = nullptr;
  const void* weights = nullptr;
};

struct BlockProducts::Layer {
  View out, x;
  const PackedWeight* w = nullptr;
  ChannelRows bias;  // with e.add
  Epilogue e;
  ChannelRows gate;    // e.gate
  bool gated = false;  // geglu
  int64_t up_height = 0, up_width = 0;
  int64_t x_line = 0, out_line = 0;  // elements of one x_row and out_row
  std::vector<Block> blocks;
  std::vector<Call> calls;  // [slices][blocks]

  int64_t pictures() const { return out.shape[0]; }
  int64_t channels() const { return out.shape.back(); }
  bool whole() const { return w->slices.size() == 1 && e.act == Act::none && !e.gate && !e.residual; }
};

BlockProducts::BlockProducts(DType compute, const Kernels& kernels, Team& team)
    : compute_(compute), kernels_(kernels), team_(team), primitives_(team.threads()) {}

void BlockProducts::linear(const View& out, const View& x, const Linear& l, const Epilogue& e) {
  Layer layer = product_layer(out, x, *l.w);
  layer.bias = ChannelRows(kernels_, l.b, e.add);
  layer.e = e;
  layer.gate = ChannelRows(kernels_, nullptr, e.gate);
  run(layer);
}

void BlockProducts::geglu(const View& out, const View& x, const Linear& l) {
  Layer layer = product_layer(out, x, *l.w);
  layer.bias = ChannelRows(kernels_, l.b, {});
  layer.gated = true;
  run(layer);
}

BlockProducts::Layer BlockProducts::product_layer(const View& out, const View& x, const Weight& w) const {
  Layer layer{.out = out, .x = x, .w = static_cast<const PackedWeight*>(w.layout.get())};
  invariant(x.dtype == compute_ && x.dense() && layer.w->kernel == 0, "a product of {} {}", name_of(x.dtype), x.shape.str());
  layer.x_line = x.shape.back();
  layer.out_line = out.shape.back();
  const int64_t rows = out.shape.size() / out.shape[0] / out.shape.back();
  const int64_t each = ceil_div(rows, std::max<int64_t>(1, ceil_div(rows, kBlockRows)));
  for (int64_t row = 0; row < rows; row += each) {
    const int64_t count = std::min(each, rows - row);
    layer.blocks.push_back({.shape = {.in = layer.w->in, .height = count, .out_height = count}, .x_row = row, .out_row = row});
  }
  return layer;
}

void BlockProducts::conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& args) {
  const auto* w = static_cast<const PackedWeight*>(c.w->layout.get());
  const int64_t height = args.up_height > 0 ? args.up_height : x.shape[1], width = args.up_width > 0 ? args.up_width : x.shape[2];
  const bool resized = height != x.shape[1] || width != x.shape[2];
  if (w->kernel == 0) {
    invariant(args.stride == 1 && args.pad_left_top == 0 && args.pad_right_bottom == 0 && !resized,
              "a 1x1 convolution has stride 1, no padding and no upsampling here: {}", c.w->name);
    return linear(out, x, {c.w, c.b}, args.e);
  }
  invariant(x.dtype == compute_ && x.dense(), "a convolution of {} {}", name_of(x.dtype), x.shape.str());
  Layer layer{.out = out, .x = x, .w = w};
  if (resized) layer.up_height = height, layer.up_width = width;
  layer.x_line = width * w->in;
  layer.out_line = out.shape[2] * out.shape[3];
  const int64_t pad = args.pad_left_top, lines = out.shape[1];
  const int64_t wanted = std::max(kBlockLines, kBlockPixels / out.shape[2]);
  const int64_t each = ceil_div(lines, std::max<int64_t>(1, ceil_div(lines, wanted)));
  for (int64_t line = 0; line < lines; line += each) {
    const int64_t count = std::min(each, lines - line);
    const int64_t first = line * args.stride - pad, last = (line + count - 1) * args.stride - pad + w->kernel;
    BlockShape s{
        .in = w->in, .width = width, .out_height = count, .out_width = out.shape[2], .kernel = w->kernel, .stride = args.stride};
    s.pad_top = std::max<int64_t>(0, -first);
    s.pad_bottom = std::max<int64_t>(0, last - height);
    s.height = last - first - s.pad_top - s.pad_bottom;
    s.pad_left = pad;
    s.pad_right = std::max<int64_t>(0, (s.out_width - 1) * args.stride - pad + w->kernel - width);
    layer.blocks.push_back({.shape = s, .x_row = first + s.pad_top, .out_row = line});
  }
  layer.bias = ChannelRows(kernels_, c.b, args.e.add);
  layer.e = args.e;
  layer.gate = ChannelRows(kernels_, nullptr, args.e.gate);
  run(layer);
}

// The primitive for one slice and block. Weights in a layout without fast code are copied into one that has it, once.
BlockProducts::Call BlockProducts::call_for(const PackedWeight& w, const PackedWeight::Slice& slice, const BlockShape& shape) {
  if (Primitive* p = primitives_.find(shape, slice.layout)) return {p, slice.at};
  for (PackedWeight::Copy& copy : slice.copies)
    if (Primitive* p = primitives_.find(shape, copy.layout)) return {p, copy.memory.grown_to(0)};
  PackedWeight::Copy& copy = slice.copies.emplace_back();
  copy.layout = primitives_.preferred_weights(shape);
  std::byte* at = copy.memory.grown_to(static_cast<int64_t>(copy.layout.get_size()));
  primitives_.reorder(slice.layout, slice.at, copy.layout, at);
  Primitive* p = primitives_.find(shape, copy.layout);
  invariant(p != nullptr, "oneDNN has no code for {} -> {} channels, kernel {}", w.in, slice.count, w.kernel);
  return {p, at};
}

void BlockProducts::run(Layer& layer) {
  const std::vector<PackedWeight::Slice>& slices = layer.w->slices;
  const int64_t blocks = static_cast<int64_t>(layer.blocks.size());
  // Primitives are looked up here, since making one is not for many threads at once.
  for (const PackedWeight::Slice& slice : slices)
    for (Block& b : layer.blocks) {
      b.shape.out = slice.count;
      b.shape.type = compute_;
      b.shape.out_type = layer.whole() ? layer.out.dtype : layer.gated ? compute_ : DType::f32;
      b.shape.bias = layer.bias.row(0) != nullptr;
      layer.calls.push_back(call_for(*layer.w, slice, b.shape));
    }
  // A job is one slice and some blocks. Few large jobs read weights least, many small ones share the work best.
  const int64_t parts = layer.gated ? 2 : 1, heads = static_cast<int64_t>(slices.size()) / parts;
  const int64_t each = layer.pictures() * blocks;
  const int64_t group = std::clamp<int64_t>(heads * each / (8 * team_.threads()), 1, each), groups = ceil_div(each, group);
  team_.run(heads * groups, [&](int64_t job, int thread) {
    const int64_t slice = job / groups, from = job % groups * group;
    for (int64_t i = from; i < std::min(from + group, each); i++) run_block(layer, slice, i / blocks, i % blocks, thread);
  });
}

void BlockProducts::run_block(const Layer& layer, int64_t slice, int64_t picture, int64_t block, int thread) {
  const Block& b = layer.blocks[static_cast<size_t>(block)];
  const auto blocks = static_cast<int64_t>(layer.blocks.size()), slices = static_cast<int64_t>(layer.w->slices.size());
  const Call& call = layer.calls[static_cast<size_t>(slice * blocks + block)];
  const PackedWeight::Slice& s = layer.w->slices[static_cast<size_t>(slice)];
  const int64_t rows = b.shape.out_height * b.shape.out_width;
  const DType y_type = b.shape.out_type;

  // This thread's scratch: upsampled lines, one or two results, oneDNN's own.
  const int64_t staged = layer.up_height > 0 ? aligned(b.shape.height * layer.x_line * size_of(compute_)) : 0;
  const int64_t result = layer.whole() ? 0 : aligned(rows * s.count * size_of(y_type));
  std::byte* space = team_.scratch(thread, staged + 2 * result + call.primitive->scratch_bytes());
  std::byte *y = space + staged, *gate = y + result, *own = gate + result;

  const std::byte* x = offset(layer.x.data, picture * layer.x.stride[0] + b.x_row * layer.x_line, compute_);
  if (layer.up_height > 0) {
    upsample(space, layer, picture, b);
    x = space;
  }
  std::byte* out = offset(layer.out.data, picture * layer.out.stride[0] + b.out_row * layer.out_line + s.first, layer.out.dtype);
  const auto bias = [&](const PackedWeight::Slice& of) {
    const float* row = layer.bias.row(picture);
    return row == nullptr ? nullptr : row + of.first;
  };
  call.primitive->run(thread, x, call.weights, bias(s), layer.whole() ? out : y, own);
  if (layer.whole()) return;
  if (layer.gated) {
    const Call& second = layer.calls[static_cast<size_t>((slice + slices / 2) * blocks + block)];
    second.primitive->run(thread, x, second.weights, bias(layer.w->slices[static_cast<size_t>(slice + slices / 2)]), gate, own);
    for (int64_t r = 0; r < rows; r++)
      kernels_.geglu({offset(out, r * layer.channels(), layer.out.dtype), layer.out.dtype},
                     {offset(y, r * s.count, y_type), y_type}, {offset(gate, r * s.count, y_type), y_type}, s.count);
    return;
  }
  finish(layer, picture, b.out_row * layer.out_line + s.first, y, rows, s);
}

// out = residual + gate * act(y) for a block of rows, y [rows, s.count] in float, out from element `first` of a picture.
void BlockProducts::finish(const Layer& layer, int64_t picture, int64_t first, std::byte* y, int64_t rows,
                           const PackedWeight::Slice& s) {
  const Epilogue& e = layer.e;
  if (e.act != Act::none) kernels_.act({y, DType::f32}, {y, DType::f32}, rows * s.count, e.act);
  Finish f;
  if (const float* gate = layer.gate.row(picture)) f.gate = gate + s.first;
  for (int64_t r = 0; r < rows; r++) {
    const int64_t at = picture * layer.out.stride[0] + first + r * layer.channels();
    if (e.residual) f.residual = {offset(e.residual.data, at, e.residual.dtype), e.residual.dtype};
    kernels_.finish({offset(layer.out.data, at, layer.out.dtype), layer.out.dtype},
                    {offset(y, r * s.count, DType::f32), DType::f32}, f, s.count);
  }
}

// The block's lines of the picture resized to up_height x up_width by nearest neighbour.
void BlockProducts::upsample(std::byte* to, const Layer& layer, int64_t picture, const Block& b) const {
  const int64_t height = layer.x.shape[1], width = layer.x.shape[2];
  const auto pixel = static_cast<size_t>(layer.w->in * size_of(compute_));
  for (int64_t line = 0; line < b.shape.height; line++) {
    const int64_t source = (b.x_row + line) * height / layer.up_height;
    const std::byte* from = offset(layer.x.data, picture * layer.x.stride[0] + source * layer.x.stride[1], compute_);
    for (int64_t i = 0; i < layer.up_width; i++, to += pixel)
      std::memcpy(to, from + static_cast<size_t>(i * width / layer.up_width) * pixel, pixel);
  }
}

std::unique_ptr<Products> make_block_products(DType compute, const Kernels& kernels, Team& team) {
  return std::make_unique<BlockProducts>(compute, kernels, team);
}

}  // namespace cudream
