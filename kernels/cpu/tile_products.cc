// Cutting layers into jobs for the team.
#include "kernels/cpu/tile_products.h"

#include <algorithm>

#include "core/error.h"

namespace cudream {
namespace {

constexpr int64_t kWholeStage = int64_t{32} << 20;  // bytes: up to here all pictures are laid out at once
constexpr int64_t kLineStage = int64_t{5} << 18;    // bytes: what a thread lays out at once elsewhere
constexpr int64_t kFewRows = 512;                   // up to here threads share the columns, not the rows
constexpr int64_t kGroup = 10;                      // panels whose sums are kept at once
constexpr int64_t kSums = 4096;                     // bytes of the sums of two tiles of rows and two of columns

}  // namespace

// How many chunks of K are summed before the next panel comes: all, unless x or a panel would not stay in the cache.
int64_t TileProducts::Call::stretch() const {
  const int64_t chunks = layer.w->chunks, taps = layer.w->kernel * layer.w->kernel;
  if (layer.planes() == TileLayer::Planes::lines) return chunks <= 200 ? chunks : 2 * taps;
  return chunks < 40 ? chunks : 8;
}

TileProducts::Call TileProducts::make_call(const View& out, const View& x, const Weight& w, const Weight* bias,
                                           const Epilogue& e) const {
  invariant(x.dtype == DType::bf16 && x.dense(), "a product of {} {}", name_of(x.dtype), x.shape.str());
  Call call{.out = out, .bias = ChannelRows(kernels_, bias, e.add), .gate = ChannelRows(kernels_, nullptr, e.gate), .act = e.act};
  call.residual = e.residual;
  call.layer.x = x;
  call.layer.w = static_cast<const TileWeight*>(w.layout.get());
  return call;
}

void TileProducts::linear(const View& out, const View& x, const Linear& l, const Epilogue& e) {
  Call call = make_call(out, x, *l.w, l.b, e);
  const int64_t pictures = out.shape[0], rows = out.shape.size() / pictures / out.shape.back();
  TileLayer& layer = call.layer;
  layer.x = x.reshape({pictures, 1, rows, x.shape.back()});
  layer.height = layer.out_height = 1;
  layer.width = layer.out_width = rows;
  run(call);
}

void TileProducts::conv2d(const View& out, const View& x, const Conv& c, const ConvArgs& args) {
  Call call = make_call(out, x, *c.w, c.b, args.e);
  TileLayer& layer = call.layer;
  layer.height = args.up_height > 0 ? args.up_height : x.shape[1];
  layer.width = args.up_width > 0 ? args.up_width : x.shape[2];
  layer.out_height = out.shape[1];
  layer.out_width = out.shape[2];
  layer.stride = args.stride;
  layer.pad = args.pad_left_top;
  run(call);
}

void TileProducts::run(const Call& call) {
  const TileLayer& layer = call.layer;
  const int64_t pictures = call.out.shape[0], lines = layer.out_height;
  if (layer.planes() == TileLayer::Planes::none)
    return run_pictures(call, layer.x.as<std::byte>(), lines * layer.out_width * layer.row_bytes());
  const int64_t bytes = rounded_up(layer.stage_bytes(lines), 64);
  if (pictures * bytes > kWholeStage) return run_lines(call);
  std::byte* staged = team_.shared_scratch(pictures * bytes);
  const int64_t each = ceil_div(lines, 16), parts = ceil_div(lines, each);
  team_.run(pictures * parts, [&](int64_t job, int) {
    const int64_t picture = job / parts, first = job % parts * each;
    layer.stage(staged + picture * bytes, picture, 0, lines, first, std::min(first + each, lines));
  });
  run_pictures(call, staged, bytes);
}

// x: whole pictures laid out, `picture_bytes` apart.
void TileProducts::run_pictures(const Call& call, const std::byte* x, int64_t picture_bytes) {
  const TileMap map = call.layer.map(call.layer.out_height);
  const int64_t tiles = static_cast<int64_t>(map.tiles.size()), panels = call.layer.w->panels();
  const bool few = tiles * 16 <= kFewRows;
  const int64_t each = few ? tiles : call.stretch() < call.layer.w->chunks ? 16 : 32;
  std::vector<Block> blocks;
  for (int64_t p = 0; p < call.out.shape[0]; p++)
    for (int64_t t = 0; t < tiles; t += each) blocks.push_back({p, x + p * picture_bytes, &map, t, std::min(each, tiles - t), 0});
  // Each job has all the rows and some panels, so that weights are read once; or some rows and all panels.
  const int64_t group = few ? std::clamp<int64_t>(panels / (4 * team_.threads()), 1, kGroup) : panels;
  const int64_t groups = ceil_div(panels, group), parts = few ? 1 : static_cast<int64_t>(blocks.size());
  team_.run(groups * parts, [&](int64_t job, int thread) {
    const std::span<const Block> mine =
        few ? std::span<const Block>(blocks) : std::span<const Block>(blocks).subspan(static_cast<size_t>(job), 1);
    const int64_t from = few ? job * group : 0;
    multiply(call, mine, from, std::min(from + group, panels), team_.scratch(thread, sums_bytes(call, mine)));
  });
}

// Each job lays out some lines and multiplies them.
void TileProducts::run_lines(const Call& call) {
  const TileLayer& layer = call.layer;
  const int64_t lines = layer.out_height, line_bytes = layer.stage_bytes(2) - layer.stage_bytes(1);
  const int64_t wanted = std::clamp<int64_t>(kLineStage / line_bytes - layer.w->kernel + 1, std::min<int64_t>(4, lines), lines);
  const int64_t parts = ceil_div(lines, wanted), each = ceil_div(lines, parts);
  const TileMap map = layer.map(each), last_map = layer.map(lines - (parts - 1) * each);
  team_.run(call.out.shape[0] * parts, [&](int64_t job, int thread) {
    const int64_t picture = job / parts, line = job % parts * each, count = std::min(each, lines - line);
    Block block{.picture = picture, .map = count < each ? &last_map : &map, .out = line * layer.out_width * layer.w->columns};
    block.tiles = static_cast<int64_t>(block.map->tiles.size());
    const int64_t bytes = rounded_up(layer.stage_bytes(count), 64);
    std::byte* scratch = team_.scratch(thread, bytes + sums_bytes(call, {&block, 1}));
    layer.stage(scratch, picture, line, count, 0, count);
    block.x = scratch;
    multiply(call, {&block, 1}, 0, layer.w->panels(), scratch + bytes);
  });
}

int64_t TileProducts::sums_bytes(const Call& call, std::span<const Block> blocks) {
  if (call.stretch() == call.layer.w->chunks) return 0;
  int64_t pairs = 0;
  for (const Block& b : blocks) pairs += ceil_div(b.tiles, 2);
  return pairs * kGroup * kSums;
}

// The blocks through panels [from, to), on the calling thread.
void TileProducts::multiply(const Call& call, std::span<const Block> blocks, int64_t from, int64_t to, std::byte* sums) const {
  const TileWeight& w = *call.layer.w;
  const int64_t stretch = call.stretch(), group = stretch == w.chunks ? to - from : kGroup;
  TileProduct p{.row_bytes = call.layer.row_bytes(), .geglu = w.gated, .gate_bias = w.columns, .act = call.act};
  kernels_.tiles->begin();
  for (int64_t first = from; first < to; first += group)
    for (int64_t chunk = 0; chunk < w.chunks; chunk += stretch) {
      const int64_t last = std::min(first + group, to);
      std::byte* next_sums = sums;
      for (int64_t panel = first; panel < last; panel++) {
        p.chunk_count = std::min(stretch, w.chunks - chunk);
        p.panel = w.stretch(panel, chunk);
        p.first = chunk == 0;
        p.last = chunk + stretch >= w.chunks;
        p.column = panel * w.panel_columns();
        p.columns = std::min(w.panel_columns(), w.columns - p.column);
        // What comes next is fetched meanwhile, each block a part of it.
        const bool turns = panel + 1 == last && !p.last;
        const std::byte* next = turns                    ? w.stretch(first, chunk + stretch)
                                : panel + 1 < w.panels() ? w.stretch(panel + 1, chunk)
                                                         : nullptr;
        p.fetch_bytes = next == nullptr ? 0 : ceil_div(p.chunk_count * 2048, static_cast<int64_t>(blocks.size()));
        for (const Block& b : blocks) {
          p.fetch = next;
          if (next != nullptr) next += p.fetch_bytes;
          p.x = b.x;
          p.tiles = b.map->tiles.data() + b.tile;
          p.tile_count = b.tiles;
          p.rows = b.map->rows.data() + b.tile * 16;
          p.chunks = b.map->chunks.data() + chunk;
          p.bias = call.bias.row(b.picture);
          p.gate = call.gate.row(b.picture);
          const int64_t out = b.picture * call.out.stride[0] + b.out;
          p.out = {offset(call.out.data, out, call.out.dtype), call.out.dtype};
          if (call.residual) p.residual = {offset(call.residual.data, out, call.residual.dtype), call.residual.dtype};
          p.sums = stretch == w.chunks ? nullptr : reinterpret_cast<float*>(next_sums);
          next_sums += ceil_div(b.tiles, 2) * kSums;
          kernels_.tiles->product(p);
        }
      }
    }
  kernels_.tiles->end();
}

std::unique_ptr<Products> make_tile_products(const Kernels& kernels, Team& team) {
  return std::make_unique<TileProducts>(kernels, team);
}

}  // namespace cudream
