// Waiting for a call, and handing out its jobs one at a time.
#include "kernels/cpu/team.h"

#include <immintrin.h>
#include <linux/futex.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <climits>
#include <utility>

namespace cudream {
namespace {

static_assert(std::atomic<uint32_t>::is_always_lock_free && sizeof(std::atomic<uint32_t>) == 4, "a futex is 32 bits");

// Longer than from one call to the next inside a network, shorter than a scheduler's slice.
constexpr std::chrono::microseconds kSpin{50};

// Returns when `value` is no longer `old`. The system call and not std::atomic::wait, which yields a few times before it
// parks: beside a busy neighbour each of these costs a slice (measured: a tenth of a step).
void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  const auto end = std::chrono::steady_clock::now() + kSpin;
  while (value.load(std::memory_order_acquire) == old) {
    _mm_pause();
    if (std::chrono::steady_clock::now() > end) syscall(SYS_futex, &value, FUTEX_WAIT_PRIVATE, old, nullptr, nullptr, 0);
  }
}

void wake(const std::atomic<uint32_t>& value) {
  syscall(SYS_futex, &value, FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

Team::Team(int threads) : scratch_(static_cast<size_t>(threads)) {
  for (int i = 1; i < threads; i++) workers_.emplace_back([this, i] { serve(i); });
}

Team::~Team() {
  stop_ = true;
  calls_++;
  wake(calls_);
  for (std::thread& t : workers_) t.join();
}

void Team::serve(int thread) {
  omp_set_num_threads(1);  // oneDNN reads this on every thread that calls it
  for (uint32_t seen = 0;; seen++) {
    wait_while(calls_, seen);
    if (stop_) return;
    work(thread);
    if (--busy_ == 0) wake(busy_);
  }
}

void Team::work(int thread) {
  try {
    for (int64_t i = next_++; i < jobs_; i = next_++) (*job_)(i, thread);
  } catch (...) {
    next_ = jobs_;
    const std::scoped_lock lock(error_mutex_);
    error_ = std::current_exception();
  }
}

void Team::run(int64_t jobs, const Job& job) {
  const int before = omp_get_max_threads();
  omp_set_num_threads(1);
  job_ = &job;
  jobs_ = jobs;
  next_ = 0;
  if (jobs > 1 && !workers_.empty()) {
    busy_ = static_cast<uint32_t>(workers_.size());
    calls_++;
    wake(calls_);
    work(0);
    for (uint32_t left = busy_; left != 0; left = busy_) wait_while(busy_, left);
  } else {
    work(0);
  }
  omp_set_num_threads(before);
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace cudream
