// Files: a read-only map that survives a file cut short under it, and a writer that replaces a file or leaves no trace.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace cudream {

// A whole file mapped read-only and private. Throws Error(not_found | io) naming the path.
class MappedFile {
 public:
  explicit MappedFile(std::filesystem::path path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&&) = delete;
  MappedFile(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  size_t size() const { return size_; }
  // Copies `to.size()` bytes from `offset`. The only way to the bytes: a file that shrank since it was mapped raises
  // SIGBUS at the read, which is caught here and becomes Error(bad_file).
  void read(std::span<std::byte> to, size_t offset) const;
  void will_need(size_t offset, size_t bytes) const;  // a hint: start reading ahead
  void done_with(size_t offset, size_t bytes) const;  // a hint: these pages may leave this process
  double cached_share() const;                        // of its pages, in the page cache now; 1 where nobody knows

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// The whole of a small text file. Throws Error(not_found | io), or bad_file above `limit` bytes.
std::string read_text(const std::filesystem::path&, size_t limit);

enum class Exists { refuse, replace };

// A file written beside its final name, then synced and renamed. Unless commit() ran, nothing is left behind.
// Exists::refuse: an existing file of that name is Error(io), also when it appears between construction and commit.
class AtomicFile {
 public:
  AtomicFile(std::filesystem::path path, Exists exists);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  Exists exists_;
  int fd_ = -1;
};

}  // namespace cudream
