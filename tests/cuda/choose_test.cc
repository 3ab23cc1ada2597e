// The choice of kernels: every layer of real networks gets an entry that exists, a grid that covers it and no more, and the
// same answer for any number of pictures.
#include "kernels/cuda/choose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "kernels/cuda/args.h"

namespace cudream {
namespace {

const Card kA100 = card_of(80, 108, 167936, 1410000, 1593000, 5120), kRtx4090 = card_of(89, 128, 102400, 2520000, 10501000, 384),
           kRtx3050 = card_of(86, 20, 102400, 1777000, 7001000, 128);

bool exists(const std::string& name) {
  return std::any_of(kernels().begin(), kernels().end(), [&](const Kernel& k) { return k.name == name; });
}

// All choices for layers of widths and sizes from 1 to those of the largest networks.
std::vector<Launch> many(DType type, int64_t pictures) {
  std::vector<Launch> all;
  for (const int64_t rows : {1, 2, 4, 5, 16, 63, 64, 65, 77, 1024, 4096, 16384, 1048576})
    for (const int64_t width : {1, 3, 4, 8, 16, 17, 40, 64, 320, 1280, 10240}) {
      all.push_back(choose_linear(type, rows, width, pictures));
      all.push_back(choose_geglu(type, rows, 2 * width, pictures));
      for (const bool vectors : {false, true}) all.push_back(choose_conv({type, rows, 8, width, 64, 9, vectors}, pictures));
      for (const bool vectors : {false, true})
        all.push_back(choose_attention({type, rows, 8, std::min<int64_t>(width, 512), false, vectors}, pictures));
    }
  for (const int64_t groups : {1, 8, 32}) all.push_back(choose_group_norm(type, groups, pictures));
  return all;
}

TEST(Choose, NamesOnlyEntriesThatExist) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const Launch& launch : many(type, 2)) EXPECT_TRUE(exists(launch.kernel)) << launch.kernel;
    for (const bool vectors : {false, true}) EXPECT_TRUE(exists(choose_layer_norm(type, 77, 320, vectors).kernel));
    EXPECT_TRUE(exists(choose_slices({type, 4096, 320, 32, true}, kA100)->launch.kernel));
  }
  for (const char* verb : {"act", "multiply", "copy"})
    for (const int each : {1, 4, 8}) EXPECT_TRUE(exists(choose_pointwise(verb, 16, each).kernel)) << verb;
  for (const char* verb : {"lerp", "combine", "gather"})
    for (const int each : {1, 4}) EXPECT_TRUE(exists(choose_pointwise(verb, 16, each).kernel)) << verb;
  EXPECT_TRUE(exists(choose_pointwise("sinusoid", 9, 1).kernel));
}

TEST(Choose, TakesNoAccountOfTheNumberOfPictures) {
  const std::vector<Launch> one = many(DType::f16, 1), eight = many(DType::f16, 8);
  for (size_t i = 0; i < one.size(); i++) {
    EXPECT_EQ(one[i].kernel, eight[i].kernel);
    EXPECT_EQ(one[i].grid.x, eight[i].grid.x) << one[i].kernel;
    EXPECT_EQ(one[i].grid.y, eight[i].grid.y) << one[i].kernel;
    EXPECT_EQ(one[i].block, eight[i].block) << one[i].kernel;
    EXPECT_EQ(one[i].shared, eight[i].shared) << one[i].kernel;
    EXPECT_EQ(one[i].grid.z, 1u);
    EXPECT_EQ(eight[i].grid.z, 8u);
  }
}

