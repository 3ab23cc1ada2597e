// Making what a queue holds: entries are taken, made, and settled once their picture is in place or the reason why there is none
// is known.
#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/batch_keys.h"
#include "cli/batch_paint.h"
#include "cli/queue_items.h"

namespace cudream {

struct WorkerOptions {
  HostOptions host;
  std::filesystem::path output;  // exists
  std::filesystem::path inputs;  // folder of the pictures that entries may name; empty: they may name none
  int together = 0;              // as in BatchOptions
  bool until_empty = false;
};

// A picture's name is made of its entry alone (place, seed and key), so that whoever makes it twice finds it in place. There is
// no journal: what is not settled in the queue and not in the folder is still to be made.
class QueueWorker : private ItemKeeper {
 public:
  // All must outlive it. Throws as InputPictures does.
  QueueWorker(const WorkerOptions&, QueueConsumer&, Progress&);

  // Until finish_requested or, where that is asked, the queue is empty. An item's failure is its result. Throws what ends a
  // batch, and what the queue throws; what was taken and not made is given back.
  void run();
  std::string summary() const;

 private:
  void make(std::vector<QueueEntry>);
  void make_with(const ModelNames&, const std::vector<size_t>& items);
  void open(const ModelNames&);
  bool is_made(size_t item);
  uint64_t seed_of(size_t item) override;
  Place plan(size_t item, const Job&) override;
  void keep(size_t item, const Place&, const MadePicture&) override;
  void fail_item(size_t item, const std::string& reason) override;
  bool write(size_t item, const Place&, const MadePicture&);  // false: it is in place already, as files appear whole
  void require_folder() const;

  const WorkerOptions& options_;
  QueueConsumer& queue_;
  Progress& progress_;
  const InputPictures inputs_;
  ItemParser parser_;
  Stamps stamps_;
  // The model in use, and what it is to keys.
  std::optional<ModelNames> models_;
  std::string stamp_;
  std::unique_ptr<Session> session_;
  // What was taken last: entries, the items they are, the names of their pictures.
  std::vector<QueueEntry> entries_;
  std::vector<BatchItem> items_;
  std::vector<uint64_t> indexes_;
  std::vector<std::string> names_;
  std::atomic<size_t> made_ = 0, failed_ = 0;
  Painter painter_;  // the last: it uses all of the above
};

}  // namespace cudream
