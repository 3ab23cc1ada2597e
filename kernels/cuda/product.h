// Who serves a product (linear, geglu, conv2d), and in which tiles: pure functions of the layer, ONE picture's rows and the card,
// never of the batch, so that a picture's bytes do not depend on its company.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/types.h"
#include "kernels/cuda/card.h"
#include "kernels/cuda/tiles.h"

namespace cudream {

// One layer, as far as a choice may look.
struct Product {
  enum class Kind : uint8_t { linear, geglu, conv };
  Kind kind = Kind::linear;
  DType type = DType::f16;
  int64_t rows = 0;      // of one picture's output
  int64_t outs = 0;      // columns; geglu: before halving
  int64_t channels = 0;  // that lie together in x: the whole depth of a linear
  int64_t taps = 1;      // of a filter
  // What the tiles take for granted: every pointer and stride of the call lets four columns move at once, and a filter's input
  // is enlarged exactly twice or not at all.
  bool regular = true;

  int64_t steps() const { return taps * (channels / kTileStep); }
};

// plain: any layer, in float arithmetic (linear.cu, conv.cu), or with few outputs (conv_few.cu). tiles: tensor cores (product.cuh).
enum class Provider : uint8_t { plain, tiles };
Provider provider_of(const Product&);

struct NamedTile {
  std::string_view name;
  TileShape shape;
};
inline constexpr std::array<NamedTile, 4> kTiles{
    {{"128x128", kTile128x128}, {"128x160", kTile128x160}, {"64x160", kTile64x160}, {"64x64", kTile64x64}}};

struct TileChoice {
  NamedTile tile;
  int splits = 1;     // blocks that share the depth of a tile
  double cycles = 0;  // modelled
};
// The tile and split with the least modelled time for kBranches pictures, the two branches of guidance.
inline constexpr int kBranches = 2;
TileChoice choose_tile(const Product&, const Card&);
// Modelled, of any tile and split.
double tile_cycles(const Product&, const TileShape&, int splits, const Card&);

// Room for the shares of one launch; a product that needs more is launched a piece at a time. At the splits that are chosen, a
// piece keeps every card busy.
inline constexpr int64_t kSharesBytes = 64 << 20;

// Whether `tile` has a kernel of this kind.
bool has_tile(Product::Kind, const TileShape& tile);
std::string entry_of(Product::Kind, const NamedTile&, DType);

// The time below which no kernel can be: the longer of the tensor cores' and the memory's, in cycles, for kBranches pictures.
double least_cycles(const Product&, const Card&);

}  // namespace cudream