TEST(Choose, CoversTheLayerAndNoMore) {
  const Launch whole = choose_linear(DType::f32, 128, 192, 3);
  EXPECT_EQ(whole.kernel, "linear_tile_f32");
  EXPECT_EQ(whole.grid.x, 2u);
  EXPECT_EQ(whole.grid.y, 3u);
  EXPECT_EQ(choose_linear(DType::f32, 129, 193, 3).grid.x, 3u);
  EXPECT_EQ(choose_linear(DType::f32, 129, 193, 3).grid.y, 4u);
  EXPECT_EQ(choose_layer_norm(DType::bf16, 9, 320, false).grid.x, 3u);
  EXPECT_EQ(choose_pointwise("copy", 257, 1).grid.x, 2u);
  EXPECT_EQ(choose_pointwise("copy", 2056, 8).grid.x, 2u);
}

TEST(Choose, PrefersReadingWeightsOnceForFewRows) {
  EXPECT_EQ(choose_linear(DType::f16, 1, 1280, 2).kernel, "linear_row_f16");
  EXPECT_EQ(choose_linear(DType::f16, 5, 1280, 2).kernel, "linear_tile_f16");
}

TEST(Choose, PrefersANarrowTileForFewChannels) {
  EXPECT_EQ(choose_conv({DType::bf16, 64, 64, 4, 320, 9}, 1).kernel, "conv_narrow_bf16");
  EXPECT_EQ(choose_conv({DType::bf16, 64, 64, 320, 4, 9}, 1).kernel, "conv_tile_bf16");
}

TEST(Choose, GivesFewOutputsTheirOwnKernel) {
  const ConvLayer colours{DType::f16, 512, 510, 3, 128, 9, true};
  const Launch launch = choose_conv(colours, 2);
  EXPECT_EQ(launch.kernel, "conv_few_f16");
  EXPECT_EQ(launch.grid.x, 32u);
  EXPECT_EQ(launch.grid.y, 64u);
  for (const ConvLayer& other :
       {ConvLayer{DType::f32, 512, 512, 3, 128, 9, true}, ConvLayer{DType::f16, 512, 512, 3, 128, 9, false},
        ConvLayer{DType::f16, 512, 512, 3, 72, 9, true}, ConvLayer{DType::f16, 512, 512, 3, 128, 49, true},
        ConvLayer{DType::f16, 512, 512, 9, 128, 9, true}})
    EXPECT_THAT(choose_conv(other, 2).kernel, testing::StartsWith("conv_narrow_"));
}

TEST(Choose, GivesAttentionTheSharedMemoryOfItsHead) {
  EXPECT_EQ(choose_attention({DType::f16, 64, 8, 40}, 1).shared, 4u * (2 * 16 * 40 + 32 * 36 + 16 * 32));
  EXPECT_LE(choose_attention({DType::f16, 64, 1, 740}, 1).shared, kSharedLimit);
  try {
    choose_attention({DType::f16, 64, 1, 741}, 1);
    FAIL() << "chose";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::unsupported);
    EXPECT_THAT(e.what(), testing::HasSubstr("741 elements"));
  }
}

TEST(Choose, UsesTensorCoresForTheHeadsOfDiffusionNetworks) {
  const auto kernel = [](DType type, int64_t length, int64_t size, bool causal, bool vectors) {
    return choose_attention({type, length, 8, size, causal, vectors}, 1).kernel;
  };
  EXPECT_EQ(kernel(DType::f16, 4096, 40, false, true), "flash40_f16");
  EXPECT_EQ(kernel(DType::bf16, 1024, 80, false, true), "flash80_bf16");
  EXPECT_EQ(kernel(DType::bf16, 4096, 64, false, true), "flash64_bf16");
  EXPECT_EQ(kernel(DType::f16, 576, 160, false, true), "flash160_f16");
  EXPECT_EQ(kernel(DType::f16, 256, 160, false, true), "flash160_small_f16");
  EXPECT_EQ(kernel(DType::f16, 4096, 512, false, true), "flash512_f16");
  // Other heads and types, masks, and rows that 16-byte copies cannot take: the plain kernel.
  EXPECT_EQ(kernel(DType::f16, 64, 12, false, true), "attention_f16");
  EXPECT_EQ(kernel(DType::f32, 64, 40, false, true), "attention_f32");
  EXPECT_EQ(kernel(DType::f16, 77, 64, true, true), "attention_f16");
  EXPECT_EQ(kernel(DType::f16, 64, 40, false, false), "attention_f16");
  // Blocks of 128 queries; of 64 where those would be few.
  EXPECT_EQ(choose_attention({DType::f16, 4096, 8, 40, false, true}, 2).grid.x, 32u);
  EXPECT_EQ(choose_attention({DType::f16, 256, 8, 160, false, true}, 2).grid.x, 4u);
}

