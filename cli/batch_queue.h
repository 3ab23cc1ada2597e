// A batch whose pictures are made by the workers of a queue: its items are submitted, and followed until all are settled.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "cli/batch_items.h"
#include "cli/progress.h"
#include "runtime/batch/queue.h"

namespace cudream {

class QueuedBatch {
 public:
  QueuedBatch(const std::filesystem::path& file, const std::vector<BatchItem>&, QueueProducer&, Progress&);

  void submit();  // all that can be; what cannot has failed
  // Until every item has its result or stop_requested, which throws Error(cancelled): what was submitted is made nevertheless.
  void follow();

  std::string summary() const;
  size_t failed() const { return failed_; }

 private:
  void take(const QueueResult&);
  void look_for_lost();
  void fail_item(size_t item, const std::string& reason);
  void tell();

  const std::filesystem::path& file_;
  const std::vector<BatchItem>& items_;
  QueueProducer& queue_;
  Progress& progress_;
  std::string position_;                // of the results
  std::map<std::string, size_t> open_;  // items by their entries, as long as there is no result
  size_t done_ = 0, failed_ = 0;
  std::chrono::steady_clock::time_point begun_;
};

}  // namespace cudream
