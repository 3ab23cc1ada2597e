// Shares and waiting.
#include "cli/batch_share.h"

#include <algorithm>

namespace cudream {

// Guided self-scheduling (Polychronopoulos and Kuck 1987): a share of what is left, halved, since devices are never equally fast.
std::vector<size_t> SharedItems::take(size_t least) {
  std::unique_lock hold(lock_);
  changed_.wait(hold, [this] { return closed_ || !left_.empty() || busy_ == 0; });
  if (closed_) return {};
  const size_t share = takers_ == 1 ? left_.size() : std::max(least, left_.size() / (2 * takers_));
  const auto end = left_.begin() + static_cast<std::ptrdiff_t>(std::min(share, left_.size()));
  std::vector<size_t> taken(left_.begin(), end);
  left_.erase(left_.begin(), end);
  busy_ += !taken.empty();
  return taken;
}

void SharedItems::finish() {
  leave({});
}

void SharedItems::leave(const std::vector<size_t>& items) {
  {
    const std::scoped_lock hold(lock_);
    left_.insert(left_.begin(), items.begin(), items.end());
    busy_--;
  }
  changed_.notify_all();
}

void SharedItems::close() {
  {
    const std::scoped_lock hold(lock_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace cudream
