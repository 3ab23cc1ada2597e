// Submitting, and reading results as they come.
#include "cli/batch_queue.h"

#include "cli/queue_items.h"
#include "cli/session.h"
#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kWait{500};  // for results, before signals are looked at
constexpr std::chrono::seconds kLongSilence{60};

}  // namespace

QueuedBatch::QueuedBatch(const std::filesystem::path& file, const std::vector<BatchItem>& items, QueueProducer& queue,
                         Progress& progress)
    : file_(file), items_(items), queue_(queue), progress_(progress), begun_(Clock::now()) {}

void QueuedBatch::submit() {
  std::vector<Combination> entries;
  std::vector<size_t> submitted;
  uint64_t drawn = 0;
  for (size_t i = 0; i < items_.size(); i++) {
    const BatchItem& item = items_[i];
    if (item.nth == 0) drawn = random_seed();
    try {
      if (!item.error.empty()) throw fail(Code::usage, "{}", item.error);
      entries.push_back(queue_fields(item, i + 1, item.options.seed.value_or(drawn)));
      submitted.push_back(i);
    } catch (const Error& e) {
      fail_item(i, e.what());
    }
  }
  position_ = queue_.position();
  const std::vector<std::string> ids = queue_.submit(entries);
  for (size_t i = 0; i < ids.size(); i++) open_[ids[i]] = submitted[i];
  log(LogLevel::info, "{} items submitted", ids.size());
}

void QueuedBatch::follow() {
  progress_.start("queue", static_cast<int>(items_.size()));
  tell();
  auto heard = Clock::now();
  while (!open_.empty()) {
    if (stop_requested)
      throw fail(Code::cancelled, "{} items are left in the queue, and are made when their turn comes", open_.size());
    const std::vector<QueueResult> results = queue_.results(position_, kWait);
    for (const QueueResult& result : results) take(result);
    if (results.empty())
      look_for_lost();
    else
      heard = Clock::now();
    if (Clock::now() - heard < kLongSilence) continue;
    heard = Clock::now();
    log(LogLevel::warn, "no result for {} s: is a `cudream worker` running for this queue?", kLongSilence.count());
  }
  progress_.done();
}

// Results of others, and second ones of an entry that two workers made, are passed over.
void QueuedBatch::take(const QueueResult& result) {
  const auto found = open_.find(result.entry);
  if (found == open_.end()) return;
  if (result.failure.empty()) {
    done_++;
    progress_.picture(result.file, result.seed, result.seconds);
  } else {
    fail_item(found->second, result.failure);
  }
  open_.erase(found);
  tell();
}

// An entry leaves the queue together with the coming of its result. One that is not there and has none was deleted, or forgotten
// by a Redis that crashed; each silence finds the first of them.
void QueuedBatch::look_for_lost() {
  const std::string entry = open_.begin()->first;
  if (queue_.holds(entry)) return;
  for (const QueueResult& result : queue_.results(position_, std::chrono::milliseconds(1))) take(result);
  const auto found = open_.find(entry);
  if (found == open_.end()) return;
  fail_item(found->second, "Redis has lost it, or it was deleted there: submit it again");
  open_.erase(found);
  tell();
}

void QueuedBatch::fail_item(size_t item, const std::string& reason) {
  log(LogLevel::error, "{} {}: {}", file_.string(), items_[item].where, printable(reason));
  failed_++;
}

void QueuedBatch::tell() {
  const double minutes = std::chrono::duration<double>(Clock::now() - begun_).count() / 60;
  progress_.tally({.done = done_,
                   .failed = failed_,
                   .left = open_.size(),
                   .per_minute = minutes > 0 ? static_cast<double>(done_) / minutes : 0});
  progress_.step(static_cast<int>(done_ + failed_));
}

std::string QueuedBatch::summary() const {
  std::string text = fmt::format("{} of {} pictures done", done_, items_.size());
  if (failed_ > 0) text += fmt::format(", {} failed", failed_);
  return text;
}

}  // namespace cudream
