// The tensor-core products at the widths of real networks: values against the reference, a picture's bytes in any company, the
// order of blocks, and the traffic that the tiling predicts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "kernels/reference/reference_device.h"
#include "tests/cuda/open.h"
#include "tests/cuda/product_layer.h"

namespace cudream {
namespace {

using Kind = Product::Kind;

const std::vector<ProductLayer>& layers() {
  static const std::vector<ProductLayer> kLayers{
      {.kind = Kind::conv, .height = 32, .width = 32, .in = 320, .out = 320, .kernel = 3, .ends = true},
      {.kind = Kind::conv, .height = 16, .width = 16, .in = 640, .out = 640, .kernel = 3},
      {.kind = Kind::conv, .height = 8, .width = 8, .in = 1280, .out = 1280, .kernel = 3, .ends = true},
      {.kind = Kind::conv, .height = 16, .width = 16, .in = 320, .out = 320, .kernel = 3, .stride = 2},
      {.kind = Kind::conv, .height = 17, .width = 13, .in = 128, .out = 128, .kernel = 3, .stride = 2, .asymmetric = true},
      {.kind = Kind::conv, .height = 8, .width = 8, .in = 640, .out = 640, .kernel = 3, .doubled = true, .ends = true},
      {.kind = Kind::conv, .height = 16, .width = 16, .in = 640, .out = 320, .kernel = 1},
      {.kind = Kind::conv, .height = 24, .width = 20, .in = 320, .out = 4, .kernel = 3, .ends = true},
      {.kind = Kind::linear, .height = 16, .width = 16, .in = 1280, .out = 1280, .ends = true},
      {.kind = Kind::linear, .height = 32, .width = 32, .in = 320, .out = 960},
      {.kind = Kind::linear, .height = 7, .width = 11, .in = 768, .out = 640, .ends = true, .act = Act::gelu},
      {.kind = Kind::linear, .height = 7, .width = 11, .in = 768, .out = 640, .ends = true, .act = Act::quick_gelu},
      {.kind = Kind::geglu, .height = 32, .width = 32, .in = 320, .out = 2560, .ends = true},
      {.kind = Kind::geglu, .height = 8, .width = 8, .in = 1280, .out = 10240, .ends = true},
  };
  return kLayers;
}

std::string describe(const ProductLayer& l) {
  std::string text = std::array{"linear", "geglu", "conv"}[static_cast<size_t>(l.kind)];
  return text + " " + std::to_string(l.height) + "x" + std::to_string(l.width) + " " + std::to_string(l.in) + "->" +
         std::to_string(l.out) + " k" + std::to_string(l.kernel) + (l.stride > 1 ? " stride" : "") +
         (l.doubled ? " doubled" : "");
}

double relative_l2(const std::vector<float>& got, const std::vector<float>& want) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < want.size(); i++) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(difference / norm);
}

class Products : public testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    device_ = cuda_or_null(GetParam());
    if (device_ == nullptr) GTEST_SKIP() << "no GPU here, real or virtual";
  }
  std::unique_ptr<Device> device_;
};

// Rounding the output alone costs about 2e-4 in f16 and 1.7e-3 in bf16.
TEST_P(Products, AgreeWithTheReference) {
  const auto reference = open_reference();
  const double tolerance = GetParam() == DType::f16 ? 5e-4 : 4e-3;
  for (const ProductLayer& l : layers()) {
    std::vector<int64_t> kept;  // in every place of a group of 32 columns
    for (int64_t c = 0; c<l.columns(); c += l.columns()> 8 ? 61 : 1) kept.push_back(c);
    LayerRun ours(*device_, l), theirs(*reference, l);
    const std::vector<float> all = ours.floats(ours.run(1)), want = theirs.floats(theirs.run(1, 0, kept));
    std::vector<float> got;
    for (int64_t row = 0; row < l.rows(); row++)
      for (const int64_t c : kept) got.push_back(all[static_cast<size_t>(row * l.columns() + c)]);
    ASSERT_EQ(got.size(), want.size());
    EXPECT_LE(relative_l2(got, want), tolerance) << describe(l);
  }
}

