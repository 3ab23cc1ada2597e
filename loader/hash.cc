// SHA-256 by OpenSSL's libcrypto, which picks the processor's own instructions.
#include "loader/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "core/error.h"
#include "core/file.h"

namespace cudream {
namespace {

class Digest {
 public:
  Digest() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    check(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr));
  }
  void add(std::span<const std::byte> bytes) { check(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size())); }
  std::string hex() {
    std::array<unsigned char, 32> digest{};
    check(EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr));
    return fmt::format("{:02x}", fmt::join(digest, ""));
  }

 private:
  static void check(int ok) { invariant(ok == 1, "SHA-256 is not available in libcrypto"); }
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string sha256(std::span<const std::byte> bytes) {
  Digest digest;
  digest.add(bytes);
  return digest.hex();
}

std::string sha256_of_file(const std::filesystem::path& path, const std::function<void(uint64_t, uint64_t)>& progress) {
  constexpr size_t kChunk = 4 << 20;
  const MappedFile file(path);
  std::vector<std::byte> chunk(std::min(kChunk, file.size()));
  Digest digest;
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

}  // namespace cudream
