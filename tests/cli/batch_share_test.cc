// Every item is taken once, what a taker leaves goes to another, and nobody waits in vain.
#include "cli/batch_share.h"

#include <gtest/gtest.h>

#include <future>
#include <numeric>
#include <set>
#include <thread>

namespace cudream {
namespace {

std::vector<size_t> numbers(size_t count) {
  std::vector<size_t> all(count);
  std::iota(all.begin(), all.end(), size_t{0});
  return all;
}

TEST(SharedItems, OneTakesAll) {
  SharedItems shared(numbers(1000), 1);
  EXPECT_EQ(shared.take(8), numbers(1000));
  shared.finish();
  EXPECT_TRUE(shared.take(8).empty());
}

TEST(SharedItems, SharesBecomeSmaller) {
  SharedItems shared(numbers(100), 2);
  EXPECT_EQ(shared.take(8).size(), 25u);
  EXPECT_EQ(shared.take(8).size(), 18u);
  EXPECT_EQ(shared.take(20).size(), 20u);
}

TEST(SharedItems, EachIsTakenOnce) {
  SharedItems shared(numbers(5000), 4);
  std::mutex lock;
  std::multiset<size_t> seen;
  {
    std::vector<std::jthread> takers;
    for (int t = 0; t < 4; t++)
      takers.emplace_back([&] {
        for (std::vector<size_t> taken = shared.take(3); !taken.empty(); taken = shared.take(3)) {
          {
            const std::scoped_lock hold(lock);
            seen.insert(taken.begin(), taken.end());
          }
          shared.finish();
        }
      });
  }
  const std::vector<size_t> all = numbers(5000);
  EXPECT_TRUE(std::equal(seen.begin(), seen.end(), all.begin(), all.end()));
}

TEST(SharedItems, WhatIsLeftGoesToOneThatWaits) {
  SharedItems shared({1, 2, 3}, 2);
  ASSERT_EQ(shared.take(3).size(), 3u);
  auto other = std::async(std::launch::async, [&] { return shared.take(3); });
  EXPECT_EQ(other.wait_for(std::chrono::milliseconds(50)), std::future_status::timeout);
  shared.leave({2, 3});
  EXPECT_EQ(other.get(), (std::vector<size_t>{2, 3}));
}

TEST(SharedItems, NobodyGetsAnyMoreAfterClosing) {
  SharedItems shared(numbers(100), 2);
  ASSERT_FALSE(shared.take(1).empty());
  shared.close();
  EXPECT_TRUE(shared.take(1).empty());
}

}  // namespace
}  // namespace cudream
