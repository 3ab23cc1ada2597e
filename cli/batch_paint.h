// Making items of one model: in passes of several, each picture handed over while the next are made.
#pragma once

#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cli/batch_items.h"
#include "cli/produce.h"
#include "core/background.h"
#include "core/error.h"
#include "runtime/pass_size.h"

namespace cudream {

// Whether the next item would fare no better than one that failed so.
bool ends_the_batch(Code);

// Where an item's picture goes.
struct Place {
  std::filesystem::path file;
  Exists exists = Exists::refuse;
};

// Who wants the pictures: decides what items leave open, and hears what becomes of them. Items are numbers in a list.
class ItemKeeper {
 public:
  virtual ~ItemKeeper() = default;
  virtual uint64_t seed_of(size_t item) = 0;                             // of the first picture of its --count
  virtual Place plan(size_t item, const Job&) = 0;                       // before it is made
  virtual void keep(size_t item, const Place&, const MadePicture&) = 0;  // beside the next pass, on a thread of its own
  virtual void fail_item(size_t item, const std::string& reason) = 0;    // on either thread
};

class Painter {
 public:
  // Makes at most `together` pictures in a pass; 0: as many as fill the device (see pass_size.h). All but the number must outlive
  // it.
  Painter(const std::vector<BatchItem>& items, int together, ItemKeeper&, Progress&);

  // Until finish_requested. Items near each other that may share a pass are made together. An item's failure does not end it; a
  // full disk, a lost device or Ctrl-C does, as an Error.
  void paint(Session&, std::span<const size_t> items);
  void wait() noexcept { writer_.wait(); }  // until all that is made is kept, or keeping it has failed
  void finish();                            // the same; throws what keeping it threw
  // How many items the next call should have at least: a pass of the kind that was made last; before that `together`, or 1.
  size_t pass() const { return pass_; }

 private:
  // An item whose job is complete.
  struct Ready {
    size_t item = 0;
    Job job;
  };
  void paint_window(Session&, std::span<const size_t> items);
  void paint_alike(Session&, std::span<const Ready> all);
  size_t size_of_pass(Session&, std::span<const Ready> alike);
  void make_together(Session&, std::span<const Ready> some);
  std::pair<Adapters, Ready> prepare(Session&, size_t item);
  // Does `work` for an item, whose failure is told to the keeper.
  void attempt(size_t item, const std::function<void()>& work);

  const std::vector<BatchItem>& items_;
  const size_t together_;
  ItemKeeper& keeper_;
  Progress& progress_;
  size_t pass_;
  std::string said_;  // of the size of passes
  Background writer_;
};

}  // namespace cudream
