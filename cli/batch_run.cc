// Which items are left, one model after the other, and how far the batch is.
#include "cli/batch_run.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "loader/hash.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using State = BatchResult::State;

constexpr size_t kMostUnwritten = 16;  // pictures that wait for the disk

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

// What a model file is to a key: its name, its size and its first bytes, which hold the header. Reading all of it would cost
// more than making a picture; a folder's files are told apart by their sizes.
std::string stamp(const fs::path& path) {
  if (path.empty()) return "";
  std::string text = path.filename().string();
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::recursive_directory_iterator(path))
      if (entry.is_regular_file()) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  for (const fs::path& file : files) text += fmt::format(" {}:{}", file.filename().string(), fs::file_size(file));
  if (files.size() != 1) return text;
  const MappedFile map(files.front());
  std::vector<std::byte> first(std::min<size_t>(map.size(), 1 << 20));
  map.read(first, 0);
  return text + " " + sha256(first);
}

fs::path journal_of(const BatchOptions& options) {
  const fs::path folder = options.output / ".batch";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw fail(Code::io, "cannot make {}: {}", folder.string(), error.message());
  return folder / ("journal" + options.shard.suffix() + ".jsonl");
}

// What a killed run left of a picture it was writing: ".NAME.PROCESS.NUMBER.part", as AtomicFile names it, of a planned NAME.
void remove_leftovers(const fs::path& output, const Journal& journal) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(output)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(".") || !name.ends_with(".part")) continue;
    std::string planned = name.substr(1, name.size() - std::string_view("..part").size());
    for (int numbers = 0; numbers < 2; numbers++) planned.resize(std::min(planned.rfind('.'), planned.size()));
    if (journal.has_planned(planned)) leftovers.push_back(entry.path());
  }
  for (const fs::path& file : leftovers) fs::remove(file);
}

}  // namespace

bool ends_the_batch(Code code) {
  return code == Code::cancelled || code == Code::device || code == Code::io || code == Code::internal;
}

std::string Shard::suffix() const {
  return of == 1 ? "" : fmt::format("-{}-of-{}", number, of);
}

Shard parse_shard(const std::string& text) {
  Shard shard;
  const char *end = text.data() + text.size(), *slash = std::find(text.data(), end, '/');
  const auto number = std::from_chars(text.data(), slash, shard.number);
  if (number.ec == std::errc() && number.ptr == slash && slash != end) {
    const auto of = std::from_chars(slash + 1, end, shard.of);
    if (of.ec == std::errc() && of.ptr == end && shard.number >= 1 && shard.number <= shard.of) return shard;
  }
  throw fail(Code::usage, "--shard {}: expected I/N, with I from 1 to N", printable(text));
}

BatchRun::BatchRun(const BatchOptions& options, const ItemParser& parser, const std::vector<BatchItem>& items, Progress& progress)
    : options_(options),
      parser_(parser),
      items_(items),
      progress_(progress),
      names_(options.output / "", true, options.overwrite ? Exists::replace : Exists::refuse),
      journal_(journal_of(options)),
      catalog_(open_catalog(options.host)),
      wildcards_(open_wildcards(options.host, catalog_)),
      results_(items.size()),
      keys_(items.size()),
      first_keys_(items.size()),
      writer_(kMostUnwritten) {
  remove_leftovers(options.output, journal_);
}

void BatchRun::run() {
  try {
    run_models();
    writer_.finish();
  } catch (...) {
    writer_.wait();  // what is made is kept
    throw;
  }
}

void BatchRun::run_models() {
  const DeviceInfo device = open_device(options_.host.device_options())->info();
  // Items of one model together, models in the order of their first item.
  std::vector<std::pair<ModelNames, std::vector<size_t>>> models;
  for (size_t i = 0; i < items_.size(); i++) {
    if (!options_.shard.has(i)) {
      results_[i].state = State::elsewhere;
      continue;
    }
    if (!items_[i].error.empty()) {
      give_up(i, items_[i].error);
      continue;
    }
    const ModelNames wanted = model_names(items_[i].options.job);
    auto found = std::find_if(models.begin(), models.end(), [&](const auto& m) { return m.first == wanted; });
    if (found == models.end()) found = models.insert(found, {wanted, {}});
    found->second.push_back(i);
  }
  const std::string program = fmt::format("cudream {} {} {}", CUDREAM_VERSION, device.description, name_of(device.compute));
  for (auto& [names, items] : models) {
    try {
      const ModelChoice model = choose_model(options_.host, names.model, names.task);
      const auto stamp_of = [&](const std::string& name) {
        return name.empty() ? "" : stamp(choose_model(options_.host, name, Task::generate).path);
      };
      const std::string setting =
          fmt::format("{}\n{}\n{}\n{}", program, stamp(model.path), stamp_of(names.vae), stamp_of(names.refiner));
      for (const size_t i : items) find_out(setting, i);
    } catch (const Error& e) {
      if (models.size() == 1 || ends_the_batch(e.code())) throw;
      for (const size_t i : items) give_up(i, e.what());
    }
    std::erase_if(items, [&](size_t i) { return results_[i].state != State::left; });
  }
  tell();
  for (const auto& [names, items] : models)
    if (!items.empty() && !finish_requested) paint_model(names, items);
}

