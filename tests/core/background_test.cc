// Tasks on a thread of their own: order, room, failures.
#include "core/background.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <stdexcept>
#include <thread>
#include <vector>

namespace cudream {
namespace {

TEST(Background, DoesTasksInOrder) {
  std::vector<int> done;
  {
    Background background(3);
    for (int i = 0; i < 100; i++) background.add([&done, i] { done.push_back(i); });
    background.finish();
    EXPECT_EQ(done.size(), 100u);
    background.add([&done] { done.push_back(100); });
  }
  for (size_t i = 0; i < done.size(); i++) EXPECT_EQ(done[i], static_cast<int>(i));
  EXPECT_EQ(done.size(), 101u) << "the destructor waits";
}

TEST(Background, WaitsForRoom) {
  Background background(1);
  std::promise<void> go;
  std::atomic<int> done = 0;
  background.add([&] { go.get_future().wait(); });
  background.add([&] { done++; });  // waits in the queue, once the first is at work
  std::thread third([&] { background.add([&] { done++; }); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_EQ(done, 0);
  go.set_value();
  third.join();
  background.finish();
  EXPECT_EQ(done, 2);
}

TEST(Background, WhatATaskThrowsIsThrownOnceMore) {
  Background background(10);
  std::promise<void> go;
  bool after = false;
  background.add([&] { go.get_future().wait(); });
  background.add([] { throw std::runtime_error("disk full"); });
  background.add([&] { after = true; });
  go.set_value();
  background.wait();
  EXPECT_FALSE(after) << "what stands behind a failure is dropped";
  EXPECT_THROW(background.add([] {}), std::runtime_error);
  EXPECT_THROW(background.finish(), std::runtime_error);
}

}  // namespace
}  // namespace cudream
