// The choices, and the table of entries. Tile sizes are those of tile.cuh, the attention files, the norm files and pointwise.cu.
#include "kernels/cuda/choose.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "kernels/cuda/args.h"
#include "kernels/cuda/product.h"

namespace cudream {
namespace {

constexpr int64_t kTileRows = 64, kTileCols = 64, kNarrowCols = 16;
constexpr int64_t kFewOuts = 8, kFewChannels = 32, kFewTaps = 32, kFewAcross = 16, kFewDown = 8;  // conv_few.cu
constexpr unsigned kTileThreads = 128;
constexpr int64_t kFewRows = 4;  // up to here reading the weights once per row beats a mostly empty tile
constexpr int64_t kOutsPerRowBlock = 4;
constexpr int64_t kQueries = 16, kKeys = 32, kKeyRow = 36;
constexpr unsigned kAttentionThreads = 128, kGroupThreads = 256, kRowThreads = 128, kElementThreads = 256;
constexpr int64_t kRowsPerBlock = 4;
constexpr int64_t kVectorBytes = 16, kSectorBytes = 32, kAffineBytes = 12;
constexpr int64_t kMostHigh = 65535;                     // a grid
constexpr int64_t kHeldChannels = 1280, kHeldRows = 24;  // of a LayerNorm that keeps rows in registers
constexpr unsigned kHeldThreads = 768;

// Attention on tensor cores. Where blocks of 128 queries would be too few for a card, those of 64 come first.
struct FlashKernel {
  std::string_view name, image;
  int64_t size, queries;
  unsigned threads, shared;
  int64_t longest = std::numeric_limits<int64_t>::max();  // the most queries it is for
};
constexpr std::string_view kFlashImage = "flash_attention.cu";
constexpr FlashKernel kFlashKernels[] = {
    {"flash40", kFlashImage, 40, 128, 128, 512 * 40},    {"flash64", kFlashImage, 64, 128, 128, 512 * 64},
    {"flash80", kFlashImage, 80, 128, 128, 512 * 80},    {"flash160_small", kFlashImage, 160, 64, 128, 384 * 160, 256},
    {"flash160", kFlashImage, 160, 128, 128, 512 * 160}, {"flash512", "wide_attention.cu", 512, 64, 256, 94976}};

// GroupNorm by slices. The large one has more room for what is normalized, but no other block to work on a multiprocessor while
// one waits: it is for what is read twice otherwise.
struct SliceKernel {
  std::string_view name;
  SliceShape shape;
  int64_t narrowest;  // bytes of a pixel that are read at once, by chunks side by side; memory moves 64 together where it can
};
constexpr SliceKernel kSmallSlices{"group_norm_vectors", SliceParams::kSmall, 64},
    kLargeSlices{"group_norm_large", SliceParams::kLarge, 32};

std::string entry(std::string_view kernel, DType type) {
  return fmt::format("{}_{}", kernel, name_of(type));
}

unsigned blocks(int64_t work, int64_t each) {
  const int64_t n = (work + each - 1) / each;
  invariant(n > 0 && n <= std::numeric_limits<int32_t>::max(), "a grid of {} blocks", n);
  return static_cast<unsigned>(n);
}

template <typename Params>
void add_typed(std::vector<Kernel>& table, std::string_view image, std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names)
    for (const DType type : {DType::f32, DType::f16, DType::bf16})
      table.push_back({.name = entry(name, type), .image = image, .parameter_bytes = sizeof(Params)});
}

void add_tiles(std::vector<Kernel>& table) {
  for (const auto kind : {Product::Kind::linear, Product::Kind::geglu, Product::Kind::conv})
    for (const NamedTile& tile : kTiles)
      for (const DType type : {DType::f16, DType::bf16})
        if (has_tile(kind, tile.shape))
          table.push_back(
              {.name = entry_of(kind, tile, type),
               .image = kind == Product::Kind::conv ? "conv_product.cu" : "linear_product.cu",
               .parameter_bytes = kind == Product::Kind::conv ? sizeof(ConvProductParams) : sizeof(LinearProductParams),
               .dynamic_shared = static_cast<unsigned>(tile.shape.shared_bytes())});
}

template <typename Params>
void add_pointwise(std::vector<Kernel>& table, std::string_view verb, std::initializer_list<int> each) {
  for (const int n : each)
    table.push_back({.name = choose_pointwise(verb, 1, n).kernel, .image = "pointwise.cu", .parameter_bytes = sizeof(Params)});
}

// Pixels of a slice and channels of a chunk, for slices of at most `most` blocks in all chunks of a picture and `resident` in
// one; nullopt where one block has it all, and where rows cannot be cut into vectors that the threads of a block have room for.
struct Cut {
  int64_t pixels, chunk;
};
std::optional<Cut> cut_picture(const GroupNormLayer& l, int64_t most, int64_t resident, int64_t threads) {
  const int64_t vector = kVectorBytes / size_of(l.type), each = l.channels / l.groups;
  // Beside x, n slices read 8 n channels bytes of gains and biases, and n^2 groups moments: here at most a sixteenth of the bytes
  // of x and out.
  const auto share = static_cast<double>(l.pixels * l.channels * size_of(l.type)) / 8;
  const auto a = static_cast<double>(SliceParams::kMomentBytes * l.groups), b = static_cast<double>(8 * l.channels);
  const auto sixteenth = static_cast<int64_t>((std::sqrt(b * b + 4 * a * share) - b) / (2 * a));
  const int64_t wanted = std::min(sixteenth, resident);
  if (!l.vectors || wanted < 1) return std::nullopt;
  // Chunks of whole groups, whole vectors and whole sectors of memory, where slices alone are too few.
  const int64_t step = std::lcm(std::lcm(each, vector), kSectorBytes / size_of(l.type));
  invariant(step > 0, "GroupNorm of {} channels in {} groups", l.channels, l.groups);
  int64_t chunks = 1;
  const auto too_few = [&] { return most / chunks > wanted || l.channels > chunks * threads * vector; };
  while (too_few() && l.channels % (2 * chunks * step) == 0) chunks *= 2;
  if (l.channels > chunks * threads * vector) return std::nullopt;
  const int64_t slices = std::clamp<int64_t>(most / chunks, 1, wanted);
  return Cut{(l.pixels + slices - 1) / slices, l.channels / chunks};
}

// As many slices as let the branches of guidance fill the card in so many turns.
std::optional<Slices> slices_in_turns(const GroupNormLayer& l, const Card& card, const SliceKernel& kernel, int64_t turns) {
  const int64_t at_once = kernel.shape.blocks * card.multiprocessors;
  const auto cut = cut_picture(l, at_once * turns / kBranches, at_once, kernel.shape.threads);
  if (!cut) return std::nullopt;
  const auto [pixels, chunk] = *cut;
  const int64_t vector = kVectorBytes / size_of(l.type), each = l.channels / l.groups, columns = chunk / vector;
  const int64_t rows = kernel.shape.threads / columns, threads = columns * rows;  // vectors that a block takes at once
  // A vector begins at a multiple of what it has in common with a group.
  const int64_t runs = (each - std::gcd(each, vector) + vector - 1) / each + 1;
  const int64_t sums = threads * runs * SliceParams::kRunBytes + chunk * kAffineBytes;
  const int64_t room = card.shared_bytes / kernel.shape.blocks - kReservedShared - sums;
  const int64_t held = std::clamp<int64_t>(room / (threads * kVectorBytes), 1, (pixels + rows - 1) / rows);
  const int64_t count = (l.pixels + pixels - 1) / pixels;
  // Moments of two parts in turn, for each that is made at once.
  const int64_t moments = 2 * count * (chunk / each) * SliceParams::kMomentBytes;
  const int64_t resident = count == 1 ? kMostHigh : std::min(at_once / count, kMomentsBytes / moments);
  if (resident == 0) return std::nullopt;
  return Slices{.pixels = pixels,
                .count = count,
                .chunks = l.channels / chunk,
                .chunk = chunk,
                .rows = rows,
                .runs = runs,
                .held = held,
                .again = std::max<int64_t>(0, pixels - (held + kernel.shape.kept) * rows),
                .at_once = resident,
                .launch = {.kernel = entry(kernel.name, l.type),
                           .grid = {static_cast<unsigned>(count), 1, 1},
                           .block = static_cast<unsigned>((threads + 31) / 32 * 32),
                           .shared = static_cast<unsigned>(held * threads * kVectorBytes + sums),
                           .cooperative = count > 1}};
}

std::vector<Kernel> make_table() {
  std::vector<Kernel> table;
  add_tiles(table);
  add_typed<LinearParams>(table, "linear.cu", {"linear_tile", "linear_row", "geglu_tile"});
  add_typed<ConvParams>(table, "conv.cu", {"conv_tile", "conv_narrow"});
  for (const DType type : {DType::f16, DType::bf16})
    table.push_back({.name = entry("conv_few", type), .image = "conv_few.cu", .parameter_bytes = sizeof(ConvParams)});
  add_typed<AttentionParams>(table, "attention.cu", {"attention"});
  for (Kernel& kernel : std::span(table).last(3)) kernel.dynamic_shared = kSharedLimit;
  for (const FlashKernel& k : kFlashKernels)
    for (const DType type : {DType::f16, DType::bf16})
      table.push_back({.name = entry(k.name, type),
                       .image = k.image,
                       .parameter_bytes = sizeof(AttentionParams),
                       .dynamic_shared = k.shared});
  add_typed<FinishParams>(table, "finish.cu", {"finish"});
  add_typed<NormParams>(table, "norm.cu", {"group_norm", "layer_norm"});
  add_typed<NormParams>(table, "norm_vectors.cu", {"layer_norm_vectors"});
  for (const SliceKernel& k : {kSmallSlices, kLargeSlices}) {
    add_typed<SliceParams>(table, "norm_vectors.cu", {k.name});
    for (Kernel& kernel : std::span(table).last(3)) kernel.dynamic_shared = kAllShared;
  }
  add_pointwise<ActParams>(table, "act", {1, 4, 8});
  add_pointwise<MultiplyParams>(table, "multiply", {1, 4, 8});
  add_pointwise<LerpParams>(table, "lerp", {1, 4});
  add_pointwise<CopyParams>(table, "copy", {1, 4, 8});
  add_pointwise<CombineParams>(table, "combine", {1, 4});
  add_pointwise<GatherParams>(table, "gather", {1, 4});
  add_pointwise<SinusoidParams>(table, "sinusoid", {1});
  return table;
}

}  // namespace

