// Items shared by several devices: each takes some at a time, and what one that fails has left goes to the others.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <vector>

namespace cudream {

class SharedItems {
 public:
  SharedItems(const std::vector<size_t>& items, size_t takers) : takers_(takers), left_(items.begin(), items.end()) {}

  // The next items of a taker, at least `least` where there are so many; fewer at a time towards the end, so that all come to it
  // together. Waits while there are none but another may still leave some. Empty: there will be no more.
  std::vector<size_t> take(size_t least);
  void finish();                                 // with what was taken
  void leave(const std::vector<size_t>& items);  // of what was taken, and finish
  void close();                                  // nobody gets any more

 private:
  const size_t takers_;
  std::mutex lock_;
  std::condition_variable changed_;
  std::deque<size_t> left_;
  size_t busy_ = 0;  // takers that have not finished
  bool closed_ = false;
};

}  // namespace cudream
