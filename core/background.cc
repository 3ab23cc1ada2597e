// One thread and its queue.
#include "core/background.h"

#include <utility>

namespace cudream {

Background::Background(size_t most_waiting) : most_waiting_(most_waiting), thread_([this] { work(); }) {}

Background::~Background() {
  wait();
  {
    const std::scoped_lock hold(lock_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Background::add(std::function<void()> task) {
  {
    std::unique_lock hold(lock_);
    changed_.wait(hold, [this] { return waiting_.size() < most_waiting_ || failure_ != nullptr; });
    if (failure_ != nullptr) std::rethrow_exception(failure_);
    waiting_.push_back(std::move(task));
  }
  changed_.notify_all();
}

void Background::wait() noexcept {
  std::unique_lock hold(lock_);
  changed_.wait(hold, [this] { return waiting_.empty() && !busy_; });
}

void Background::finish() {
  wait();
  const std::scoped_lock hold(lock_);
  if (failure_ != nullptr) std::rethrow_exception(failure_);
}

void Background::work() {
  std::unique_lock hold(lock_);
  while (true) {
    changed_.wait(hold, [this] { return over_ || !waiting_.empty(); });
    if (over_) return;
    const std::function<void()> task = std::move(waiting_.front());
    waiting_.pop_front();
    busy_ = true;
    changed_.notify_all();  // there is room
    hold.unlock();
    std::exception_ptr thrown;
    try {
      task();
    } catch (...) {
      thrown = std::current_exception();
    }
    hold.lock();
    busy_ = false;
    if (thrown != nullptr) {
      failure_ = thrown;
      waiting_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace cudream
