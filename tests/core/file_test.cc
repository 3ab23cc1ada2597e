// Mapped reads, and writes that happen whole or not at all.
#include "core/file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <fstream>
#include <functional>
#include <vector>

#include "core/error.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

class Folder : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "cudream-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    path_ = pattern;
  }
  void TearDown() override { fs::remove_all(path_); }
  fs::path put(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name) << text;
    return path_ / name;
  }
  size_t entries() const { return static_cast<size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator())); }
  fs::path path_;
};

Code code_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.code();
  }
  return static_cast<Code>(0);
}

using MappedFileTest = Folder;

TEST_F(MappedFileTest, ReadsAndNamesWhatIsMissing) {
  const MappedFile file(put("a", "hello"));
  std::array<std::byte, 3> part{};
  file.read(part, 2);
  EXPECT_EQ(std::to_integer<char>(part[0]), 'l');
  EXPECT_EQ(code_of([&] { MappedFile absent(path_ / "absent"); }), Code::not_found);
  EXPECT_EQ(code_of([&] { MappedFile folder(path_); }), Code::bad_file);
  EXPECT_EQ(MappedFile(put("empty", "")).size(), 0u);
}

TEST_F(MappedFileTest, AFileCutShortIsAnErrorAndNoSignal) {
  const fs::path path = put("big", std::string(1 << 20, 'x'));
  const MappedFile file(path);
  fs::resize_file(path, 10);
  std::vector<std::byte> all(1 << 20);
  for (int time = 0; time < 2; time++) EXPECT_EQ(code_of([&] { file.read(all, 0); }), Code::bad_file);
  std::vector<std::byte> first(10);
  file.read(first, 0);  // what is left can still be read
}

using AtomicFileTest = Folder;

TEST_F(AtomicFileTest, LeavesNothingUnlessCommitted) {
  { AtomicFile(path_ / "a", Exists::refuse).write("half"); }
  EXPECT_EQ(entries(), 0u);
  AtomicFile file(path_ / "a", Exists::refuse);
  file.write("whole");
  file.commit();
  EXPECT_EQ(read_text(path_ / "a", 100), "whole");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(AtomicFileTest, NeverOverwritesUnlessAsked) {
  put("a", "old");
  EXPECT_EQ(code_of([&] { AtomicFile file(path_ / "a", Exists::refuse); }), Code::io);
  AtomicFile late(path_ / "b", Exists::refuse);
  late.write("new");
  put("b", "meanwhile");
  EXPECT_EQ(code_of([&] { late.commit(); }), Code::io);
  EXPECT_EQ(read_text(path_ / "b", 100), "meanwhile");
  AtomicFile replacing(path_ / "a", Exists::replace);
  replacing.write("new");
  replacing.commit();
  EXPECT_EQ(read_text(path_ / "a", 100), "new");
}

TEST_F(AtomicFileTest, AFullDiskLeavesNothingBehind) {
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  rlimit small = before;
  small.rlim_cur = 4096;
  std::signal(SIGXFSZ, SIG_IGN);
  setrlimit(RLIMIT_FSIZE, &small);
  const Code code = code_of([&] {
    AtomicFile file(path_ / "a", Exists::refuse);
    file.write(std::string(10000, 'x'));
    file.commit();
  });
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(code, Code::io);
  EXPECT_EQ(entries(), 0u);
}

TEST(ReadText, HasALimit) {
  EXPECT_EQ(code_of([] { read_text(CUDREAM_SOURCE_DIR "/CMakeLists.txt", 10); }), Code::bad_file);
}

}  // namespace
}  // namespace cudream
