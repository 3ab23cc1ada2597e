// Making the pictures of a batch: what is done already is left out, what fails is noted, and every step is in the journal.
#pragma once

#include <chrono>
#include <exception>
#include <filesystem>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "cli/batch_items.h"
#include "cli/batch_keys.h"
#include "cli/batch_paint.h"
#include "cli/batch_share.h"
#include "cli/output_name.h"
#include "runtime/batch/journal.h"

namespace cudream {

// One of several runs that share the items of a file: item i is done by shard i modulo `of`.
struct Shard {
  size_t number = 1, of = 1;
  bool has(size_t item) const { return item % of == number - 1; }
  std::string suffix() const;  // of the names of its journal and status: "-2-of-4"
};
Shard parse_shard(const std::string& text);  // "2/4"; throws Error(usage)

// "0,1" and "cuda:0,cuda:1": names for --device. Throws Error(usage) for one that stands there twice.
std::vector<std::string> parse_devices(const std::string& list);

struct BatchOptions {
  HostOptions host;
  std::filesystem::path file, output;
  bool overwrite = false, retry_failed = false;
  std::vector<std::string> devices;  // that share the items, as --device names them; empty: the one of `host`
  Shard shard;
  int together = 0;  // pictures of a pass at most; 0: as many as fill the device
};

// What became of an item.
struct BatchResult {
  enum class State : uint8_t { left, done, failed, elsewhere } state = State::left;
  std::filesystem::path file;  // of a picture that is done
  uint64_t seed = 0;
  double seconds = 0;
  std::string reason;  // of a failure
};

class BatchRun : private ItemKeeper {
 public:
  // Makes the folder and opens its journal, "OUTPUT/.batch/journal.jsonl". Items of other shards count as left out. Throws as
  // Journal does.
  BatchRun(const BatchOptions&, const ItemParser&, const std::vector<BatchItem>&, Progress&);

  // All that is left to do, one model after the other. Items near each other in the file that may share a pass are made together;
  // each picture is written, hashed and noted while the next are made. Several devices share the items of a model; what one that
  // is lost leaves, the others make. An item's failure does not end it; a full disk, the loss of the last device or Ctrl-C does,
  // as an Error, and finish_requested after the pass in work. The same command then goes on.
  void run();
  const std::vector<BatchResult>& results() const { return results_; }

  // "200 pictures: 180 done, 1 failed, 19 left"
  std::string summary() const;
  size_t count(BatchResult::State) const;

 private:
  std::string device_text() const;
  void find_out(const std::string& model, size_t item);
  void paint_model(const ModelNames& names, const std::vector<size_t>& items);
  void paint_on_all(const ModelNames& names, const std::vector<size_t>& items);
  // Returns what ended it early.
  std::exception_ptr paint_on(const HostOptions& host, const ModelNames& names, SharedItems& shared);
  std::vector<size_t> left_of(std::vector<size_t> items) const;
  uint64_t seed_of(size_t item) override;
  Place plan(size_t item, const Job&) override;
  void keep(size_t item, const Place&, const MadePicture&) override;
  void fail_item(size_t item, const std::string& reason) override;
  std::string free_name(const Job&, size_t item);
  void give_up(size_t item, const std::string& reason);
  void settle(size_t item, BatchResult);
  size_t made_so_far() const;
  void require_folder() const;
  void tell();

  const BatchOptions& options_;
  const ItemParser& parser_;
  const std::vector<BatchItem>& items_;
  Progress& progress_;
  Progress unseen_;                 // of each of several devices
  std::vector<HostOptions> hosts_;  // one a device
  OutputNames names_;               // for items whose own name is taken
  Journal journal_;
  Stamps stamps_;
  std::vector<BatchResult> results_;
  std::vector<std::string> keys_, first_keys_;  // of each item; of the first picture of its --count
  std::map<std::string, int> occurrences_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  mutable std::mutex lock_;  // of results_ and made_
  std::mutex telling_;
  std::mutex planning_;  // seeds and names
  size_t made_ = 0;      // by this run
};

}  // namespace cudream