std::span<const Kernel> kernels() {
  static const std::vector<Kernel> table = make_table();
  return table;
}

Launch choose_linear(DType type, int64_t rows, int64_t outs, int64_t pictures) {
  if (rows <= kFewRows)
    return {entry("linear_row", type), {blocks(outs, kOutsPerRowBlock), blocks(rows, 1), blocks(pictures, 1)}, kTileThreads};
  return {entry("linear_tile", type), {blocks(rows, kTileRows), blocks(outs, kTileCols), blocks(pictures, 1)}, kTileThreads};
}

Launch choose_geglu(DType type, int64_t rows, int64_t outs, int64_t pictures) {
  return {entry("geglu_tile", type), {blocks(rows, kTileRows), blocks(outs, kTileCols), blocks(pictures, 1)}, kTileThreads};
}

Launch choose_conv(const ConvLayer& l, int64_t pictures) {
  const unsigned n = blocks(pictures, 1);
  const bool few =
      l.type != DType::f32 && l.vectors && l.outs <= kFewOuts && l.channels % kFewChannels == 0 && l.taps <= kFewTaps;
  if (few) return {entry("conv_few", l.type), {blocks(l.width, kFewAcross), blocks(l.height, kFewDown), n}, kTileThreads};
  const bool narrow = l.outs <= kNarrowCols;
  return {entry(narrow ? "conv_narrow" : "conv_tile", l.type),
          {blocks(l.height * l.width, kTileRows), blocks(l.outs, narrow ? kNarrowCols : kTileCols), n},
          kTileThreads};
}