// Rows of several pictures meet in one tile here, and the depth is split.
TEST_P(Products, GiveAPictureTheSameBytesInAnyBatch) {
  for (const ProductLayer& l :
       {ProductLayer{.kind = Kind::conv, .height = 8, .width = 8, .in = 320, .out = 320, .kernel = 3, .ends = true},
        ProductLayer{.kind = Kind::conv, .height = 5, .width = 7, .in = 640, .out = 64, .kernel = 3, .doubled = true},
        ProductLayer{.kind = Kind::linear, .height = 7, .width = 11, .in = 768, .out = 320, .ends = true},
        ProductLayer{.kind = Kind::geglu, .height = 9, .width = 5, .in = 640, .out = 1280, .ends = true}}) {
    std::vector<std::byte> alone;
    for (int64_t p = 0; p < 8; p++) {
      LayerRun run(*device_, l);
      const std::vector<std::byte> one = run.bytes(run.run(1, p));
      alone.insert(alone.end(), one.begin(), one.end());
    }
    for (const int64_t pictures : {2, 3, 8}) {
      LayerRun run(*device_, l);
      const std::vector<std::byte> batch = run.bytes(run.run(pictures));
      EXPECT_TRUE(std::equal(batch.begin(), batch.end(), alone.begin())) << describe(l) << ", batch of " << pictures;
    }
  }
}

// The workspace of shares does not hold all tiles of a large batch, which is then launched in pieces.
TEST_P(Products, AreTheSameInPieces) {
  if (GetParam() != DType::f16) GTEST_SKIP() << "one type is enough";
  const ProductLayer l{.kind = Kind::linear, .height = 8, .width = 8, .in = 512, .out = 320};
  const int64_t pictures = 440;
  const TileChoice choice = choose_tile({.kind = l.kind, .rows = l.rows(), .outs = l.out, .channels = l.in},
                                        card_of(80, 108, 167936, 1410000, 1593000, 5120));  // the virtual GPU's default
  ASSERT_GT(choice.splits * pictures * l.rows() * l.out * 4, kSharesBytes);
  LayerRun run(*device_, l), first(*device_, l), last(*device_, l);
  const std::vector<std::byte> all = run.bytes(run.run(pictures)), one = first.bytes(first.run(1)),
                               other = last.bytes(last.run(1, pictures - 1));
  EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin()));
  EXPECT_TRUE(std::equal(other.rbegin(), other.rend(), all.rbegin()));
}

INSTANTIATE_TEST_SUITE_P(Cuda, Products, testing::Values(DType::f16, DType::bf16),
                         [](const auto& given) { return std::string(name_of(given.param)); });