// What an item names beside its model, as hashes, for its key: LoRAs, textual inversions, the lists of its wildcards.
std::string BatchRun::named_beside(const BatchItem& wanted) {
  Job job = wanted.options.job;
  const std::string lists = wildcards_.lists_behind(job.prompt + "\n" + job.negative);
  std::string text = lists.empty() ? "" : "\n" + sha256(std::as_bytes(std::span(lists)));
  try {
    const Adapters adapters = find_adapters(catalog_, job);
    std::vector<fs::path> files = adapters.inversions;
    for (const LoraUse& use : adapters.loras) files.push_back(use.path);
    for (const fs::path& file : files) {
      std::string& hash = hashes_[file];
      if (hash.empty()) hash = cached_sha256_of_file(file);
      text += "\n" + hash;
    }
    for (const ControlUse& use : adapters.controls) text += "\n" + stamp(use.path);
  } catch (const Error& e) {
    log(LogLevel::debug, "{}: {}", wanted.where, e.what());  // when the item's turn comes, it fails for this reason
  }
  return text;
}

// What the journal knows of an item.
void BatchRun::find_out(const std::string& model, size_t item) {
  const BatchItem& wanted = items_[item];
  const std::string setting = model + named_beside(wanted);
  BatchItem first = wanted;
  first.nth = 0;
  const std::string plain = parser_.key(first, setting, 0);
  const int occurrence = wanted.nth == 0 ? occurrences_[plain]++ : occurrences_[plain] - 1;
  first_keys_[item] = parser_.key(first, setting, occurrence);
  keys_[item] = wanted.nth == 0 ? first_keys_[item] : parser_.key(wanted, setting, occurrence);

  const std::optional<JournalEntry> entry = journal_.find(keys_[item]);
  if (!entry) return;
  const fs::path file = options_.output / entry->file;
  std::error_code missing;
  if (entry->state == JournalEntry::State::done && fs::file_size(file, missing) == static_cast<uintmax_t>(entry->bytes) &&
      !missing)
    settle(item, {.state = State::done, .file = file, .seed = entry->seed, .seconds = entry->seconds, .reason = ""});
  else if (entry->state == JournalEntry::State::failed && !options_.retry_failed)
    give_up(item, entry->reason + " (an earlier run; --retry-failed tries again)");
}

// A folder that was moved away is no failure of an item: all that follow would fail too.
void BatchRun::require_folder() const {
  if (!fs::is_directory(options_.output / ".batch"))
    throw fail(Code::io, "the folder {} is gone, with what was made in it", options_.output.string());
}

void BatchRun::settle(size_t item, BatchResult result) {
  const std::scoped_lock hold(lock_);
  results_[item] = std::move(result);
}

void BatchRun::give_up(size_t item, const std::string& reason) {
  settle(item, {.state = State::failed, .file = "", .seed = 0, .seconds = 0, .reason = reason});
  log(LogLevel::error, "{} {}: {}", options_.file.string(), items_[item].where, reason);
}

size_t BatchRun::count(State state) const {
  const std::scoped_lock hold(lock_);
  return static_cast<size_t>(std::count_if(results_.begin(), results_.end(), [&](const auto& r) { return r.state == state; }));
}

size_t BatchRun::made_so_far() const {
  const std::scoped_lock hold(lock_);
  return made_;
}

std::string BatchRun::summary() const {
  const size_t failed = count(State::failed), left = count(State::left);
  std::string text = fmt::format("{} of {} pictures done", count(State::done), items_.size() - count(State::elsewhere));
  if (const size_t before = count(State::done) - made_so_far(); before > 0) text += fmt::format(" ({} before this run)", before);
  if (failed > 0) text += fmt::format(", {} failed", failed);
  if (left > 0) text += fmt::format(", {} left", left);
  return text;
}

// Where the batch is: on the terminal or as an event, and in a file that other programs may read.
void BatchRun::tell() {
  const std::scoped_lock hold(telling_);
  require_folder();
  const double minutes = seconds_since(begun_) / 60;
  const size_t made = made_so_far();
  const Tally tally{.done = count(State::done),
                    .failed = count(State::failed),
                    .left = count(State::left),
                    .per_minute = minutes > 0 ? static_cast<double>(made) / minutes : 0};
  progress_.tally(tally);
  AtomicFile status(options_.output / ".batch" / ("status" + options_.shard.suffix() + ".json"), Exists::replace);
  status.write(nlohmann::json{{"done", tally.done},
                              {"failed", tally.failed},
                              {"left", tally.left},
                              {"total", items_.size() - count(State::elsewhere)},
                              {"pictures_per_minute", tally.per_minute},
                              {"seconds_left", tally.seconds_left()}}
                   .dump(1) +
               "\n");
  status.commit();
}

}  // namespace cudream
