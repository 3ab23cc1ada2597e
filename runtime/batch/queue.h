// A queue of pictures in a stream of Redis, shared by workers through a consumer group (redis.io/docs/data-types/streams).
//
// An entry is one picture: names and values of its options. It is delivered to one worker and leaves the stream in the same
// transaction that adds its result to a second stream, STREAM:done. What a worker took and left idle, because it died or stands
// still, is claimed by another. So an entry may be worked on twice, and what is done with it must have the same outcome each
// time.
#pragma once

#include <chrono>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "runtime/batch/records.h"
#include "runtime/batch/redis.h"

namespace cudream {

struct QueueEntry {
  std::string id;
  Combination fields;
  int64_t deliveries = 1;  // to how many workers it went, this one included
};

// What became of an entry.
struct QueueResult {
  std::string entry;    // its id
  std::string file;     // the picture's name in the worker's folder
  std::string failure;  // why there is none; empty: there is
  uint64_t seed = 0;
  double seconds = 0;
};

// For whoever submits and follows. All functions throw as Redis::call does.
class QueueProducer {
 public:
  explicit QueueProducer(Redis& redis) : redis_(redis) {}
  std::vector<std::string> submit(std::span<const Combination>);  // their ids
  std::string position();                                         // after all results there are now
  // The results after `position`, which moves on; none when `wait` passes without any.
  std::vector<QueueResult> results(std::string& position, std::chrono::milliseconds wait);
  bool holds(const std::string& id);  // whether an entry waits or is in work

 private:
  Redis& redis_;
};

// For a worker. Its functions may be called from several threads; they throw as Redis::call does.
class QueueConsumer {
 public:
  // Joins the group of workers, and makes it with the first. What others leave idle for `claim_after` is taken over.
  QueueConsumer(Redis& redis, std::string name, std::chrono::milliseconds claim_after);

  // At most `most` entries: first of those that others left, then new ones; none when `wait` passes without any.
  std::vector<QueueEntry> take(size_t most, std::chrono::milliseconds wait);
  bool finished();  // nothing waits, and no worker has anything in work
  // What was taken and is not settled is still being worked on. To be called now and then: does something every quarter of
  // `claim_after`.
  void keep_alive();
  void settle(const QueueResult&);
  // What was taken and is not settled, so that others may take it at once. Where that fails they take it after `claim_after`.
  void give_back() noexcept;

 private:
  std::vector<QueueEntry> claim(size_t most);
  std::vector<std::string> held();

  Redis& redis_;
  const std::string stream_, name_;
  const std::chrono::milliseconds claim_after_;
  std::string cursor_ = "0-0";  // how far the search for idle entries is
  std::chrono::steady_clock::time_point alive_at_;
  std::mutex lock_;
  std::set<std::string> held_;
};

}  // namespace cudream
