// One parallel region per verb, jobs handed out one at a time.
#include "kernels/cpu/team.h"

#include <omp.h>

#include <atomic>
#include <exception>

namespace cudream {

Team::Team(int threads) : scratch_(static_cast<size_t>(threads)) {}

void Team::run(int64_t jobs, const std::function<void(int64_t job, int thread)>& job) const {
  std::atomic<int64_t> next{0};
  std::exception_ptr error;
  const auto work = [&](int thread) {
    try {
      for (int64_t i = next++; i < jobs; i = next++) job(i, thread);
    } catch (...) {
      next = jobs;
#pragma omp critical(cudream_team_error)
      error = std::current_exception();
    }
  };
  const int team = static_cast<int>(std::min<int64_t>(jobs, threads()));
  if (team <= 1) {
    work(0);
  } else {
#pragma omp parallel num_threads(team)
    work(omp_get_thread_num());
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace cudream
