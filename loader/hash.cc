// SHA-256 by OpenSSL's libcrypto, which picks the processor's own instructions.
#include "loader/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace cudream {
namespace {

void check(int ok) {
  invariant(ok == 1, "SHA-256 is not available in libcrypto");
}

// Where the digest of the file as it is now would be kept; empty: nowhere.
std::filesystem::path cache_entry(const std::filesystem::path& file) {
  struct stat s {};
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  const bool given = cache != nullptr && *cache != '\0';
  if ((!given && home == nullptr) || ::stat(file.c_str(), &s) != 0) return {};
  const std::filesystem::path folder = given ? std::filesystem::path(cache) : std::filesystem::path(home) / ".cache";
  return folder / "cudream" / "sha256" /
         fmt::format("{:x}-{:x}-{}-{}.{:09}-{}.{:09}", s.st_dev, s.st_ino, s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec,
                     s.st_ctim.tv_sec, s.st_ctim.tv_nsec);
}

// The lowest priority of the calling thread alone: Linux takes the number of a thread for that of a process (setpriority(2)).
void give_way() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 19);
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
  check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
}

void Sha256::add(std::span<const std::byte> bytes) {
  check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()));
}

std::string Sha256::hex() {
  std::array<unsigned char, 32> digest{};
  check(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr));
  return fmt::format("{:02x}", fmt::join(digest, ""));
}

std::string sha256(std::span<const std::byte> bytes) {
  Sha256 digest;
  digest.add(bytes);
  return digest.hex();
}

std::string sha256_of_file(const std::filesystem::path& path, const std::function<void(uint64_t, uint64_t)>& progress) {
  constexpr size_t kChunk = 4 << 20;
  const MappedFile file(path);
  std::vector<std::byte> chunk(std::min(kChunk, file.size()));
  Sha256 digest;
  for (size_t at = 0; at < file.size(); at += kChunk) {
    const size_t bytes = std::min(kChunk, file.size() - at);
    file.will_need(at + bytes, 4 * kChunk);
    file.read(std::span(chunk).first(bytes), at);
    file.done_with(at, bytes);
    digest.add(std::span(chunk).first(bytes));
    if (progress) progress(at + bytes, file.size());
  }
  return digest.hex();
}

CachedDigest::CachedDigest(std::filesystem::path file) : file_(std::move(file)), entry_(cache_entry(file_)) {}

std::string CachedDigest::known() const {
  constexpr size_t kDigits = 64;
  try {
    if (entry_.empty() || !std::filesystem::exists(entry_)) return "";
    std::string digest = read_text(entry_, 2 * kDigits);
    if (digest.size() == kDigits && digest.find_first_not_of("0123456789abcdef") == std::string::npos) return digest;
  } catch (const std::exception& e) {
    log(LogLevel::debug, "{}: {}", entry_.string(), e.what());
  }
  return "";
}

void CachedDigest::keep(const std::string& digest) const {
  if (entry_.empty() || entry_ != cache_entry(file_)) return;  // it changed meanwhile
  try {
    std::filesystem::create_directories(entry_.parent_path());
    AtomicFile file(entry_, Exists::replace);
    file.write(digest);
    file.commit();
  } catch (const std::exception& e) {
    log(LogLevel::debug, "{}: {}", entry_.string(), e.what());
  }
}

std::string cached_sha256_of_file(const std::filesystem::path& path, const std::function<void(uint64_t, uint64_t)>& progress) {
  const CachedDigest cached(path);
  std::string digest = cached.known();
  if (!digest.empty()) return digest;
  digest = sha256_of_file(path, progress);
  cached.keep(digest);
  return digest;
}

HashBeside::HashBeside(std::filesystem::path path) {
  digest_ = std::async(std::launch::async, [this, path = std::move(path)]() -> std::string {
    give_way();
    try {
      return cached_sha256_of_file(path, [this](uint64_t, uint64_t) {
        if (over_) throw fail(Code::cancelled, "nobody waits any more");
      });
    } catch (const std::exception& e) {
      log(LogLevel::debug, "{}: no digest: {}", path.string(), e.what());
      return "";
    }
  });
}

HashBeside::~HashBeside() {
  over_ = true;
  digest_.wait();
}

}  // namespace cudream
