// Work beside the work: tasks that are done one after the other on a thread of their own.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace cudream {

// After a task has thrown, those behind it are dropped, and what it threw is thrown to whoever adds or finishes.
class Background {
 public:
  explicit Background(size_t most_waiting);
  ~Background();  // waits
  Background(const Background&) = delete;
  Background& operator=(const Background&) = delete;

  void add(std::function<void()> task);  // waits while too many wait
  void wait() noexcept;                  // until all are done or dropped
  void finish();                         // waits, then throws what a task threw

 private:
  void work();

  const size_t most_waiting_;
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> waiting_;
  std::exception_ptr failure_;
  bool busy_ = false, over_ = false;
  std::thread thread_;  // the last: it uses all of the above
};

}  // namespace cudream
