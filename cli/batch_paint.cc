// Which items share a pass, and what happens when one of them fails.
#include "cli/batch_paint.h"

#include <algorithm>

#include "core/log.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr size_t kWindow = 256;        // items that are looked at together for ones that may share a pass
constexpr size_t kMostUnwritten = 64;  // pictures that wait for the disk: a large pass, so that the next one begins meanwhile

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

bool ends_the_batch(Code code) {
  return code == Code::cancelled || code == Code::device || code == Code::io || code == Code::internal;
}

Painter::Painter(const std::vector<BatchItem>& items, int together, ItemKeeper& keeper, Progress& progress)
    : items_(items),
      together_(static_cast<size_t>(together)),
      keeper_(keeper),
      progress_(progress),
      pass_(std::max<size_t>(together_, 1)),
      writer_(kMostUnwritten) {}

void Painter::paint(Session& session, std::span<const size_t> items) {
  for (size_t from = 0; from < items.size() && !finish_requested; from += kWindow)
    paint_window(session, items.subspan(from, std::min(kWindow, items.size() - from)));
}

void Painter::finish() {
  writer_.finish();
}

// Adapters change the weights of the engine, so items with equal ones come together; of these, those that may share a pass.
void Painter::paint_window(Session& session, std::span<const size_t> items) {
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

// How many of these items go in a pass; of fewer it is planned as if there were more of them. Where not even a plan can be made
// it is one, whose failure says why.
size_t Painter::size_of_pass(Session& session, std::span<const Ready> alike) {
  const auto need = [&](size_t pictures) {
    std::vector<Job> jobs;
    for (size_t i = 0; i < pictures; i++) jobs.push_back(alike[i % alike.size()].job);
    return missing_bytes(session.engines(), jobs);
  };
  const Device& device = session.engine().device();
  try {
    const PassSize size =
        pass_size(alike.front().job, session.engine().spec(),
                  {.asked = together_, .device = device.info(), .free_bytes = device.free_bytes(), .need = need});
    if (std::string text = describe(size); said_ != text) log(LogLevel::info, "{}", said_ = std::move(text));
    return pass_ = size.pictures;
  } catch (const Error& e) {
    if (ends_the_batch(e.code())) throw;
    return 1;
  }
}

// Of a pass that fails each half is tried, so that the reason finds its item. Memory may be short in spite of the plan, as stages
// that are done again in f32 are in none: then all later passes are smaller too.
void Painter::paint_alike(Session& session, std::span<const Ready> all) {
  size_t fitting = size_of_pass(session, all), together = fitting;
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
          session.release_memory();
        }
        continue;
      }
      keeper_.fail_item(now.front().item, e.what());
      together = fitting;
    }
    all = all.subspan(now.size());
  }
}

void Painter::make_together(Session& session, std::span<const Ready> some) {
  std::vector<Job> jobs;
  std::vector<Place> places;
  for (const Ready& one : some) {
    jobs.push_back(one.job);
    places.push_back(keeper_.plan(one.item, one.job));
  }
  // What a failed decoding leaves is kept for one alone: several that fail together are tried again in smaller passes.
  const auto place_of = [&](size_t i) { return some.size() == 1 ? std::optional(places[i].file) : std::nullopt; };
  std::vector<MadePicture> made = make(session, jobs, place_of, progress_);
  for (size_t i = 0; i < made.size(); i++)
    writer_.add([this, item = some[i].item, place = places[i], picture = std::move(made[i])] {
      attempt(item, [&] { keeper_.keep(item, place, picture); });
    });
}

std::pair<Adapters, Painter::Ready> Painter::prepare(Session& session, size_t item) {
  Ready ready{.item = item, .job = items_[item].options.job};
  check_files(items_[item]);
  session.name_models(ready.job);
  complete(ready.job, session.engine().spec(), session.notice());
  ready.job.seed = keeper_.seed_of(item);
  ready.job = nth_picture(ready.job, static_cast<uint64_t>(items_[item].nth));
  session.draw_wildcards(ready.job);
  Adapters adapters = session.adapters_of(ready.job);
  return {std::move(adapters), std::move(ready)};
}

void Painter::attempt(size_t item, const std::function<void()>& work) {
  try {
    work();
  } catch (const fs::filesystem_error& e) {
    throw fail(Code::io, "{}", e.what());
  } catch (const Error& e) {
    if (ends_the_batch(e.code())) throw;
    keeper_.fail_item(item, e.what());
  }
}

}  // namespace cudream
