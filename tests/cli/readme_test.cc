// README's table of what runs where names the recorded runs that there are, and the tests that make them.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "core/file.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
const fs::path kSource = CUDREAM_SOURCE_DIR;

// A row: how it begins, and how the names of its runs' files do.
struct Row {
  std::string job;
  std::vector<std::string> runs;
};
const std::vector<Row> kRows{{"from words, from a picture", {"txt2img_", "img2img_"}},
                             {"few steps", {"txt2img_tcd", "txt2img_lightning", "turbo_"}},
                             {"networks with blocks missing", {"txt2img."}},
                             {"fill in, any model", {"inpaint4"}},
                             {"fill in, models made for it", {"inpaint9", "outpaint_"}},
                             {"edit by instruction", {"edit"}},
                             {"ControlNet", {"controlnet"}},
                             {"LoRA", {"lora_"}},
                             {"refiner", {"base_to_80"}}};
// A column: folders of runs.
const std::vector<std::vector<std::string>> kFamilies{
    {"sd1", "sd1-inpaint", "sd1-instruct", "bk-sdm-base", "bk-sdm-small", "bk-sdm-tiny"},
    {"sd2"},
    {"sdxl", "sdxl-inpaint", "sdxl-instruct", "sdxl-refiner", "ssd-1b", "segmind-vega"},
    {"lcm"}};

std::vector<std::string> cells_of(const std::string& line) {
  std::vector<std::string> cells;
  for (size_t at = line.find('|'), end; (end = line.find('|', at + 1)) != std::string::npos; at = end) {
    std::string cell = line.substr(at + 1, end - at - 1);
    const size_t first = cell.find_first_not_of(' '), last = cell.find_last_not_of(' ');
    cells.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
  }
  return cells;
}

// "3 `txt2img*`, 1 `img2img*`"; empty: none.
std::string runs_in(const std::vector<std::string>& folders, const std::vector<std::string>& beginnings) {
  std::vector<std::string> parts;
  for (const std::string& beginning : beginnings) {
    int count = 0;
    for (const std::string& folder : folders)
      for (const auto& entry : fs::directory_iterator(kSource / "tests/golden/golden" / folder)) {
        const std::string name = entry.path().filename().string();
        count += name.ends_with(".json") && !name.ends_with(".config.json") && name.starts_with(beginning);
      }
    if (count > 0) parts.push_back(fmt::format("{} `{}*`", count, beginning.substr(0, beginning.find_last_not_of("._") + 1)));
  }
  return fmt::format("{}", fmt::join(parts, ", "));
}

// Of the tests that run the program.
std::string all_sources() {
  std::string text;
  for (const auto& entry : fs::directory_iterator(kSource / "tests/cli"))
    if (entry.path().extension() == ".cc") text += read_text(entry.path(), 1 << 20);
  return text;
}

TEST(Readme, NamesTheRunsThatThereAre) {
  const std::string readme = read_text(kSource / "README.md", 1 << 20), sources = all_sources();
  for (const Row& row : kRows) {
    const size_t at = readme.find("\n| " + row.job);
    ASSERT_NE(at, std::string::npos) << row.job;
    const std::vector<std::string> cells = cells_of(readme.substr(at + 1, readme.find('\n', at + 1) - at - 1));
    ASSERT_EQ(cells.size(), 1 + kFamilies.size() + 2) << row.job;
    for (size_t i = 0; i < kFamilies.size(); i++) {
      const std::string want = runs_in(kFamilies[i], row.runs);
      if (want.empty())
        EXPECT_THAT(cells[1 + i], testing::AnyOf("", "runs")) << row.job;
      else
        EXPECT_EQ(cells[1 + i], want) << row.job;
    }
    for (size_t device = cells.size() - 2; device < cells.size(); device++)  // `Test`, `Test`
      for (size_t from = cells[device].find('`'), to; from != std::string::npos; from = cells[device].find('`', to + 1)) {
        to = cells[device].find('`', from + 1);
        ASSERT_NE(to, std::string::npos) << row.job;
        EXPECT_THAT(sources, testing::HasSubstr("(" + cells[device].substr(from + 1, to - from - 1) + ",")) << row.job;
      }
  }
}

}  // namespace
}  // namespace cudream
