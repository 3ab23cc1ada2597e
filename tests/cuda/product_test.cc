// Who serves a product, and the tile and split of real layers on three cards.
#include "kernels/cuda/product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <sstream>
#include <vector>

#include "kernels/cuda/choose.h"

namespace cudream {
namespace {

using Kind = Product::Kind;

// As their drivers describe them.
const Card kA100 = card_of(80, 108, 167936, 1410000, 1593000, 5120);
const Card k4090 = card_of(89, 128, 102400, 2520000, 10501000, 384);
const Card kH200 = card_of(90, 132, 233472, 1980000, 3201000, 6144);

Product linear(int64_t rows, int64_t outs, int64_t depth) {
  return {.kind = Kind::linear, .type = DType::f16, .rows = rows, .outs = outs, .channels = depth};
}
Product geglu(int64_t rows, int64_t outs, int64_t depth) {
  Product p = linear(rows, outs, depth);
  p.kind = Kind::geglu;
  return p;
}
Product conv3x3(int64_t rows, int64_t outs, int64_t channels) {
  return {.kind = Kind::conv, .type = DType::bf16, .rows = rows, .outs = outs, .channels = channels, .taps = 9};
}

TEST(Product, GoesToTilesWhereTheyFit) {
  EXPECT_EQ(provider_of(linear(4096, 320, 320)), Provider::tiles);
  EXPECT_EQ(provider_of(linear(77, 100, 32)), Provider::tiles) << "a ragged edge is cut off";
  EXPECT_EQ(provider_of(conv3x3(4096, 4, 320)), Provider::tiles);
  EXPECT_EQ(provider_of(conv3x3(4, 320, 320)), Provider::tiles);
  EXPECT_EQ(provider_of(geglu(4096, 2560, 320)), Provider::tiles);
}

TEST(Product, GoesToThePlainKernelsOtherwise) {
  EXPECT_EQ(provider_of(linear(1, 1280, 320)), Provider::plain) << "few rows read the weights once";
  EXPECT_EQ(provider_of(linear(4096, 320, 40)), Provider::plain) << "a depth of no whole steps";
  EXPECT_EQ(provider_of(linear(4096, 322, 320)), Provider::plain) << "columns that do not come in fours";
  EXPECT_EQ(provider_of(geglu(4096, 2564, 320)), Provider::plain) << "outputs that do not come in fours";
  EXPECT_EQ(provider_of(conv3x3(4096, 320, 4)), Provider::plain);
  Product p = linear(4096, 320, 320);
  p.type = DType::f32;
  EXPECT_EQ(provider_of(p), Provider::plain);
  p = linear(4096, 320, 320);
  p.regular = false;
  EXPECT_EQ(provider_of(p), Provider::plain);
}

struct Chosen {
  Product product;
  const char *a100, *rtx4090, *h200;  // "tile/splits"
};

std::string describe(const TileChoice& c) {
  return std::string(c.tile.name) + "/" + std::to_string(c.splits);
}

// Layers of SD 1.5 at 512x512, by one picture's rows. Small grids share their tiles; the card decides how far.
TEST(Product, TilesOfRealLayers) {
  for (const Chosen& c : {Chosen{conv3x3(4096, 320, 320), "64x160/1", "64x160/1", "64x160/1"},
                          Chosen{conv3x3(4096, 320, 960), "64x160/2", "64x160/1", "128x160/2"},
                          Chosen{conv3x3(1024, 640, 640), "128x160/3", "64x160/2", "128x128/3"},
                          Chosen{conv3x3(256, 1280, 1280), "64x160/5", "64x160/4", "128x128/6"},
                          Chosen{conv3x3(64, 1280, 1280), "64x64/8", "64x64/6", "64x64/6"},
                          Chosen{conv3x3(4096, 4, 320), "64x64/3", "64x64/2", "64x64/2"},
                          Chosen{linear(4096, 320, 320), "64x160/1", "64x160/1", "64x160/1"},
                          Chosen{linear(1024, 1920, 640), "128x160/1", "128x128/1", "128x128/1"},
                          Chosen{linear(256, 1280, 5120), "64x160/5", "64x160/4", "64x160/4"},
                          Chosen{geglu(4096, 2560, 320), "128x128/1", "128x128/1", "128x128/1"},
                          Chosen{geglu(64, 10240, 1280), "64x64/1", "64x64/1", "128x128/3"}}) {
    EXPECT_EQ(describe(choose_tile(c.product, kA100)), c.a100) << c.product.rows << " " << c.product.outs;
    EXPECT_EQ(describe(choose_tile(c.product, k4090)), c.rtx4090) << c.product.rows << " " << c.product.outs;
    EXPECT_EQ(describe(choose_tile(c.product, kH200)), c.h200) << c.product.rows << " " << c.product.outs;
  }
}

struct Timed {
  NamedTile tile;
  int splits;
  double us;
};

Product timed_layer(const std::vector<std::string>& fields) {
  Product p = linear(std::stoll(fields[0]), std::stoll(fields[1]), std::stoll(fields[2]));
  p.taps = std::stoll(fields[3]);
  if (p.taps > 1) p.kind = Kind::conv;
  return p;
}

// The model against a card: layers of SD 1.5 at 512x512 and of SDXL at 1024x1024 in every tile and several splits. A launch costs
// some 3 us beside what is modelled.
TEST(Product, ModelFollowsACard) {
  std::ifstream file(CUDREAM_SOURCE_DIR "/tests/cuda/data/tiles_h200.csv");
  std::map<std::string, std::vector<Timed>> times;
  std::map<std::string, Product> layers;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) continue;
    std::vector<std::string> fields;
    std::istringstream parts(line);
    for (std::string field; std::getline(parts, field, ',');) fields.push_back(field);
    ASSERT_EQ(fields.size(), 7U) << line;
    const std::string layer = line.substr(0, line.find("," + fields[4]));
    layers[layer] = timed_layer(fields);
    const auto* tile = std::ranges::find(kTiles, std::string_view(fields[4]), &NamedTile::name);
    ASSERT_NE(tile, kTiles.end()) << line;
    times[layer].push_back({*tile, std::stoi(fields[5]), std::stod(fields[6])});
  }
  EXPECT_EQ(layers.size(), 37U);
  double best = 0, chosen = 0, squares = 0, count = 0;
  for (const auto& [name, p] : layers) {
    const auto modelled = [&p = p](const Timed& t) { return tile_cycles(p, t.tile.shape, t.splits, kH200); };
    chosen += std::ranges::min_element(times[name], {}, modelled)->us;
    best += std::ranges::min_element(times[name], {}, &Timed::us)->us;
    for (const Timed& t : times[name]) {
      const double error = std::log((modelled(t) / 1980 + 3) / t.us);
      squares += error * error;
      count++;
    }
  }
  EXPECT_LE(chosen, 1.01 * best) << "microseconds of all layers: what the model takes for best, and what is";
  EXPECT_LE(std::sqrt(squares / count), 0.1);
  RecordProperty("chosen_over_best", std::to_string(chosen / best));
}

