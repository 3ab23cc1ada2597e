// Mapped reads under a SIGBUS guard, and atomic writes.
#include "core/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csetjmp>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "core/error.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

Error io_error(std::string_view action, const fs::path& path) {
  const int reason = errno;
  const Code code = reason == ENOENT || reason == ENOTDIR ? Code::not_found : Code::io;
  return fail(code, "cannot {} {}: {}", action, path.string(), std::strerror(reason));
}

// The thread that is inside guarded_copy jumps back to it; any other SIGBUS takes the course it would have taken.
thread_local sigjmp_buf* guard_exit = nullptr;
struct sigaction previous_action;

void on_sigbus(int number, siginfo_t* info, void* context) {
  if (guard_exit != nullptr) {
    // Which signals are blocked is as a return would leave it: else the next SIGBUS could end the process.
    pthread_sigmask(SIG_SETMASK, &static_cast<ucontext_t*>(context)->uc_sigmask, nullptr);
    siglongjmp(*guard_exit, 1);
  }
  if ((previous_action.sa_flags & SA_SIGINFO) != 0) return previous_action.sa_sigaction(number, info, context);
  signal(number, SIG_DFL);
  raise(number);
}

// A leaf on purpose: the jump passes over no destructor. Returns false when a page could not be read.
bool guarded_copy(void* to, const void* from, size_t bytes) {
  static std::once_flag installed;
  std::call_once(installed, [] {
    struct sigaction action {};
    action.sa_sigaction = on_sigbus;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &action, &previous_action);
  });
  sigjmp_buf exit;
  if (sigsetjmp(exit, 0) != 0) {
    guard_exit = nullptr;
    return false;
  }
  // The fences keep the compiler from moving the copy out of the guard, or from dropping a store that only the handler sees.
  guard_exit = &exit;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  std::memcpy(to, from, bytes);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  guard_exit = nullptr;
  return true;
}

int open_for_reading(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw io_error("open", path);
  return fd;
}

}  // namespace

MappedFile::MappedFile(fs::path path) : path_(std::move(path)) {
  const int fd = open_for_reading(path_);
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    throw fail(Code::bad_file, "{} is not a regular file", path_.string());
  }
  size_ = static_cast<size_t>(info.st_size);
  if (size_ > 0) {
    void* at = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    const int reason = errno;
    ::close(fd);
    errno = reason;
    if (at == MAP_FAILED) throw io_error("map", path_);
    data_ = static_cast<const std::byte*>(at);
  } else {
    ::close(fd);
  }
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::read(std::span<std::byte> to, size_t offset) const {
  invariant(offset <= size_ && to.size() <= size_ - offset, "read past the end of {}", path_.string());
  if (to.empty()) return;
  if (!guarded_copy(to.data(), data_ + offset, to.size()))
    throw fail(Code::bad_file, "{} became shorter while it was being read; is it still being copied?", path_.string());
}

void MappedFile::will_need(size_t offset, size_t bytes) const {
  const size_t page = offset & ~size_t{4095};
  if (data_ != nullptr && offset < size_)
    ::madvise(const_cast<std::byte*>(data_) + page, std::min(bytes + (offset - page), size_ - page), MADV_WILLNEED);
}

void MappedFile::done_with(size_t offset, size_t bytes) const {
  const size_t first = (offset + 4095) & ~size_t{4095}, last = (offset + bytes) & ~size_t{4095};
  if (data_ != nullptr && first < last) ::madvise(const_cast<std::byte*>(data_) + first, last - first, MADV_DONTNEED);
}

double MappedFile::cached_share() const {
  const size_t pages = (size_ + 4095) / 4096;
  std::vector<unsigned char> here(pages);
  if (data_ == nullptr || ::mincore(const_cast<std::byte*>(data_), size_, here.data()) != 0) return 1;
  const auto cached = std::count_if(here.begin(), here.end(), [](unsigned char page) { return (page & 1) != 0; });
  return static_cast<double>(cached) / static_cast<double>(pages);
}

std::string read_text(const fs::path& path, size_t limit) {
  MappedFile file(path);
  if (file.size() > limit)
    throw fail(Code::bad_file, "{} has {} bytes; at most {} are expected here", path.string(), file.size(), limit);
  std::string text(file.size(), '\0');
  file.read(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

AtomicFile::AtomicFile(fs::path path, Exists exists) : path_(std::move(path)), exists_(exists) {
  if (exists_ == Exists::refuse && fs::exists(fs::symlink_status(path_)))
    throw fail(Code::io, "{} exists already; choose another name or pass --overwrite", path_.string());
  static std::atomic<unsigned> serial = 0;
  const fs::path name = "." + path_.filename().string().substr(0, 200) + "." + std::to_string(::getpid()) + "." +
                        std::to_string(serial++) + ".part";
  temporary_ = path_.parent_path() / name;
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
  if (fd_ < 0) throw io_error("create a file for", path_);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = ::write(fd_, bytes.data(), bytes.size());
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) throw io_error("write", path_);
    bytes = bytes.subspan(static_cast<size_t>(done));
  }
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) throw io_error("write", path_);
  // link() refuses an existing name atomically; rename() replaces one atomically.
  if (exists_ == Exists::refuse) {
    if (::link(temporary_.c_str(), path_.c_str()) != 0) throw io_error("create", path_);
    ::unlink(temporary_.c_str());
  } else if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    throw io_error("replace", path_);
  }
  ::close(std::exchange(fd_, -1));
  const fs::path folder = path_.parent_path().empty() ? "." : path_.parent_path();
  if (const int dir = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); dir >= 0) {
    ::fsync(dir);
    ::close(dir);
  }
}

}  // namespace cudream
