// The commands behind a queue.
#include "runtime/batch/queue.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

using Command = Redis::Command;
using std::chrono::milliseconds;

constexpr const char* kGroup = "cudream";
constexpr size_t kPipelined = 1000;             // entries submitted in one go
constexpr const char* kMostResults = "200000";  // kept, about: two of the largest batches
constexpr const char* kLongIdle = "86400000";   // ms: more than any claim_after

std::string text_of(milliseconds time) {
  return std::to_string(time.count());
}

std::string results_of(const std::string& stream) {
  return stream + ":done";
}

template <typename Number>
Number number_in(const std::string& text) {
  Number value{};
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

// [id, [name, value, name, value ...]]; without fields where it was deleted.
QueueEntry entry_of(const Reply& reply) {
  if (reply.list.size() != 2) return {};
  QueueEntry entry{.id = reply.list[0].text, .fields = {}};
  const std::vector<Reply>& texts = reply.list[1].list;
  for (size_t i = 0; i + 1 < texts.size(); i += 2) entry.fields.emplace_back(texts[i].text, texts[i + 1].text);
  return entry;
}

std::vector<QueueEntry> entries_of(const Reply& reply) {
  std::vector<QueueEntry> entries;
  for (const Reply& one : reply.list) entries.push_back(entry_of(one));
  std::erase_if(entries, [](const QueueEntry& entry) { return entry.fields.empty(); });
  return entries;
}

// Of XREAD and XREADGROUP from one stream: nothing, or [[stream, entries]].
std::vector<QueueEntry> entries_read(const Reply& reply) {
  return reply.list.empty() ? std::vector<QueueEntry>() : entries_of(reply.list[0].list.at(1));
}

QueueResult result_of(const QueueEntry& entry) {
  QueueResult result;
  for (const auto& [name, value] : entry.fields) {
    if (name == "entry") result.entry = value;
    if (name == "file") result.file = value;
    if (name == "failure") result.failure = value;
    if (name == "seed") result.seed = number_in<uint64_t>(value);
    if (name == "seconds") result.seconds = number_in<double>(value);
  }
  return result;
}

}  // namespace

std::vector<std::string> QueueProducer::submit(std::span<const Combination> all) {
  std::vector<std::string> ids;
  for (; !all.empty(); all = all.subspan(std::min(kPipelined, all.size()))) {
    std::vector<Command> commands;
    for (const Combination& fields : all.first(std::min(kPipelined, all.size()))) {
      Command& command = commands.emplace_back(Command{"XADD", redis_.address().stream, "*"});
      for (const auto& [name, value] : fields) command.insert(command.end(), {name, value});
    }
    for (const Reply& reply : redis_.call_all(commands)) ids.push_back(reply.text);
  }
  return ids;
}

std::string QueueProducer::position() {
  const Reply last = redis_.call({"XREVRANGE", results_of(redis_.address().stream), "+", "-", "COUNT", "1"});
  return last.list.empty() ? "0-0" : last.list[0].list.at(0).text;
}

std::vector<QueueResult> QueueProducer::results(std::string& position, milliseconds wait) {
  const Reply reply =
      redis_.call({"XREAD", "COUNT", "1000", "BLOCK", text_of(wait), "STREAMS", results_of(redis_.address().stream), position});
  std::vector<QueueResult> results;
  for (const QueueEntry& entry : entries_read(reply)) {
    position = entry.id;
    results.push_back(result_of(entry));
  }
  return results;
}

bool QueueProducer::holds(const std::string& id) {
  return !redis_.call({"XRANGE", redis_.address().stream, id, id}).list.empty();
}

QueueConsumer::QueueConsumer(Redis& redis, std::string name, milliseconds claim_after)
    : redis_(redis), stream_(redis.address().stream), name_(std::move(name)), claim_after_(claim_after) {
  try {
    redis_.call({"XGROUP", "CREATE", stream_, kGroup, "0", "MKSTREAM"});
  } catch (const Error& e) {
    if (std::string_view(e.what()).find("BUSYGROUP") == std::string_view::npos) throw;  // else it is there
  }
}

std::vector<QueueEntry> QueueConsumer::take(size_t most, milliseconds wait) {
  std::vector<QueueEntry> entries = claim(most);
  if (entries.empty())
    entries = entries_read(redis_.call(
        {"XREADGROUP", "GROUP", kGroup, name_, "COUNT", std::to_string(most), "BLOCK", text_of(wait), "STREAMS", stream_, ">"}));
  alive_at_ = std::chrono::steady_clock::now();
  const std::scoped_lock hold(lock_);
  for (const QueueEntry& entry : entries) held_.insert(entry.id);
  return entries;
}

std::vector<QueueEntry> QueueConsumer::claim(size_t most) {
  const Reply reply =
      redis_.call({"XAUTOCLAIM", stream_, kGroup, name_, text_of(claim_after_), cursor_, "COUNT", std::to_string(most)});
  cursor_ = reply.list.at(0).text;
  std::vector<QueueEntry> entries = entries_of(reply.list.at(1));
  for (QueueEntry& entry : entries) {
    const Reply pending = redis_.call({"XPENDING", stream_, kGroup, entry.id, entry.id, "1"});
    if (!pending.list.empty()) entry.deliveries = pending.list[0].list.at(3).number;
  }
  return entries;
}

bool QueueConsumer::finished() {
  return redis_.call({"XLEN", stream_}).number == 0;
}

// Those that are still ours: another worker may have claimed some.
std::vector<std::string> QueueConsumer::held() {
  std::vector<std::string> ids;
  {
    const std::scoped_lock hold(lock_);
    ids.assign(held_.begin(), held_.end());
  }
  std::erase_if(ids, [&](const std::string& id) {
    return redis_.call({"XPENDING", stream_, kGroup, id, id, "1", name_}).list.empty();
  });
  return ids;
}

void QueueConsumer::keep_alive() {
  const auto now = std::chrono::steady_clock::now();
  if (now - alive_at_ < claim_after_ / 4) return;
  alive_at_ = now;
  for (const std::string& id : held()) redis_.call({"XCLAIM", stream_, kGroup, name_, "0", id, "JUSTID"});
}

void QueueConsumer::settle(const QueueResult& result) {
  Command note{"XADD", results_of(stream_), "MAXLEN", "~", kMostResults, "*", "entry", result.entry};
  if (result.failure.empty())
    note.insert(note.end(),
                {"file", result.file, "seed", std::to_string(result.seed), "seconds", fmt::format("{:.3f}", result.seconds)});
  else
    note.insert(note.end(), {"failure", result.failure});
  const std::vector<Command> transaction{
      {"MULTI"}, note, {"XACK", stream_, kGroup, result.entry}, {"XDEL", stream_, result.entry}, {"EXEC"}};
  redis_.call_all(transaction);
  const std::scoped_lock hold(lock_);
  held_.erase(result.entry);
}

void QueueConsumer::give_back() noexcept {
  try {
    if (!redis_.connected()) return;
    for (const std::string& id : held())
      redis_.call({"XCLAIM", stream_, kGroup, name_, "0", id, "IDLE", kLongIdle, "RETRYCOUNT", "0", "JUSTID"});
  } catch (const std::exception& e) {
    log(LogLevel::debug, "what was taken could not be given back: {}", e.what());
  }
}

}  // namespace cudream
