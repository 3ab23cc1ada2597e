// How many pictures share a pass: by the card, by its memory, by who asked.
#include "runtime/pass_size.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/engine.h"

namespace cudream {
namespace {

using testing::HasSubstr;

Job job_of(int width, int height, double guidance = 7) {
  return {.prompt = "a house", .width = width, .height = height, .guidance = guidance};
}

const DeviceInfo kCard{.kind = "cuda:0", .description = "", .multiprocessors = 108};  // an A100

TEST(PassSize, TheLargestThatFitsIsFound) {
  for (size_t most = 1; most <= 70; most++)
    for (size_t limit = 0; limit <= 80; limit++) {
      size_t asked = 0;
      const auto fits = [&](size_t n) {
        asked++;
        return n <= limit;
      };
      ASSERT_EQ(largest_fitting(most, fits), std::max<size_t>(std::min(most, limit), 1)) << most << " " << limit;
      ASSERT_LE(asked, 8u) << "each is a rehearsal";
    }
}

// 512x512 of SD 1.5: 2 branches of 8x8 pixels at the deepest level are 128 rows of 1280 channels, ten tiles of 128x128. Four
// rounds of 108 are 432 tiles.
TEST(PassSize, ACardIsFullAtItsDeepestLevel) {
  const ModelSpec sd15 = random_spec("sd15"), sdxl = random_spec("sdxl");
  EXPECT_EQ(filling_pictures(job_of(512, 512), sd15, 108), 44u);
  EXPECT_EQ(filling_pictures(job_of(512, 512), sd15, 132), 53u);
  EXPECT_EQ(filling_pictures(job_of(768, 768), sd15, 108), 20u) << "of 12x12 pixels: 22.5 tiles";
  EXPECT_EQ(filling_pictures(job_of(1024, 512, 1), sd15, 108), 44u) << "one branch, twice the pixels";
  EXPECT_EQ(filling_pictures(job_of(1024, 1024), sdxl, 108), 3u) << "160 tiles";
  EXPECT_EQ(filling_pictures(job_of(4096, 4096), sdxl, 108), 1u);
  EXPECT_EQ(filling_pictures(job_of(64, 64), sd15, 108), 64u) << "never full";
}

TEST(PassSize, MemoryAndWhoeverAsksBoundIt) {
  const ModelSpec spec = random_spec("sd15");
  const auto need = [](size_t n) { return static_cast<int64_t>(100 + n * 50) << 20; };
  const auto size = [&](size_t asked, int64_t free_mebibytes) {
    return pass_size(job_of(512, 512), spec, {.asked = asked, .device = kCard, .free_bytes = free_mebibytes << 20, .need = need});
  };
  EXPECT_EQ(describe(size(0, 1 << 20)), "passes of 44 pictures: they fill the 108 multiprocessors of cuda:0");
  // 15 of 16 parts of 1000 MiB are 937.
  EXPECT_EQ(describe(size(0, 1000)), "passes of 16 pictures: 17 need 950 MiB of cuda:0, and 937 MiB are free for it");
  EXPECT_EQ(size(0, 10).pictures, 1u) << "it is tried, and says what is missing";
  EXPECT_EQ(describe(size(1, 1000)), "passes of 1 picture: no more are asked for");
  EXPECT_EQ(size(60, 1 << 20).pictures, 60u);
  EXPECT_EQ(size(60, 1000).pictures, 16u);
}

TEST(PassSize, AProcessorMakesOneAfterTheOther) {
  const DeviceInfo cpu{.kind = "cpu", .description = ""};
  const auto need = [](size_t) -> int64_t { return 1; };
  const PassBounds bounds{.device = cpu, .free_bytes = 1 << 30, .need = need};
  EXPECT_EQ(describe(pass_size(job_of(512, 512), random_spec("sd15"), bounds)),
            "passes of 1 picture: cpu makes one after the other in any case");
}

}  // namespace
}  // namespace cudream
