// Growth as it is written, and frames that cover what is new.
#include "runtime/outpaint.h"

#include <gtest/gtest.h>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

TEST(Growth, PixelsAndPercent) {
  EXPECT_EQ(read_growth("64", 512, 256), (Growth{64, 64, 64, 64}));
  EXPECT_EQ(read_growth("0,10%,50%,32", 512, 256), (Growth{0, 26, 256, 32}));
  for (const char* bad : {"", "a", "1,2,3", "-5", "1,2,3,4,5", "10 %", "nan", "inf", "99999"})
    expect_error([&] { read_growth(bad, 512, 512); }, Code::usage, "--grow");
  expect_error([] { read_growth("0,0,0,0", 512, 512); }, Code::usage, "nothing grows");
}

TEST(OutpaintPlan, FramesCoverWhatIsNewAndSeeWhatIsKnown) {
  for (const Growth& growth : {Growth{64, 0, 0, 0}, Growth{0, 0, 0, 300}, Growth{700, 10, 300, 900}, Growth{1, 1, 1, 1}})
    for (const auto& [width, height] : {std::pair{512, 512}, std::pair{100, 1500}, std::pair{2000, 300}}) {
      const OutpaintPlan plan = plan_outpaint(width, height, growth, 512);
      ASSERT_EQ(plan.width, width + growth.left + growth.right);
      std::vector<uint8_t> known(static_cast<size_t>(plan.width * plan.height));
      const auto mark = [&](const Rect& r) {  // how many pixels of it were known before
        int64_t count = 0;
        for (int y = r.top; y < r.bottom(); y++)
          for (int x = r.left; x < r.right(); x++) count += std::exchange(known[static_cast<size_t>(y * plan.width + x)], 1);
        return count;
      };
      mark(plan.kept);
      for (const Rect& frame : plan.frames) {
        ASSERT_TRUE(frame.left >= 0 && frame.top >= 0 && frame.right() <= plan.width && frame.bottom() <= plan.height);
        EXPECT_LE(frame.width, 768);
        EXPECT_LE(frame.height, 768);
        const int64_t seen = mark(frame), all = int64_t{frame.width} * frame.height;
        EXPECT_GE(seen * 4, all) << "a quarter is known at least";
        EXPECT_LT(seen, all) << "a frame that paints nothing";
      }
      EXPECT_EQ(std::count(known.begin(), known.end(), 0), 0);
    }
}

}  // namespace
}  // namespace cudream
