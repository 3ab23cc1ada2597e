// Who may include whom: every #include of the rooms, checked against the rule of docs/design.md, section 2.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>

namespace cudream {
namespace {

namespace fs = std::filesystem;

// A room may include itself and these.
const std::map<std::string, std::set<std::string>> kRule{
    {"core", {}},
    {"kernels", {"core"}},
    {"loader", {"core", "kernels"}},
    {"nets", {"core", "kernels"}},
    {"runtime", {"core", "kernels", "loader", "nets"}},
    {"cli", {"core", "kernels", "loader", "nets", "runtime"}},
};

TEST(Rooms, IncludeOnlyWhatTheyMay) {
  const fs::path root = CUDREAM_SOURCE_DIR;
  int seen = 0;
  for (const auto& [room, allowed] : kRule)
    for (const auto& entry : fs::recursive_directory_iterator(root / room)) {
      if (entry.path().extension() != ".h" && entry.path().extension() != ".cc") continue;
      std::ifstream in(entry.path());
      for (std::string line; std::getline(in, line);) {
        if (!line.starts_with("#include \"")) {
          const bool library =
              line.starts_with("#include <dnnl") || line.starts_with("#include <cuda") || line.starts_with("#include <omp");
          EXPECT_FALSE(library && !entry.path().string().starts_with((root / "kernels/cpu").string()))
              << entry.path() << ": " << line;
          continue;
        }
        seen++;
        const std::string to = line.substr(10, line.find('/') - 10);
        EXPECT_TRUE(to == room || allowed.contains(to)) << entry.path() << ": " << line;
      }
    }
  EXPECT_GT(seen, 100);
}

// Of the rooms, of their tests and of the benchmarks.
TEST(Rooms, FilesStayShort) {
  const fs::path root = CUDREAM_SOURCE_DIR;
  const std::set<std::string> kinds{".h", ".cc", ".cu", ".cuh", ".py"};
  std::set<std::string> folders{"tests", "bench"};
  for (const auto& [room, allowed] : kRule) folders.insert(room);
  int seen = 0;
  for (const std::string& folder : folders)
    for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
      if (!kinds.contains(entry.path().extension())) continue;
      std::ifstream in(entry.path());
      int lines = 0;
      for (std::string line; std::getline(in, line);) lines++;
      EXPECT_LE(lines, 400) << entry.path();
      seen++;
    }
  EXPECT_GT(seen, 300);
}

}  // namespace
}  // namespace cudream