// What the virtual GPU is asked for in its environment it reads once, so these run in processes of their own.
struct Asked {
  std::string order, report, out;
};
[[noreturn]] void run_apart(const std::vector<ProductLayer>& all, const Asked& asked) {
  setenv("CUDREAM_VGPU_ORDER", asked.order.c_str(), 1);
  if (!asked.report.empty()) {
    std::filesystem::remove(asked.report);
    setenv("CUDREAM_VGPU_REPORT", asked.report.c_str(), 1);
  }
  const auto device = cuda_or_null(DType::f16);
  std::ofstream out(asked.out, std::ios::binary);
  for (const ProductLayer& l : all) {
    LayerRun run(*device, l);
    const std::vector<std::byte> bytes = run.bytes(run.run(1));
    if (bytes != run.bytes(run.run(1))) std::_Exit(1);  // the second finds the counters that the first left
    out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  out.close();
  std::_Exit(0);
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class ProductsApart : public VirtualGpuTest {
 protected:
  void SetUp() override {
    VirtualGpuTest::SetUp();
    testing::FLAGS_gtest_death_test_style = "threadsafe";
  }
  static std::string place(const char* name) { return testing::TempDir() + "products_" + name; }
};

// Whichever block of a shared tile comes last, the sum is the same.
TEST_F(ProductsApart, SumInTheSameOrderWhicheverBlockIsLast) {
  const std::vector<ProductLayer> shared{{.kind = Kind::conv, .height = 8, .width = 8, .in = 640, .out = 320, .kernel = 3},
                                         {.kind = Kind::linear, .height = 8, .width = 8, .in = 2560, .out = 320, .ends = true}};
  const std::string forward = place("forward"), backward = place("backward");
  EXPECT_EXIT(run_apart(shared, {"", "", forward}), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(run_apart(shared, {"reverse", "", backward}), testing::ExitedWithCode(0), "");
  const std::string bytes = read_all(forward);
  EXPECT_EQ(bytes.size(), 2u * 64 * 320 * 2);
  EXPECT_TRUE(bytes == read_all(backward));
}

// Bytes that the copies of a launch ask for: the rows of A and W that each tile takes, once a step.
double predicted_read(const ProductLayer& l, const TileShape& shape, int64_t blocks_per_tile) {
  const int64_t across = (l.out + shape.cols - 1) / shape.cols, down = (l.rows() + shape.rows - 1) / shape.rows;
  const double depth = static_cast<double>(l.in * l.kernel * l.kernel), tiles = static_cast<double>(across * down);
  const double shares = blocks_per_tile > 1 ? static_cast<double>(blocks_per_tile * shape.rows * shape.cols) * 4 : 0;
  return tiles * ((shape.rows + shape.cols) * depth * 2 + shares);
}

TEST_F(ProductsApart, AskForWhatTheTilingPredictsWithoutBankConflicts) {
  const std::vector<ProductLayer> all{{.kind = Kind::conv, .height = 32, .width = 32, .in = 320, .out = 320, .kernel = 3},
                                      {.kind = Kind::conv, .height = 16, .width = 16, .in = 640, .out = 640, .kernel = 3},
                                      {.kind = Kind::linear, .height = 32, .width = 32, .in = 640, .out = 640},
                                      {.kind = Kind::geglu, .height = 16, .width = 16, .in = 640, .out = 5120}};
  const std::string path = place("report");
  EXPECT_EXIT(run_apart(all, {"", path, place("out")}), testing::ExitedWithCode(0), "");
  std::ifstream in(path);
  size_t seen = 0;
  for (std::string line; std::getline(in, line);) {
    const auto launch = nlohmann::json::parse(line);
    const std::string kernel = launch["kernel"];
    const auto tile = std::find_if(kTiles.begin(), kTiles.end(), [&](const NamedTile& t) {
      return kernel.find("_" + std::string(t.name) + "_f16") != std::string::npos;
    });
    if (tile == kTiles.end()) continue;
    const ProductLayer& l = all.at(seen++ / 2);
    EXPECT_EQ(kernel.substr(0, kernel.find('_')), describe(l).substr(0, describe(l).find(' ')));
    EXPECT_EQ(launch["shared_wavefronts"], launch["shared_ideal"]) << kernel;
    const double asked = launch["global_read_bytes"], predicted = predicted_read(l, tile->shape, launch["grid"][1]);
    EXPECT_LE(asked, 1.05 * predicted) << kernel;
    EXPECT_GE(asked, 0.90 * predicted) << kernel << ": only the border is not read";
    EXPECT_EQ(launch["mma_flops"], 2.0 * static_cast<double>(launch["grid"][0]) * tile->shape.rows * tile->shape.cols *
                                       static_cast<double>(l.in * l.kernel * l.kernel))
        << kernel;
    // Sectors move whole: four lanes read 64 bytes that lie together.
    EXPECT_NEAR(32 * static_cast<double>(launch["global_read_sectors"]), asked, 0.02 * asked) << kernel;
  }
  EXPECT_EQ(seen, 2 * all.size()) << "every layer runs on tensor cores, twice";
}

}  // namespace
}  // namespace cudream
