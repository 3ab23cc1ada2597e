// The journal of a batch: what was decided and what became of it, so that a batch killed at any instant goes on with the same
// command, makes nothing twice and loses nothing.
//
// One JSON object a line, appended and synced before the next step begins. An item is *planned* (its seed and file name are
// chosen) before work on it starts, so a file that was written but not yet noted is written again under the same name with the
// same bytes. A last line cut short by a crash is dropped; any other damage is an Error.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace cudream {

struct JournalEntry {
  enum class State : uint8_t { planned, done, failed } state = State::planned;
  uint64_t seed = 0;
  std::string file;  // its name in the folder of the pictures; empty: not chosen yet
  int64_t bytes = 0;
  double seconds = 0;
  std::string sha256;
  std::string reason;  // of a failure
};

// Its functions may be called from several threads.
class Journal {
 public:
  // Opens or makes the journal, and locks it until destroyed. Throws Error(io) when another process holds the lock or the
  // folder cannot be written, Error(bad_file) naming the damaged line.
  explicit Journal(std::filesystem::path file);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  std::optional<JournalEntry> find(const std::string& key) const;
  bool has_planned(const std::string& file) const;

  // Each throws Error(io), and then nothing was noted. A plan without a file holds a seed that was drawn; a failure needs no
  // plan.
  JournalEntry plan(const std::string& key, uint64_t seed, const std::string& file);
  void done(const std::string& key, int64_t bytes, const std::string& sha256, double seconds);
  void failed(const std::string& key, const std::string& reason);

 private:
  void read();
  void take(const std::string& line, size_t number);
  void append(const std::string& line);
  const JournalEntry& note_plan(const std::string& key, uint64_t seed, const std::string& file);
  static void note_done(JournalEntry& entry, int64_t bytes, const std::string& sha256, double seconds);
  void note_failure(const std::string& key, const std::string& reason);

  std::filesystem::path path_;
  mutable std::mutex lock_;
  int fd_ = -1;
  std::unordered_map<std::string, JournalEntry> entries_;
  std::unordered_set<std::string> files_;
};

}  // namespace cudream
