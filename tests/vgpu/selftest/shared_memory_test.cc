// The shadow of shared memory by itself: who may touch what when.
#include "tests/vgpu/check/shared_memory.h"

#include <gtest/gtest.h>

namespace cudream::vgpu {
namespace {

class Shared : public testing::Test {
 protected:
  void SetUp() override {
    memory.begin_launch(64, 4);
    memory.begin_block();
    now = memory.barrier();
  }
  // Thread of the block, whose warp synchronised last at the last barrier.
  Accessor at(uint32_t thread) const { return {thread, now}; }

  SharedMemory memory;
  uint32_t now = 0;
};

TEST_F(Shared, ReadsNeedAWriteThatIsOrdered) {
  EXPECT_EQ(memory.read(at(0), 8, 4), Conflict::uninitialised);
  EXPECT_EQ(memory.write(at(0), 8, 4), Conflict::none);
  EXPECT_EQ(memory.read(at(0), 8, 4), Conflict::none) << "one's own";
  EXPECT_EQ(memory.read(at(1), 8, 4), Conflict::race) << "a lane of the same warp";
  EXPECT_EQ(memory.read(at(32), 8, 4), Conflict::race) << "another warp";
  const uint32_t later = memory.tick();
  EXPECT_EQ(memory.read({1, later}, 8, 4), Conflict::none) << "after a warp synchronisation";
  EXPECT_EQ(memory.read({32, later}, 8, 4), Conflict::race) << "which says nothing to another warp";
  now = memory.barrier();
  EXPECT_EQ(memory.read(at(32), 8, 4), Conflict::none) << "after a barrier";
  EXPECT_EQ(memory.read(at(32), 8, 8), Conflict::uninitialised) << "only half of it was written";
}

TEST_F(Shared, WritesMustNotOvertakeReaders) {
  memory.write(at(0), 0, 4);
  now = memory.barrier();
  memory.read(at(1), 0, 4);
  EXPECT_EQ(memory.write(at(1), 0, 4), Conflict::none) << "the only reader itself";
  now = memory.barrier();
  memory.read(at(1), 0, 4);
  memory.read(at(2), 0, 4);
  EXPECT_EQ(memory.write(at(1), 0, 4), Conflict::race) << "another lane read too";
  const uint32_t later = memory.tick();
  EXPECT_EQ(memory.write({1, later}, 0, 4), Conflict::none) << "all readers are of this warp, which has synchronised";
  now = memory.barrier();
  memory.read(at(1), 0, 4);
  memory.read(at(40), 0, 4);
  EXPECT_EQ(memory.write({1, memory.tick()}, 0, 4), Conflict::race) << "a reader in another warp";
}

TEST_F(Shared, AtomicsAreOrderedAmongThemselvesOnly) {
  memory.write(at(0), 0, 4);
  now = memory.barrier();
  EXPECT_EQ(memory.atomic(at(1), 0, 4), Conflict::none);
  EXPECT_EQ(memory.read(at(1), 0, 4), Conflict::none) << "one's own";
  now = memory.barrier();
  EXPECT_EQ(memory.atomic(at(1), 0, 4), Conflict::none);
  EXPECT_EQ(memory.atomic(at(2), 0, 4), Conflict::none);
  EXPECT_EQ(memory.atomic(at(70), 0, 4), Conflict::none);
  EXPECT_EQ(memory.read(at(1), 0, 4), Conflict::race);
  now = memory.barrier();
  EXPECT_EQ(memory.read(at(1), 0, 4), Conflict::none);
}

TEST_F(Shared, CopiesInFlightMayNotBeTouched) {
  EXPECT_EQ(memory.begin_async(at(0), 0, 16), Conflict::none);
  now = memory.barrier();
  EXPECT_EQ(memory.read(at(0), 4, 4), Conflict::async_in_flight) << "a barrier is no wait";
  EXPECT_EQ(memory.write(at(0), 4, 4), Conflict::async_in_flight);
  memory.deliver(at(0), 0, 16);
  EXPECT_EQ(memory.read(at(0), 4, 4), Conflict::none);
  EXPECT_EQ(memory.read(at(32), 4, 4), Conflict::race) << "a wait is no barrier";
  now = memory.barrier();
  EXPECT_EQ(memory.read(at(32), 4, 4), Conflict::none);
}

TEST_F(Shared, AWholeWarpReadsAsItsLanesDo) {
  std::array<uint32_t, 32> places{};
  for (uint32_t lane = 0; lane < 32; lane++) places[lane] = lane / 4 * 4;
  EXPECT_FALSE(memory.read_warp(0, now, places, ~0u, 4)) << "nothing is written";
  for (uint32_t lane = 0; lane < 8; lane++) memory.write(at(lane), lane * 4, 4);
  EXPECT_FALSE(memory.read_warp(1, now, places, ~0u, 4)) << "no barrier";
  now = memory.barrier();
  EXPECT_TRUE(memory.read_warp(1, now, places, ~0u, 4));
  EXPECT_EQ(memory.write(at(32), 0, 4), Conflict::race) << "lanes 1 to 3 read there as well";
  EXPECT_EQ(memory.write({33, memory.tick()}, 4, 4), Conflict::none);
}

// More ticks than an entry can hold: what was true before stays true.
TEST_F(Shared, TheClockStartsAgain) {
  memory.write(at(0), 0, 4);
  memory.begin_async(at(0), 16, 16);
  for (uint32_t i = 0; i < (1u << 19) + 10; i++) memory.tick();
  now = memory.barrier();
  EXPECT_LT(now, 100u);
  EXPECT_EQ(memory.read(at(40), 0, 4), Conflict::none);
  EXPECT_EQ(memory.read(at(40), 4, 4), Conflict::uninitialised);
  EXPECT_EQ(memory.read(at(40), 16, 4), Conflict::async_in_flight);
  for (uint32_t i = 0; i < (1u << 19) + 10; i++) memory.tick();
  memory.begin_block();
  now = memory.barrier();
  EXPECT_EQ(memory.read(at(0), 0, 4), Conflict::uninitialised) << "a new block";
  EXPECT_EQ(memory.read(at(0), 16, 4), Conflict::uninitialised);
}

}  // namespace
}  // namespace cudream::vgpu
