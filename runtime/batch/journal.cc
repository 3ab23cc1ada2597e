// Reading back, locking, appending.
#include "runtime/batch/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace cudream {
namespace {

using nlohmann::json;
using State = JournalEntry::State;

constexpr size_t kMaxJournal = size_t{1} << 30;
constexpr int kVersion = 1;

std::string line_of(const json& object) {
  return object.dump(-1, ' ', true, json::error_handler_t::replace) + "\n";
}

}  // namespace

Journal::Journal(std::filesystem::path file) : path_(std::move(file)) {
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd_ < 0) throw fail(Code::io, "cannot open the batch's journal {}: {}", path_.string(), std::strerror(errno));
  try {
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0)
      throw fail(Code::io, "another batch is running in {}; wait for it, or choose another folder",
                 path_.parent_path().parent_path().string());
    read();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

Journal::~Journal() {
  ::close(fd_);
}

void Journal::read() {
  const std::string text = read_text(path_, kMaxJournal);
  const size_t whole = text.rfind('\n') + 1;  // npos + 1 is 0
  size_t number = 0;
  for (size_t at = 0; at < whole;) {
    const size_t end = text.find('\n', at);
    take(text.substr(at, end - at), ++number);
    at = end + 1;
  }
  if (whole < text.size() && ::ftruncate(fd_, static_cast<off_t>(whole)) != 0)
    throw fail(Code::io, "cannot repair {}: {}", path_.string(), std::strerror(errno));
  if (number == 0) append(line_of({{"cudream_batch", kVersion}}));
}

void Journal::take(const std::string& line, size_t number) {
  const auto damaged = [&](const char* what) {
    return fail(Code::bad_file, "{} line {}: {}. Remove the line to have its picture made again", path_.string(), number, what);
  };
  const json object = json::parse(line, nullptr, false);
  if (!object.is_object()) throw damaged("not a JSON object");
  try {
    if (number == 1) {
      if (object.value("cudream_batch", 0) != kVersion)
        throw fail(Code::unsupported, "{} is no journal of this version's batches", path_.string());
      return;
    }
    const std::string key = object.at("key");
    if (object.contains("file")) {
      const std::string name = object.at("file");
      if (std::filesystem::path(name).filename() != name) throw damaged("its file is not in this folder");
      note_plan(key, object.at("seed"), name);
      return;
    }
    if (object.contains("failed")) {
      note_failure(key, object.at("failed"));
      return;
    }
    const auto found = entries_.find(key);
    if (found == entries_.end()) throw damaged("an item that was never planned");
    note_done(found->second, object.at("bytes"), object.at("sha256"), object.at("seconds"));
  } catch (const json::exception& e) {
    throw damaged(e.what());
  }
}

std::optional<JournalEntry> Journal::find(const std::string& key) const {
  const std::scoped_lock hold(lock_);
  const auto found = entries_.find(key);
  return found == entries_.end() ? std::nullopt : std::optional(found->second);
}

bool Journal::has_planned(const std::string& file) const {
  const std::scoped_lock hold(lock_);
  return files_.contains(file);
}

JournalEntry Journal::plan(const std::string& key, uint64_t seed, const std::string& file) {
  const std::scoped_lock hold(lock_);
  append(line_of({{"key", key}, {"seed", seed}, {"file", file}}));
  return note_plan(key, seed, file);
}

void Journal::done(const std::string& key, int64_t bytes, const std::string& sha256, double seconds) {
  const std::scoped_lock hold(lock_);
  append(line_of({{"key", key}, {"bytes", bytes}, {"sha256", sha256}, {"seconds", seconds}}));
  note_done(entries_.at(key), bytes, sha256, seconds);
}

void Journal::failed(const std::string& key, const std::string& reason) {
  const std::scoped_lock hold(lock_);
  append(line_of({{"key", key}, {"failed", reason}}));
  note_failure(key, reason);
}

const JournalEntry& Journal::note_plan(const std::string& key, uint64_t seed, const std::string& file) {
  if (!file.empty()) files_.insert(file);
  return entries_[key] = {.seed = seed, .file = file};
}

void Journal::note_done(JournalEntry& entry, int64_t bytes, const std::string& sha256, double seconds) {
  entry.state = State::done;
  entry.bytes = bytes;
  entry.sha256 = sha256;
  entry.seconds = seconds;
}

void Journal::note_failure(const std::string& key, const std::string& reason) {
  JournalEntry& entry = entries_[key];
  entry.state = State::failed;
  entry.reason = reason;
}

// A line that could be written only in part is taken back, so that the next one does not continue it.
void Journal::append(const std::string& line) {
  const off_t end = ::lseek(fd_, 0, SEEK_END);
  size_t written = 0;
  while (written < line.size()) {
    const ssize_t now = ::write(fd_, line.data() + written, line.size() - written);
    if (now < 0 && errno == EINTR) continue;
    if (now <= 0) break;
    written += static_cast<size_t>(now);
  }
  if (written == line.size() && ::fdatasync(fd_) == 0) return;
  const int error = errno;
  if (::ftruncate(fd_, end) != 0) log_line(LogLevel::debug, "the journal's last line stays cut short");
  throw fail(Code::io, "cannot write to {}: {}. The same command goes on from here", path_.string(), std::strerror(error));
}

}  // namespace cudream
