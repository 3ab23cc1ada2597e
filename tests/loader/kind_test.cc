// What a file is, by its first bytes, and what the user is told.
#include "loader/kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "loader/hash.h"
#include "loader/safetensors.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using namespace std::string_literals;

struct Case {
  std::string name, content;
  FileKind kind;
  Code code;
  std::string advice;
};

class Kinds : public ::testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(
    All, Kinds,
    ::testing::Values(
        Case{"zip", "PK\x03\x04\x00\x00\x08\x08"s + std::string(60, 'x'), FileKind::zip_pickle, Code::unsupported,
             "cudream convert"},
        Case{"pickle", "\x80\x02\x8a\x0a"s + std::string(60, 'x'), FileKind::raw_pickle, Code::unsupported, "run any code"},
        Case{"gguf", "GGUF\x03\x00\x00\x00"s + std::string(60, '\0'), FileKind::gguf, Code::unsupported, "GGUF"},
        Case{"lfs", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265146304\n", FileKind::lfs_pointer,
             Code::bad_file, "git lfs pull"},
        Case{"html", "\n<!DOCTYPE html><html><body>log in</body></html>", FileKind::html, Code::bad_file, "web page"},
        Case{"html_upper", "<HTML><head></head></HTML>", FileKind::html, Code::bad_file, "web page"},
        Case{"json", R"({"error":"Repository not found"})", FileKind::json, Code::bad_file, "JSON text"},
        Case{"empty", "", FileKind::empty, Code::bad_file, "is empty"},
        Case{"zeros", std::string(4096, '\0'), FileKind::zeros, Code::bad_file, "begins with zeros"},
        Case{"truncated", "\x00\x10\x00\x00\x00\x00\x00\x00{\"w\":"s, FileKind::truncated, Code::bad_file, "cut short"},
        Case{"garbage", "what is this?", FileKind::unknown, Code::bad_file, "HeaderTooLarge"}),
    [](const auto& test) { return test.param.name; });

TEST_P(Kinds, AreToldByContentAndRefusedWithAdvice) {
  TemporaryFolder folder;
  // The name lies on purpose.
  const std::filesystem::path path = folder.write("model.safetensors", GetParam().content);
  EXPECT_EQ(kind_of(path), GetParam().kind);
  try {
    SafetensorsFile file(path);
    FAIL() << "it was opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), GetParam().code);
    EXPECT_THAT(e.what(), AllOf(HasSubstr(path.string()), HasSubstr(GetParam().advice)));
  }
}

TEST(Kind, ALengthThatLooksLikeAZipIsALength) {
  // "PK\3\4" read as a length is 67 million: a header of that size would be a safetensors file all the same.
  const std::string start = "PK\x03\x04\x00\x00\x00\x00{\"w\":"s;
  EXPECT_EQ(kind_of(std::as_bytes(std::span(start)), 100'000'000), FileKind::safetensors);
}

TEST(Hash, IsSha256) {
  // The test vectors of FIPS 180-2, appendix B, and the hash of nothing.
  EXPECT_EQ(sha256(std::as_bytes(std::span("abc", 3))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  TemporaryFolder folder;
  const std::filesystem::path path = folder.write("a", std::string(1'000'000, 'a'));
  const std::string digest = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
  EXPECT_EQ(sha256_of_file(path), digest);
  EXPECT_EQ(short_hash(digest), "cdc76e5c99");
}

TEST(Hash, OfAFileLargerThanAChunkReportsProgress) {
  TemporaryFolder folder;
  const std::filesystem::path path = folder.write("a", std::string((9 << 20) + 5, 'a'));
  uint64_t last = 0, calls = 0;
  const std::string streamed = sha256_of_file(path, [&](uint64_t done, uint64_t total) {
    EXPECT_EQ(total, (9u << 20) + 5);
    EXPECT_GT(done, last);
    last = done;
    calls++;
  });
  EXPECT_EQ(last, (9u << 20) + 5);
  EXPECT_EQ(calls, 3u);
  const std::string whole((9 << 20) + 5, 'a');
  EXPECT_EQ(streamed, sha256(std::as_bytes(std::span(whole))));
}

}  // namespace
}  // namespace cudream
