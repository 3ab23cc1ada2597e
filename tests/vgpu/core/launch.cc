// The loops over the blocks of a grid, and the host threads that share them.
#include "tests/vgpu/core/launch.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "tests/vgpu/core/worker.h"

namespace cudream::vgpu {
namespace {

constexpr std::chrono::microseconds kWorthAThread{300};

// Counts turns in which nothing happened that could let anyone go on who waits. A kernel that computes for long without
// writing anything has its turns too, of 100,000 instructions of each warp: so many idle ones mean that it never will.
class Patience {
 public:
  bool ends(uint64_t events) {
    idle_ = events == events_ ? idle_ + 1 : 0;
    events_ = events;
    return idle_ > kIdleTurns;
  }

 private:
  static constexpr uint32_t kIdleTurns = 200;
  uint64_t events_ = 0;
  uint32_t idle_ = 0;
};

void run_block(Worker& worker, uint64_t index) {
  worker.begin_block(index);
  Patience patience;
  while (worker.turn()) {
    if (patience.ends(worker.events()))
      worker.refuse_to_wait(
          "deadlock: a block waits for what none of its threads does; blocks of an ordinary launch need not run at the same "
          "time");
  }
}

// All blocks of a cooperative launch at once, in turns, on this thread.
Counters run_together(const Launch& launch, const DeviceMemory& memory, const LaunchOptions& options, BlockOrder* order) {
  const uint64_t blocks = launch.grid.size();
  std::deque<Worker> workers;
  for (uint64_t i = 0; i < blocks; i++)
    workers.emplace_back(launch, memory, options, order).begin_block(options.reverse ? blocks - 1 - i : i);
  Patience patience;
  std::vector<Worker*> running;
  for (Worker& w : workers) running.push_back(&w);
  while (!running.empty()) {
    std::erase_if(running, [](Worker* w) { return !w->turn(); });
    uint64_t events = 0;
    for (const Worker& w : workers) events += w.events();
    if (!running.empty() && patience.ends(events))
      running.front()->refuse_to_wait("deadlock: every block that is left of a cooperative launch waits");
  }
  Counters total;
  for (Worker& w : workers) total.add(w.finish());
  return total;
}

}  // namespace

Counters run(const Launch& launch, const DeviceMemory& memory, const LaunchOptions& options) {
  const uint64_t blocks = launch.grid.size();
  const uint64_t cores = options.workers != 0 ? options.workers : std::max(1u, std::thread::hardware_concurrency());
  std::atomic<uint64_t> next{0}, failed_block{~uint64_t{0}};
  std::exception_ptr failure;
  Counters total;
  std::optional<BlockOrder> order;
  if (options.block_order) order.emplace(blocks);
  BlockOrder* const watched = order ? &*order : nullptr;
  if (launch.cooperative) return run_together(launch, memory, options, watched);
  std::mutex mutex;
  const auto run_blocks = [&](Worker& worker, uint64_t most) {
    for (uint64_t done = 0; done < most; done++) {
      const uint64_t i = next++;
      if (i >= blocks || i > failed_block) return;
      try {
        run_block(worker, options.reverse ? blocks - 1 - i : i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (i < failed_block) {
          failed_block = i;
          failure = std::current_exception();
        }
      }
    }
  };
  const auto finish = [&](Worker& worker) {
    const std::lock_guard lock(mutex);
    total.add(worker.finish());
  };
  // Small launches are not worth a thread: the first block tells.
  Worker own(launch, memory, options, watched);
  const auto begin = std::chrono::steady_clock::now();
  run_blocks(own, 1);
  const auto rest = (std::chrono::steady_clock::now() - begin) * (blocks - 1);
  std::vector<std::thread> helpers;
  if (rest > kWorthAThread) {
    for (uint64_t i = 1; i < std::min(cores, blocks); i++) {
      helpers.emplace_back([&] {
        Worker worker(launch, memory, options, watched);
        run_blocks(worker, blocks);
        finish(worker);
      });
    }
  }
  run_blocks(own, blocks);
  for (std::thread& t : helpers) t.join();
  finish(own);
  if (failure) std::rethrow_exception(failure);
  return total;
}

}  // namespace cudream::vgpu
