// Making what is left of one model's items: in passes of several, each picture written and noted beside the next pass.
#include <algorithm>

#include "cli/batch_run.h"
#include "core/log.h"
#include "loader/hash.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using State = BatchResult::State;

constexpr size_t kWindow = 256;  // items that are looked at together for ones that may share a pass

// Assumed for a GPU until one has been measured. A processor makes a batch one picture after the other, so it gains nothing, and
// a kill would cost more.
size_t usual_together(const DeviceInfo& device) {
  return device.kind.starts_with("cuda") ? 8 : 1;
}

// In groups of equal keys, in the order of their first.
template <typename T, typename Key>
std::vector<std::pair<Key, std::vector<T>>> grouped(std::vector<std::pair<Key, T>> all) {
  std::vector<std::pair<Key, std::vector<T>>> groups;
  for (auto& [key, value] : all) {
    auto found = std::ranges::find(groups, key, [](const auto& group) -> const Key& { return group.first; });
    if (found == groups.end()) found = groups.insert(found, {key, {}});
    found->second.push_back(std::move(value));
  }
  return groups;
}

}  // namespace

void BatchRun::paint_model(const ModelNames& names, const std::vector<size_t>& items) {
  std::unique_ptr<Session> session;
  try {
    session = std::make_unique<Session>(options_.host, names, progress_);
  } catch (const Error& e) {
    if (ends_the_batch(e.code()) || items.size() == items_.size()) throw;
    for (const size_t i : items) give_up(i, e.what());
    return;
  }
  for (size_t from = 0; from < items.size() && !finish_requested; from += kWindow)
    paint_window(*session, std::span(items).subspan(from, std::min(kWindow, items.size() - from)));
}

// Adapters change the weights of the engine, so items with equal ones come together; of these, those that may share a pass.
void BatchRun::paint_window(Session& session, std::span<const size_t> items) {
  std::vector<std::pair<Adapters, Ready>> ready;
  for (const size_t item : items) attempt(item, [&] { ready.push_back(prepare(session, item)); });
  for (auto& group : grouped(std::move(ready))) {
    if (finish_requested) return;
    const Adapters& adapters = group.first;
    std::vector<std::pair<std::string, Ready>> keyed;
    for (Ready& one : group.second)
      attempt(one.item, [&] {
        session.use(adapters);
        std::string key = session.engines().pass_key(one.job);
        keyed.emplace_back(std::move(key), std::move(one));
      });
    for (const auto& [key, alike] : grouped(std::move(keyed))) paint_alike(session, alike);
  }
}

// As many at once as fit. Of a pass that fails for another reason each half is tried, so that the reason finds its item.
void BatchRun::paint_alike(Session& session, std::span<const Ready> all) {
  const size_t most =
      options_.together > 0 ? static_cast<size_t>(options_.together) : usual_together(session.engine().device().info());
  size_t fitting = most, together = most;
  while (!all.empty() && !finish_requested) {
    const std::span<const Ready> now = all.first(std::min(together, all.size()));
    try {
      make_together(session, now);
      together = fitting;
    } catch (const fs::filesystem_error& e) {
      throw fail(Code::io, "{}", e.what());
    } catch (const Error& e) {
      if (ends_the_batch(e.code())) throw;
      if (now.size() > 1) {
        together = (now.size() + 1) / 2;
        if (e.code() == Code::out_of_memory) {
          log(LogLevel::info, "{} pictures at once do not fit, so {} are made: {}", now.size(), together, e.what());
          fitting = together;
        }
        continue;
      }
      fail_item(now.front().item, e.what());
      together = fitting;
    }
    all = all.subspan(now.size());
  }
}

void BatchRun::make_together(Session& session, std::span<const Ready> some) {
  std::vector<Job> jobs;
  std::vector<Place> places;
  for (const Ready& one : some) {
    jobs.push_back(one.job);
    places.push_back(plan(one));
  }
  // What a failed decoding leaves is kept for one alone: several that fail together are tried again in smaller passes.
  const auto place_of = [&](size_t i) { return some.size() == 1 ? std::optional(places[i].file) : std::nullopt; };
  std::vector<MadePicture> made = make(session, jobs, place_of, progress_);
  for (size_t i = 0; i < made.size(); i++)
    writer_.add([this, item = some[i].item, place = places[i], picture = std::move(made[i])] {
      attempt(item, [&] { write(item, place, picture); });
    });
}

std::pair<Adapters, BatchRun::Ready> BatchRun::prepare(Session& session, size_t item) {
  Ready ready{.item = item, .job = items_[item].options.job};
  parser_.check_files(items_[item]);
  session.name_models(ready.job);
  complete(ready.job, session.engine().spec(), session.notice());
  ready.job.seed = seed_of(item);
  ready.job = nth_picture(ready.job, static_cast<uint64_t>(items_[item].nth));
  session.draw_wildcards(ready.job);
  Adapters adapters = session.adapters_of(ready.job);
  return {std::move(adapters), std::move(ready)};
}

void BatchRun::attempt(size_t item, const std::function<void()>& work) {
  try {
    work();
  } catch (const fs::filesystem_error& e) {
    throw fail(Code::io, "{}", e.what());
  } catch (const Error& e) {
    if (ends_the_batch(e.code())) throw;
    fail_item(item, e.what());
  }
}

void BatchRun::fail_item(size_t item, const std::string& reason) {
  require_folder();
  journal_.failed(keys_[item], reason);
  give_up(item, reason);
  tell();
}

// A name that an earlier run planned is this item's own, whether its file was written or not.
BatchRun::Place BatchRun::plan(const Ready& ready) {
  std::optional<JournalEntry> entry = journal_.find(keys_[ready.item]);
  const bool again = entry && !entry->file.empty();
  if (!again) entry = journal_.plan(keys_[ready.item], ready.job.seed, free_name(ready.job, ready.item));
  return {options_.output / entry->file, again || options_.overwrite ? Exists::replace : Exists::refuse};
}

void BatchRun::write(size_t item, const Place& place, const MadePicture& made) {
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

}  // namespace cudream
