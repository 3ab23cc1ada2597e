// Which items are left, one model after the other, and how far the batch is.
#include "cli/batch_run.h"

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/leftovers.h"
#include "core/log.h"
#include "loader/hash.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using State = BatchResult::State;

double seconds_since(std::chrono::steady_clock::time_point then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

fs::path journal_of(const BatchOptions& options) {
  const fs::path folder = options.output / ".batch";
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw fail(Code::io, "cannot make {}: {}", folder.string(), error.message());
  return folder / ("journal" + options.shard.suffix() + ".jsonl");
}

}  // namespace

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

std::vector<std::string> parse_devices(const std::string& list) {
  std::vector<std::string> devices;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    std::string name = list.substr(at, end - at);
    if (name.empty()) throw fail(Code::usage, "--devices {}: expected a list such as 0,1 or cuda:0,cuda:1", printable(list));
    if (name.find_first_not_of("0123456789") == std::string::npos) name.insert(0, "cuda:");
    if (std::ranges::find(devices, name) != devices.end())
      throw fail(Code::usage, "--devices {}: {} stands there twice", printable(list), printable(name));
    devices.push_back(std::move(name));
    at = end + 1;
  }
  return devices;
}

BatchRun::BatchRun(const BatchOptions& options, const ItemParser& parser, const std::vector<BatchItem>& items, Progress& progress)
    : options_(options),
      parser_(parser),
      items_(items),
      progress_(progress),
      unseen_(ProgressSink::of_process(false, true)),
      names_(options.output / "", true, options.overwrite ? Exists::replace : Exists::refuse),
      journal_(journal_of(options)),
      stamps_(options.host),
      results_(items.size()),
      keys_(items.size()),
      first_keys_(items.size()) {
  for (const std::string& device : options.devices) hosts_.emplace_back(options.host).device = device;
  if (hosts_.empty()) hosts_.push_back(options.host);
  remove_leftovers(options.output, [&](const std::string& name) { return journal_.has_planned(name); });
}

void BatchRun::run() {
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
  const std::string device = device_text();
  for (auto& [names, items] : models) {
    try {
      const std::string setting = device + "\n" + stamps_.of_models(names);
      for (const size_t i : items) find_out(setting, i);
    } catch (const Error& e) {
      if (models.size() == 1 || ends_the_batch(e.code())) throw;
      for (const size_t i : items) give_up(i, e.what());
    }
    std::erase_if(items, [&](size_t i) { return results_[i].state != State::left; });
  }
  if (hosts_.size() > 1) progress_.start("batch", static_cast<int>(items_.size()));
  tell();
  for (const auto& [names, items] : models)
    if (!items.empty() && !finish_requested) paint_model(names, items);
  progress_.done();
}

// What makes the pictures, for keys. Devices of different kinds round differently.
std::string BatchRun::device_text() const {
  std::string text;
  for (const HostOptions& host : hosts_) {
    const DeviceInfo device = open_device(host.device_options())->info();
    const std::string one = fmt::format("cudream {} {} {}", CUDREAM_VERSION, device.description, name_of(device.compute));
    if (text.empty()) text = one;
    if (one != text)
      throw fail(Code::usage,
                 "--devices: {} is not the same as {}, and an item's picture would depend on which makes it ({}; {})",
                 host.device, hosts_.front().device, one, text);
  }
  return text;
}

void BatchRun::paint_model(const ModelNames& names, const std::vector<size_t>& items) {
  try {
    paint_on_all(names, items);
  } catch (const Error& e) {
    if (ends_the_batch(e.code()) || items.size() == items_.size()) throw;
    for (const size_t i : left_of(items)) give_up(i, e.what());
  }
}

// The first device has the thread that runs the batch.
void BatchRun::paint_on_all(const ModelNames& names, const std::vector<size_t>& items) {
  SharedItems shared(items, hosts_.size());
  std::vector<std::exception_ptr> failures(hosts_.size());
  {
    std::vector<std::jthread> others;
    for (size_t i = 1; i < hosts_.size(); i++) others.emplace_back([&, i] { failures[i] = paint_on(hosts_[i], names, shared); });
    failures[0] = paint_on(hosts_[0], names, shared);
  }
  if (left_of(items).empty()) return;
  for (const std::exception_ptr& failure : failures)
    if (failure != nullptr) std::rethrow_exception(failure);
}

