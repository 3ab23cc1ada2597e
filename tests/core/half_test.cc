// 16- and 8-bit floats: every pattern, and rounding to nearest even.
#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace cudream {
namespace {

TEST(Bf16, RoundsToNearestEven) {
  EXPECT_EQ(bf16(1.0f).bits, 0x3f80);
  EXPECT_EQ(bf16(std::bit_cast<float>(0x3f808000u)).bits, 0x3f80);  // a tie goes to the even one
  EXPECT_EQ(bf16(std::bit_cast<float>(0x3f818000u)).bits, 0x3f82);
  EXPECT_EQ(bf16(std::bit_cast<float>(0x3f808001u)).bits, 0x3f81);
  EXPECT_EQ(bf16(std::bit_cast<float>(0x7f7fffffu)).bits, 0x7f80);  // beyond the greatest: infinity
}

TEST(Bf16, EveryPatternComesBack) {
  for (uint32_t i = 0; i < 0x10000; i++) {
    bf16 h;
    h.bits = static_cast<uint16_t>(i);
    const auto f = static_cast<float>(h);
    if (std::isnan(f))
      EXPECT_TRUE(std::isnan(static_cast<float>(bf16(f))));
    else
      ASSERT_EQ(bf16(f).bits, h.bits);
  }
}

TEST(Fp8, KnownValues) {  // Micikevicius et al. 2022, table 1
  EXPECT_EQ(f8e4m3_to_float(0x7e), 448.f);
  EXPECT_EQ(f8e4m3_to_float(0x01), std::ldexp(1.f, -9));
  EXPECT_EQ(f8e4m3_to_float(0x08), std::ldexp(1.f, -6));
  EXPECT_EQ(f8e4m3_to_float(0xb8), -1.f);
  EXPECT_TRUE(std::isnan(f8e4m3_to_float(0x7f)) && std::isnan(f8e4m3_to_float(0xff)));
  EXPECT_EQ(f8e5m2_to_float(0x7b), 57344.f);
  EXPECT_EQ(f8e5m2_to_float(0x01), std::ldexp(1.f, -16));
  EXPECT_TRUE(std::isinf(f8e5m2_to_float(0x7c)));
}

}  // namespace
}  // namespace cudream