TEST(Product, EveryChoiceHasAKernelAndWholeShares) {
  for (const Card& card : {kA100, k4090, kH200})
    for (const int64_t rows : {5, 64, 77, 1000, 4096, 262144})
      for (const int64_t width : {8, 32, 320, 1280, 10240})
        for (const Product& p : {linear(rows, width, 320), geglu(rows, width, 1280), conv3x3(rows, width, 640)}) {
          const TileChoice c = choose_tile(p, card);
          const std::string entry = entry_of(p.kind, c.tile, p.type);
          EXPECT_TRUE(std::any_of(kernels().begin(), kernels().end(), [&](const Kernel& k) { return k.name == entry; })) << entry;
          EXPECT_TRUE(c.splits == 1 || p.steps() / c.splits >= 8) << entry << ": too little to share";
          EXPECT_GE(c.cycles, least_cycles(p, card)) << entry;
        }
}

// Kernels with a main loop on tensor cores, both types counted: what has to be compiled and trusted.
TEST(Kernels, OfProductsAreFew) {
  int products = 0;
  for (const auto kind : {Kind::linear, Kind::geglu, Kind::conv})
    for (const NamedTile& tile : kTiles) products += has_tile(kind, tile.shape) ? 2 : 0;
  EXPECT_EQ(products, 20);
  EXPECT_LE(products, 34);
}

}  // namespace
}  // namespace cudream
