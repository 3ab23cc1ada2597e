// The CPU device's one team of threads, and their scratch memory.
//
// oneDNN runs inside jobs, one thread each, so no second team exists. Idle threads spin for as long as the next call is
// usually away, then park: a core that another program needs is not spun away, and a device that does nothing costs nothing.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels/cpu/pages.h"

namespace cudream {

class Team {
 public:
  using Job = std::function<void(int64_t job, int thread)>;

  explicit Team(int threads);  // the caller is one of them
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  int threads() const { return static_cast<int>(scratch_.size()); }

  // Runs job(i, thread) for i in [0, jobs), each on one thread, idle threads taking the next one; so a thread that a busy
  // neighbour slows down does less. Throws what a job threw, after all threads have stopped. One call at a time.
  void run(int64_t jobs, const Job& job);

  // Memory of one thread, kept and grown between calls; its contents are lost when it grows.
  std::byte* scratch(int thread, int64_t bytes) { return scratch_[static_cast<size_t>(thread)].grown_to(bytes); }
  // Memory that all threads share during one verb.
  std::byte* shared_scratch(int64_t bytes) { return shared_.grown_to(bytes); }

 private:
  void serve(int thread);
  void work(int thread);

  std::vector<PageBuffer> scratch_;
  PageBuffer shared_;

  // The call under way. It is written before `calls_` is raised and read after.
  const Job* job_ = nullptr;
  int64_t jobs_ = 0;
  std::atomic<int64_t> next_{0};
  std::mutex error_mutex_;
  std::exception_ptr error_;

  std::atomic<uint32_t> calls_{0};  // how many there were
  std::atomic<uint32_t> busy_{0};   // threads that have not finished the last one
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

}  // namespace cudream