Launch choose_attention(const AttentionLayer& l, int64_t pictures) {
  const Dim heads{1, blocks(l.heads, 1), blocks(pictures, 1)};
  if (l.type != DType::f32 && l.vectors && !l.causal)
    for (const FlashKernel& k : kFlashKernels)
      if (k.size == l.size && l.length <= k.longest)
        return {entry(k.name, l.type), {blocks(l.length, k.queries), heads.y, heads.z}, k.threads, k.shared};

  const int64_t width = (l.size + 3) / 4 * 4;  // vector loads
  const int64_t shared = 4 * (2 * kQueries * width + kKeys * kKeyRow + kQueries * kKeys);
  if (shared > kSharedLimit)
    throw fail(Code::unsupported, "attention with heads of {} elements: 740 are the most on CUDA", l.size);
  return {entry("attention", l.type),
          {blocks(l.length, kQueries), heads.y, heads.z},
          kAttentionThreads,
          static_cast<unsigned>(shared)};
}

std::optional<Slices> choose_slices(const GroupNormLayer& l, const Card& card) {
  auto best = slices_in_turns(l, card, kSmallSlices, 1);
  for (const SliceKernel& kernel : {kSmallSlices, kLargeSlices})
    for (int64_t turns = 1; best && best->again > 0 && turns <= kBranches * l.groups; turns *= 2) {
      const auto s = slices_in_turns(l, card, kernel, turns);
      if (!s || std::min(s->at_once, s->chunks) * s->chunk * size_of(l.type) < kernel.narrowest) continue;
      if (s->again * s->count < best->again * best->count) best = s;
    }
  return best;
}

Launch choose_finish(DType type, int64_t elements, int64_t pictures) {
  return {entry("finish", type), {blocks(elements, kElementThreads), 1, blocks(pictures, 1)}, kElementThreads};
}

Launch choose_group_norm(DType type, int64_t groups, int64_t pictures) {
  return {entry("group_norm", type), {blocks(groups, 1), 1, blocks(pictures, 1)}, kGroupThreads};
}

Launch choose_layer_norm(DType type, int64_t rows, int64_t channels, bool vectors) {
  if (vectors && channels <= kHeldChannels)
    return {entry("layer_norm_vectors", type), {blocks(rows, kHeldRows), 1, 1}, kHeldThreads};
  return {entry("layer_norm", type), {blocks(rows, kRowsPerBlock), 1, 1}, kRowThreads};
}

Launch choose_pointwise(std::string_view verb, int64_t elements, int each) {
  return {each == 1 ? std::string(verb) : fmt::format("{}_by{}", verb, each),
          {blocks(elements, each * kElementThreads), 1, 1},
          kElementThreads};
}

}  // namespace cudream
