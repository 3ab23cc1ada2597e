// SHA-256 of files and bytes.
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <future>
#include <span>
#include <string>

namespace cudream {

std::string sha256(std::span<const std::byte>);  // 64 hexadecimal digits, lower case

// Of a whole file, in one streamed read. `progress(done, total)` is called now and then; what it throws ends the read.
std::string sha256_of_file(const std::filesystem::path&, const std::function<void(uint64_t, uint64_t)>& progress = {});

// The same, from the user's cache where the file has not changed since it was hashed: the same inode, size, and times of change
// to the nanosecond. ($XDG_CACHE_HOME/cudream/sha256; a cache that cannot be written is no error.)
std::string cached_sha256_of_file(const std::filesystem::path&, const std::function<void(uint64_t, uint64_t)>& progress = {});

// The same for a file that was just loaded, by a thread of its own that gives way to all others: what loading has read, it finds
// in the page cache, so that the disk reads it once.
class HashBeside {
 public:
  explicit HashBeside(std::filesystem::path);
  ~HashBeside();  // gives up what is not done
  HashBeside(const HashBeside&) = delete;
  HashBeside& operator=(const HashBeside&) = delete;

  // Waits. Empty for a file that could not be read to its end.
  std::string get() const { return digest_.get(); }

 private:
  std::atomic<bool> over_ = false;
  std::shared_future<std::string> digest_;
};

// The "model hash" that A1111 writes into pictures: the first ten digits.
inline std::string short_hash(const std::string& sha256) {
  return sha256.substr(0, 10);
}

}  // namespace cudream