TEST(Choose, CutsAGroupNormIntoSlices) {
  for (const Card& card : {kA100, kRtx4090, kRtx3050})
    for (const int64_t pixels : {49, 64, 1024, 4096, 262144})
      for (const int64_t channels : {32, 128, 320, 960, 2560}) {
        const auto s = choose_slices({DType::f16, pixels, channels, 32, true}, card);
        if (!s) continue;
        EXPECT_EQ(s->launch.grid.x, s->count);
        EXPECT_GE(s->count * s->pixels, pixels);
        EXPECT_LT((s->count - 1) * s->pixels, pixels) << "an empty slice";
        EXPECT_LE(8 * s->count * (s->count * 32 * SliceParams::kMomentBytes + 8 * channels), pixels * channels * 2)
            << "too many bytes beside x";
        EXPECT_EQ(s->chunks * s->chunk, channels);
        EXPECT_EQ(s->chunk % (channels / 32), 0) << "half a group";
        EXPECT_EQ(s->chunk * 2 % 16, 0);
      }
  EXPECT_GE(choose_slices({DType::f16, 4096, 320, 32, true}, kA100)->launch.grid.x, 16u) << "at the top of a UNet";
  EXPECT_GE(choose_slices({DType::f16, 64, 1280, 32, true}, kA100)->chunks, 16) << "at the bottom of a UNet";
  EXPECT_FALSE(choose_slices({DType::f16, 4096, 320, 32, false}, kA100)) << "rows that begin anywhere";
  EXPECT_FALSE(choose_slices({DType::f16, 4, 32, 32, true}, kA100)) << "one block has it all";
  EXPECT_FALSE(choose_slices({DType::f16, 2048 * 2048, 2560, 2560, true}, kA100)) << "more moments than there is room for";
}

// Blocks that wait for one another must all be resident: two a multiprocessor, in its threads and its shared memory.
TEST(Choose, BlocksOfAGroupNormThatWaitAreResident) {
  for (const Card& card : {kA100, kRtx4090, kRtx3050})
    for (const DType type : {DType::f32, DType::f16})
      for (const int64_t pixels : {49, 256, 1024, 4096, 16384, 262144})
        for (const int64_t channels : {32, 60, 128, 320, 960, 1280, 2560}) {
          const auto s = choose_slices({type, pixels, channels, channels == 60 ? 3 : 32, true}, card);
          if (!s) continue;
          const bool small = s->launch.kernel.starts_with("group_norm_vectors");
          const SliceShape shape = small ? SliceParams::kSmall : SliceParams::kLarge;
          EXPECT_LE(s->launch.block, static_cast<unsigned>(shape.threads));
          EXPECT_LE(shape.blocks * (s->launch.shared + 1024), static_cast<unsigned>(card.shared_bytes));
          EXPECT_EQ(s->launch.cooperative, s->count > 1);
          const bool roomy = 4 * pixels * channels * size_of(type) <= int64_t{card.multiprocessors} * card.shared_bytes;
          EXPECT_GE(s->at_once, roomy ? 2 * s->chunks : 1) << "the branches of guidance side by side, where they have room";
          if (!s->launch.cooperative) continue;
          EXPECT_LE(s->at_once * s->count, shape.blocks * card.multiprocessors);
        }
}

}  // namespace
}  // namespace cudream
