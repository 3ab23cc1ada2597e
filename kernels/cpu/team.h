// The CPU device's one team of threads (OpenMP's, which oneDNN shares) and their scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/cpu/pages.h"

namespace cudream {

class Team {
 public:
  explicit Team(int threads);
  int threads() const { return static_cast<int>(scratch_.size()); }

  // Runs job(i, thread) for i in [0, jobs), each on one thread, idle threads taking the next one; so a thread that a busy
  // neighbour slows down does less. Throws what a job threw, after all threads have stopped.
  void run(int64_t jobs, const std::function<void(int64_t job, int thread)>& job) const;

  // Memory of one thread, kept and grown between calls; its contents are lost when it grows.
  std::byte* scratch(int thread, int64_t bytes) { return scratch_[static_cast<size_t>(thread)].grown_to(bytes); }
  // Memory that all threads share during one verb.
  std::byte* shared_scratch(int64_t bytes) { return shared_.grown_to(bytes); }

 private:
  std::vector<PageBuffer> scratch_;
  PageBuffer shared_;
};

}  // namespace cudream