std::exception_ptr BatchRun::paint_on(const HostOptions& host, const ModelNames& names, SharedItems& shared) {
  std::vector<size_t> taken;
  try {
    Session session(host, names, hosts_.size() == 1 ? progress_ : unseen_);
    Painter painter(items_, options_.together, *this, hosts_.size() == 1 ? progress_ : unseen_);
    while (!finish_requested) {
      taken = shared.take(painter.pass());
      if (taken.empty()) break;
      painter.paint(session, taken);
      painter.finish();
      shared.finish();
    }
    return nullptr;
  } catch (const Error& e) {
    const bool lost = e.code() == Code::device && hosts_.size() > 1;
    if (lost)
      log(LogLevel::warn, "{} is lost, and what it has not made goes to the others: {}", host.device, e.what());
    else
      shared.close();
    if (!taken.empty()) shared.leave(lost ? left_of(taken) : std::vector<size_t>());
    return std::current_exception();
  } catch (...) {
    shared.close();
    if (!taken.empty()) shared.finish();
    return std::current_exception();
  }
}

std::vector<size_t> BatchRun::left_of(std::vector<size_t> items) const {
  const std::scoped_lock hold(lock_);
  std::erase_if(items, [&](size_t i) { return results_[i].state != State::left; });
  return items;
}

// What the journal knows of an item.
void BatchRun::find_out(const std::string& model, size_t item) {
  const BatchItem& wanted = items_[item];
  const std::string setting = model + stamps_.named_beside(wanted);
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

void BatchRun::fail_item(size_t item, const std::string& reason) {
  require_folder();
  journal_.failed(keys_[item], reason);
  give_up(item, reason);
  tell();
}

// A name that an earlier run planned is this item's own, whether its file was written or not.
Place BatchRun::plan(size_t item, const Job& job) {
  const std::scoped_lock hold(planning_);
  std::optional<JournalEntry> entry = journal_.find(keys_[item]);
  const bool again = entry && !entry->file.empty();
  if (!again) entry = journal_.plan(keys_[item], job.seed, free_name(job, item));
  return {options_.output / entry->file, again || options_.overwrite ? Exists::replace : Exists::refuse};
}

void BatchRun::keep(size_t item, const Place& place, const MadePicture& made) {
  const bool silent = items_[item].options.no_metadata;
  write_image(place.file, made.image, silent ? Metadata() : describe_picture(made.job, made.making), place.exists);
  require_folder();
  std::error_code missing;
  const auto bytes = static_cast<int64_t>(fs::file_size(place.file, missing));
  if (missing) throw fail(Code::io, "{}: {}", place.file.string(), missing.message());
  journal_.done(keys_[item], bytes, sha256_of_file(place.file), made.seconds);
  progress_.picture(place.file, made.job.seed, made.seconds);
  settle(item, {.state = State::done, .file = place.file, .seed = made.job.seed, .seconds = made.seconds, .reason = ""});
  {
    const std::scoped_lock hold(lock_);
    made_++;
  }
  tell();
}

// The index in an item's name is its place in the file, which other shards do not use; one that a file or a plan has is passed
// over.
std::string BatchRun::free_name(const Job& job, size_t item) {
  NameFields fields{.index = item + 1,
                    .seed = job.seed,
                    .steps = job.steps,
                    .width = job.width,
                    .height = job.height,
                    .prompt = job.prompt,
                    .model = job.model,
                    .sampler = job.sampler};
  std::string own = output_name(kDefaultName, fields);
  if (!journal_.has_planned(own) && (options_.overwrite || !fs::exists(options_.output / own))) return own;
  while (true) {
    std::string name = names_.next(fields).filename();
    if (!journal_.has_planned(name)) return name;
  }
}

// A seed that was not given is drawn once and noted before any work; nth_picture counts on from it.
uint64_t BatchRun::seed_of(size_t item) {
  const std::scoped_lock hold(planning_);
  const BatchItem& wanted = items_[item];
  uint64_t first = 0;
  if (wanted.options.seed) {
    first = *wanted.options.seed;
  } else {
    const std::optional<JournalEntry> drawn = journal_.find(first_keys_[item]);
    first = drawn && drawn->state != JournalEntry::State::failed ? drawn->seed
                                                                 : journal_.plan(first_keys_[item], random_seed(), "").seed;
  }
  return first;
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
  if (hosts_.size() > 1) progress_.step(static_cast<int>(tally.done + tally.failed));
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
