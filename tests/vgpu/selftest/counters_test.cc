// Counting of sectors and bank passes, and the roofline, on requests worked out by hand.
#include "tests/vgpu/check/counters.h"

#include <gtest/gtest.h>

#include "tests/vgpu/check/roofline.h"
#include "tests/vgpu/core/program.h"

namespace cudream::vgpu {
namespace {

struct Request {
  std::array<uint64_t, 32> address;
  explicit Request(uint64_t step, uint64_t base = 0) {
    for (uint64_t lane = 0; lane < 32; lane++) address[lane] = base + lane * step;
  }
};

TEST(Counters, Sectors) {
  EXPECT_EQ(count_sectors(Request(4).address.data(), ~0u), 4u);
  EXPECT_EQ(count_sectors(Request(4, 16).address.data(), ~0u), 5u) << "shifted by half a sector";
  EXPECT_EQ(count_sectors(Request(0).address.data(), ~0u), 1u);
  EXPECT_EQ(count_sectors(Request(128).address.data(), ~0u), 32u);
  EXPECT_EQ(count_sectors(Request(128).address.data(), 0x0000000f), 4u);
}

TEST(Counters, BankPasses) {
  const auto passes = [](uint64_t step, uint32_t bytes) {
    const Wavefronts n = count_wavefronts(Request(step).address.data(), ~0u, bytes);
    return std::pair(n.needed, n.ideal);
  };
  EXPECT_EQ(passes(4, 4), std::pair(1u, 1u));
  EXPECT_EQ(passes(0, 4), std::pair(1u, 1u)) << "one word for all";
  EXPECT_EQ(passes(8, 4), std::pair(2u, 1u));
  EXPECT_EQ(passes(128, 4), std::pair(32u, 1u)) << "one bank for all";
  EXPECT_EQ(passes(132, 4), std::pair(1u, 1u)) << "a padded row";
  EXPECT_EQ(passes(8, 8), std::pair(2u, 2u));
  EXPECT_EQ(passes(16, 16), std::pair(4u, 4u));
  EXPECT_EQ(passes(128, 16), std::pair(32u, 4u));
  EXPECT_EQ(passes(2, 2), std::pair(1u, 1u)) << "halves of one word";
}

TEST(Roofline, TheLongestTimeIsTheBound) {
  const Rates rates{.tensor_flops = 1e12, .instructions = 1e9, .shared_wavefronts = 1e9, .memory_bytes = 1e9};
  Counters c;
  c.instructions[static_cast<size_t>(Class::none)] = 1'000'000'000;  // steps of our own do not count
  c.instructions[static_cast<size_t>(Class::floating)] = 2000;
  c.instructions[static_cast<size_t>(Class::memory)] = 1000;
  EXPECT_EQ(roofline(c, rates).bound, "issue");
  EXPECT_DOUBLE_EQ(roofline(c, rates).issue, 3e-6);
  c.global_read_sectors = 100;
  c.global_write_sectors = 100;
  EXPECT_EQ(roofline(c, rates).bound, "memory");
  EXPECT_DOUBLE_EQ(roofline(c, rates).memory, 6.4e-6);
  c.shared_wavefronts = 7000;
  EXPECT_EQ(roofline(c, rates).bound, "shared");
  c.mma_flops = 8'000'000;
  EXPECT_EQ(roofline(c, rates).bound, "tensor");
  EXPECT_DOUBLE_EQ(roofline(c, rates).tensor, 8e-6);
}

}  // namespace
}  // namespace cudream::vgpu
