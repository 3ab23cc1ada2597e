// Every way of reading a weight file gives its bytes, and says what went wrong.
#include "loader/reading.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "core/error.h"
#include "loader/hash.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

class Readings : public testing::TestWithParam<Reading> {
 protected:
  Readings() : text_(5'000'017, '\0') {
    std::mt19937 random(3);
    for (char& c : text_) c = static_cast<char>(random());
    path_ = folder_.write("weights", text_);
  }
  // Null where the file system has no direct reads.
  std::unique_ptr<WeightFile> open(const MappedFile& map) const {
    try {
      return std::make_unique<WeightFile>(map, GetParam());
    } catch (const Error& e) {
      if (GetParam() != Reading::direct || e.code() != Code::unsupported) throw;
      return nullptr;
    }
  }
  static std::string read(const WeightFile& file, size_t offset, size_t bytes) {
    std::string got(bytes, '\0');
    file.read(std::as_writable_bytes(std::span(got)), offset);
    return got;
  }
  TemporaryFolder folder_;
  std::string text_;
  std::filesystem::path path_;
};

TEST_P(Readings, GiveTheBytesOfTheFile) {
  const MappedFile map(path_);
  const auto file = open(map);
  if (file == nullptr) GTEST_SKIP() << "no direct reads on this file system";
  for (const auto& [offset, bytes] :
       {std::pair<size_t, size_t>{0, 1}, {4095, 2}, {4096, 4096}, {17, 4'900'000}, {4'999'999, 18}, {5'000'016, 1}, {5, 0}}) {
    file->move_on(offset);
    EXPECT_EQ(read(*file, offset, bytes), text_.substr(offset, bytes)) << offset;
  }
}

TEST_P(Readings, NoticeAFileThatShrank) {
  const MappedFile map(path_);
  const auto file = open(map);
  if (file == nullptr) GTEST_SKIP() << "no direct reads on this file system";
  std::filesystem::resize_file(path_, 1'000'000);
  try {
    read(*file, 2'000'000, 100'000);
    FAIL() << "read what is not there";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::bad_file);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Readings, testing::Values(Reading::mmap, Reading::pread, Reading::direct, Reading::automatic),
                         [](const auto& reading) { return std::string(name_of(reading.param)); });

TEST(Reading, AFileJustWrittenIsWarm) {
  const TemporaryFolder folder;
  const MappedFile map(folder.write("weights", std::string(100'000, 'x')));
  EXPECT_EQ(WeightFile(map, Reading::automatic).reading(), Reading::mmap);
}

TEST(Reading, UnknownNamesAreRefused) {
  EXPECT_EQ(reading_named("pread"), Reading::pread);
  EXPECT_THROW(reading_named("fast"), Error);
}

TEST(Digest, IsRememberedUntilTheFileChanges) {
  const TemporaryFolder folder;
  setenv("XDG_CACHE_HOME", (folder.path() / "cache").c_str(), 1);
  const auto file = folder.write("weights", "abc");
  int reads = 0;
  const auto count = [&](uint64_t, uint64_t) { reads++; };
  const std::string abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";  // FIPS 180-2, appendix B.1
  EXPECT_EQ(cached_sha256_of_file(file, count), abc);
  EXPECT_EQ(cached_sha256_of_file(file, count), abc);
  EXPECT_EQ(reads, 1);
  folder.write("weights", "abd");
  EXPECT_NE(cached_sha256_of_file(file, count), abc);
  EXPECT_EQ(reads, 2);
  unsetenv("XDG_CACHE_HOME");
}

TEST(Digest, IsMadeBesideLoading) {
  const TemporaryFolder folder;
  setenv("XDG_CACHE_HOME", (folder.path() / "cache").c_str(), 1);
  const auto file = folder.write("weights", std::string(100'000'000, 'x'));
  EXPECT_EQ(HashBeside(file).get(), sha256_of_file(file));
  EXPECT_EQ(HashBeside(folder.path() / "nothing").get(), "");
  std::filesystem::remove_all(folder.path() / "cache");
  { const HashBeside given_up(file); }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "cache"));
  unsetenv("XDG_CACHE_HOME");
}

}  // namespace
}  // namespace cudream
