// Planned memory: layouts that never overlap, meet the lower bound, and refuse a run that strays.
#include "kernels/arena.h"

#include <gtest/gtest.h>

#include <random>

#include "core/error.h"
#include "kernels/ops.h"
#include "kernels/reference/reference_device.h"
#include "kernels/weight.h"

namespace cudream {
namespace {

TEST(Arena, ReusesWhatIsGivenBack) {
  Arena arena("test", 256);
  arena.rehearse();
  for (int i = 0; i < 10; i++) {
    const size_t a = arena.take(1000), b = arena.take(500);
    arena.give(a);
    arena.give(b);
  }
  const ArenaLayout layout = arena.plan();
  EXPECT_EQ(layout.blocks.size(), 20u);
  EXPECT_EQ(layout.bytes, 1024 + 512);
  EXPECT_EQ(layout.bytes, layout.lower_bound);
}

// Random lives: no two blocks alive at once overlap, every block is aligned and inside.
TEST(Arena, BlocksAliveAtOnceNeverOverlap) {
  std::mt19937 random(7);
  for (int round = 0; round < 50; round++) {
    struct Life {
      size_t block, born, dead;
    };
    Arena arena("test", 256);
    arena.rehearse();
    std::vector<size_t> alive;
    std::vector<Life> lives;
    size_t now = 0;
    for (int i = 0; i < 200; i++) {
      if (alive.empty() || random() % 2 == 0) {
        alive.push_back(arena.take(1 + random() % 5000));
        lives.push_back({alive.back(), now++, SIZE_MAX});
      } else {
        const size_t pick = random() % alive.size();
        arena.give(alive[pick]);
        lives[alive[pick]].dead = now++;
        alive.erase(alive.begin() + static_cast<std::ptrdiff_t>(pick));
      }
    }
    for (const size_t a : alive) arena.give(a);
    const ArenaLayout layout = arena.plan();
    for (const Life& a : lives) {
      const auto& block = layout.blocks[a.block];
      EXPECT_EQ(block.offset % kBlockAlign, 0);
      EXPECT_LE(block.offset + block.bytes, layout.bytes);
      for (const Life& b : lives) {
        if (a.block >= b.block || a.born >= b.dead || b.born >= a.dead) continue;
        const auto& other = layout.blocks[b.block];
        ASSERT_TRUE(block.offset + block.bytes <= other.offset || other.offset + other.bytes <= block.offset);
      }
    }
    EXPECT_GE(layout.bytes, layout.lower_bound);
  }
}

TEST(Arena, ARunThatStraysIsStopped) {
  Arena arena("test", 256);
  arena.rehearse();
  arena.give(arena.take(1000));
  const ArenaLayout layout = arena.plan();
  std::vector<std::byte> slab(static_cast<size_t>(layout.bytes));
  arena.follow(&layout, slab.data());
  EXPECT_THROW(arena.take(5000), Error);
  const size_t block = arena.take(1000);
  EXPECT_EQ(arena.address(block), slab.data());
  EXPECT_THROW(arena.take(1000), Error);
  arena.give(block);
  EXPECT_TRUE(arena.empty());
}

TEST(Ops, ArenasAreEmptyAfterAnError) {
  const auto device = open_reference();
  Ops o(*device);
  bool fail_now = false;
  const auto job = [&] {
    const Tensor out = o.make(DType::f32, {1, 4});
    o.stage("stage", {}, out, [&] {
      Tensor a = o.make(DType::f32, {1, 4});
      if (fail_now) throw fail(Code::device, "planted");
      return a;
    });
  };
  const Ops::Plan plan = o.rehearse(job);
  fail_now = true;
  EXPECT_THROW(o.run(plan, job), Error);
  fail_now = false;
  o.run(plan, job);  // begins from empty arenas, or follow() would throw
  o.run(plan, job);
}

// What a recorded stage reads must be an input: a replay would find it where it lay the first time.
TEST(Ops, AStageReadsNothingButItsInputs) {
  const auto device = open_reference();
  Ops o(*device);
  bool named = false;
  const auto job = [&] {
    const Tensor x = o.make(DType::f32, {2, 4}), hidden = o.make(DType::f32, {2, 4}), out = o.make(DType::f32, {1, 4});
    const std::vector<View> inputs = named ? std::vector<View>{x, hidden} : std::vector<View>{x};
    o.stage("stage", inputs, out, [&] {
      const Tensor sum = o.combine({{1, x}, {1, hidden}});
      return o.cast(sum.slice(0, 1, 2), DType::f32);
    });
  };
  EXPECT_THROW(o.rehearse(job), Error);
  named = true;
  o.rehearse(job);
}

TEST(Ops, RehearsalCountsAndPlansWithoutCallingTheDevice) {
  const auto device = open_reference();
  Ops o(*device);
  WeightStore store;
  const Linear layer = linear(store.root() / "never filled", 8, 16);
  const Ops::Plan plan = o.rehearse([&] {
    const Tensor x = o.make(DType::f32, {2, 3, 8});
    const Tensor y = o.linear(x, layer, {.act = Act::silu});
    EXPECT_EQ(y.shape(), (Shape{2, 3, 16}));
  });
  EXPECT_EQ(plan.counts.at("linear").calls, 1);
  EXPECT_EQ(plan.counts.at("linear").flops, 2.0 * 6 * 8 * 16);
  EXPECT_EQ(plan.bytes(), 256 + 512);  // 192 and 384 bytes, each rounded up to 256
}

TEST(Ops, ShapesThatDoNotFitAreRefused) {
  const auto device = open_reference();
  Ops o(*device);
  WeightStore store;
  const Linear layer = linear(store.root() / "l", 8, 16);
  EXPECT_THROW(o.rehearse([&] {
    const Tensor x = o.make(DType::f32, {2, 9});
    o.linear(x, layer);
  }),
               Error);
}

}  // namespace
}  // namespace cudream
