// Choosing and doing.
#include "loader/reading.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace cudream {
namespace {

constexpr uint64_t kReadAhead = uint64_t{64} << 20;

// Magic numbers of file systems whose pages come over a network or from another process (statfs(2), linux/magic.h).
bool is_remote(int fd) {
  constexpr std::array<uint32_t, 10> kRemote{0x6969,     0xff534d42, 0xfe534d42, 0x517b,     0x65735546,
                                             0x01021997, 0x0bd00bd0, 0x19830326, 0x00c36400, 0x5346414f};
  struct statfs info {};
  return fstatfs(fd, &info) == 0 && std::ranges::find(kRemote, static_cast<uint32_t>(info.f_type)) != kRemote.end();
}

Error became_shorter(const std::string& path) {
  return fail(Code::bad_file, "{} became shorter while it was being read; is it still being copied?", path);
}

// At least `least` bytes; direct reads go to the end of a sector, where the file may have ended.
void read_at(int fd, const std::string& path, std::span<std::byte> to, uint64_t offset, uint64_t least) {
  for (uint64_t got = 0; got < least;) {
    const ssize_t n = ::pread(fd, to.data() + got, to.size() - got, static_cast<off_t>(offset + got));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) throw fail(Code::io, "cannot read {}: {}", path, std::strerror(errno));
    if (n == 0) throw became_shorter(path);
    got += static_cast<uint64_t>(n);
  }
}

// As the file is now: it may have changed since it was mapped.
std::unique_ptr<PieceReader> pieces_of(int fd, const std::string& path) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) throw fail(Code::io, "cannot read {}: {}", path, std::strerror(errno));
  return std::make_unique<PieceReader>(
      static_cast<uint64_t>(info.st_size),
      [fd, path](std::span<std::byte> piece, uint64_t offset, uint64_t least) { read_at(fd, path, piece, offset, least); });
}

}  // namespace

std::string_view name_of(Reading r) {
  switch (r) {
    case Reading::automatic: return "auto";
    case Reading::mmap: return "mmap";
    case Reading::pread: return "pread";
    case Reading::direct: return "direct";
  }
  return "?";
}

Reading reading_named(std::string_view name) {
  for (const Reading r : {Reading::automatic, Reading::mmap, Reading::pread, Reading::direct})
    if (name == name_of(r)) return r;
  throw fail(Code::usage, "--loader {}: known are auto, mmap, pread and direct", name);
}

WeightFile::WeightFile(const MappedFile& map, Reading reading) : map_(&map), reading_(reading) {
  const std::string path = map.path().string();
  if (reading_ == Reading::mmap) return;
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | (reading_ == Reading::direct ? O_DIRECT : 0));
  if (fd_ < 0 && reading_ == Reading::direct && errno == EINVAL)
    throw fail(Code::unsupported, "{}: its file system has no direct reads; use --loader pread", path);
  if (fd_ < 0) throw fail(Code::io, "cannot open {}: {}", path, std::strerror(errno));
  if (reading_ == Reading::direct) pieces_ = pieces_of(fd_, path);
  if (reading_ != Reading::automatic) return;
  reading_ = is_remote(fd_) || map.cached_share() < 0.9 ? Reading::pread : Reading::mmap;
}

WeightFile::WeightFile(WeightFile&& other) noexcept
    : map_(other.map_),
      reading_(other.reading_),
      fd_(std::exchange(other.fd_, -1)),
      done_(other.done_),
      ahead_(other.ahead_),
      pieces_(std::move(other.pieces_)) {}

WeightFile::~WeightFile() {
  if (fd_ >= 0) ::close(fd_);
}

void WeightFile::move_on(uint64_t offset) {
  if (reading_ == Reading::direct || offset < done_) return;
  if (reading_ == Reading::mmap) map_->done_with(done_, offset - done_);
  done_ = offset;
  // Half a window at a time, so that hints are few.
  if (ahead_ > offset + kReadAhead / 2) return;
  const uint64_t from = std::max(offset, ahead_), bytes = offset + kReadAhead - from;
  if (reading_ == Reading::mmap) {
    map_->will_need(from, bytes);
  } else {
    posix_fadvise(fd_, static_cast<off_t>(from), static_cast<off_t>(bytes), POSIX_FADV_WILLNEED);
  }
  ahead_ = from + bytes;
}

void WeightFile::read(std::span<std::byte> to, uint64_t offset) const {
  if (reading_ == Reading::mmap) return map_->read(to, offset);
  if (reading_ != Reading::direct) return read_at(fd_, map_->path().string(), to, offset, to.size());
  if (offset + to.size() > pieces_->size()) throw became_shorter(map_->path().string());
  pieces_->read(to, offset);
}

}  // namespace cudream
