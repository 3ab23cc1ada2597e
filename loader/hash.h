// SHA-256 of files and bytes, and the user's cache of digests.
#pragma once

#include <atomic>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <string>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace cudream {

// Of bytes that come one after the other.
class Sha256 {
 public:
  Sha256();
  void add(std::span<const std::byte>);
  std::string hex();  // 64 hexadecimal digits, lower case; once, at the end

 private:
  std::unique_ptr<evp_md_ctx_st, void (*)(evp_md_ctx_st*)> context_;
};

std::string sha256(std::span<const std::byte>);

// Of a whole file, in one streamed read. `progress(done, total)` is called now and then; what it throws ends the read.
std::string sha256_of_file(const std::filesystem::path&, const std::function<void(uint64_t, uint64_t)>& progress = {});

// What the user's cache knows of a file as it is when this is made: the same device, inode, size, and times of change to the
// nanosecond. ($XDG_CACHE_HOME/cudream/sha256.) So it is made before the file is opened.
class CachedDigest {
 public:
  explicit CachedDigest(std::filesystem::path file);
  std::string known() const;  // empty: not known
  // Unless the file has changed meanwhile. A cache that cannot be written is no error.
  void keep(const std::string& digest) const;

 private:
  std::filesystem::path file_, entry_;
};

// The same as sha256_of_file, from the cache if it knows it, else kept there.
std::string cached_sha256_of_file(const std::filesystem::path&, const std::function<void(uint64_t, uint64_t)>& progress = {});

// The same for a file that was just loaded, by a thread of its own that gives way to all others, so that the disk reads it once:
// what loading has read is in the page cache, and direct reads, which go past that, have left the digest in the user's cache
// (LoadOptions::hash). Where that cache cannot be written, direct reads are followed by a second one here.
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
