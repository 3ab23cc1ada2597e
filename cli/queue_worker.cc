// Taking, grouping by model, naming, settling.
#include "cli/queue_worker.h"

#include <algorithm>
#include <chrono>

#include "core/error.h"
#include "core/leftovers.h"
#include "core/log.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds kWait{500};  // for new entries, before signals are looked at
constexpr int64_t kMostDeliveries = 5;           // an entry that ended so many workers ends no more
constexpr size_t kMostReason = 1000;             // bytes of a failure that are told: it may quote the entry

bool is_there(const fs::path& file) {
  std::error_code ignored;
  return fs::exists(file, ignored);
}

}  // namespace

QueueWorker::QueueWorker(const WorkerOptions& options, QueueConsumer& queue, Progress& progress)
    : options_(options),
      queue_(queue),
      progress_(progress),
      inputs_(options.inputs),
      stamps_(options.host),
      painter_(items_, options.together, *this, progress) {}

void QueueWorker::run() {
  open_device(options_.host.device_options());  // what is wrong with it shows now, and not with the first item
  try {
    while (!finish_requested) {
      if (stop_requested) throw fail(Code::cancelled, "cancelled");
      std::vector<QueueEntry> entries = queue_.take(painter_.pass(), kWait);
      if (entries.empty() && options_.until_empty && queue_.finished()) break;
      make(std::move(entries));
    }
  } catch (...) {
    painter_.wait();
    queue_.give_back();
    throw;
  }
  queue_.give_back();
}

void QueueWorker::make(std::vector<QueueEntry> entries) {
  entries_ = std::move(entries);
  items_.clear();
  indexes_.clear();
  names_.assign(entries_.size(), "");
  std::vector<std::pair<ModelNames, std::vector<size_t>>> groups;
  for (size_t i = 0; i < entries_.size(); i++) {
    QueuedItem queued = read_entry(parser_, inputs_, entries_[i]);
    if (queued.item.error.empty() && entries_[i].deliveries > kMostDeliveries)
      queued.item.error = fmt::format("{} workers took it and none came to an end with it", entries_[i].deliveries - 1);
    items_.push_back(std::move(queued.item));
    indexes_.push_back(queued.index);
    if (!items_[i].error.empty()) {
      fail_item(i, items_[i].error);
      continue;
    }
    const ModelNames wanted = model_names(items_[i].options.job);
    auto found = std::ranges::find(groups, wanted, [](const auto& group) { return group.first; });
    if (found == groups.end()) found = groups.insert(found, {wanted, {}});
    found->second.push_back(i);
  }
  for (const auto& [names, items] : groups) make_with(names, items);
}

void QueueWorker::make_with(const ModelNames& names, const std::vector<size_t>& items) {
  try {
    open(names);
  } catch (const Error& e) {
    if (ends_the_batch(e.code())) throw;
    for (const size_t i : items) fail_item(i, e.what());
    return;
  }
  std::vector<size_t> left;
  for (const size_t i : items) {
    const std::string key =
        parser_.key(items_[i], fmt::format("{}\nindex={}", stamp_ + stamps_.named_beside(items_[i]), indexes_[i]), 0);
    names_[i] = fmt::format("{:05}-{}-{}.png", indexes_[i], seed_of(i), key.substr(0, 16));
    if (!is_made(i)) left.push_back(i);
  }
  painter_.paint(*session_, left);
  painter_.finish();
}

void QueueWorker::open(const ModelNames& names) {
  if (models_ == names) return;
  models_.reset();
  session_.reset();  // its memory is needed
  stamp_ = fmt::format("cudream {}\n{}", CUDREAM_VERSION, stamps_.of_models(names));
  session_ = std::make_unique<Session>(options_.host, names, progress_);
  session_->on_step([this] { queue_.keep_alive(); });
  models_ = names;
}

// By another worker that ended before it could say so, or when the same file was submitted before.
bool QueueWorker::is_made(size_t item) {
  if (!is_there(options_.output / names_[item])) return false;
  log(LogLevel::info, "{} is in place already", names_[item]);
  queue_.settle({.entry = entries_[item].id, .file = names_[item], .failure = "", .seed = seed_of(item)});
  return true;
}

uint64_t QueueWorker::seed_of(size_t item) {
  return items_[item].options.seed.value();
}

Place QueueWorker::plan(size_t item, const Job&) {
  return {options_.output / names_[item], Exists::refuse};
}

void QueueWorker::keep(size_t item, const Place& place, const MadePicture& made) {
  if (write(item, place, made)) {
    progress_.picture(place.file, made.job.seed, made.seconds);
    made_++;
  } else {
    log(LogLevel::info, "{} was made by another worker meanwhile", names_[item]);
  }
  if (entries_[item].deliveries > 1)
    remove_leftovers(options_.output, [&](const std::string& name) { return name == names_[item]; });
  queue_.settle(
      {.entry = entries_[item].id, .file = names_[item], .failure = "", .seed = made.job.seed, .seconds = made.seconds});
}

bool QueueWorker::write(size_t item, const Place& place, const MadePicture& made) {
  const bool silent = items_[item].options.no_metadata;
  try {
    write_image(place.file, made.image, silent ? Metadata() : describe_picture(made.job, made.making), place.exists);
    return true;
  } catch (const Error&) {
    require_folder();
    if (!is_there(place.file)) throw;
    return false;
  }
}

void QueueWorker::fail_item(size_t item, const std::string& why) {
  require_folder();
  const std::string reason = printable(why).substr(0, kMostReason);
  log(LogLevel::error, "{}: {}", items_[item].where, reason);
  queue_.settle({.entry = entries_[item].id, .file = "", .failure = reason});
  failed_++;
}

// A folder that was moved away is no failure of an item: all that follow would fail too.
void QueueWorker::require_folder() const {
  if (!fs::is_directory(options_.output)) throw fail(Code::io, "the folder {} is gone", options_.output.string());
}

std::string QueueWorker::summary() const {
  return fmt::format("{} pictures made, {} items failed", made_.load(), failed_.load());
}

}  // namespace cudream
