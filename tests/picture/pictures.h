// What the picture tests share: a picture to draw with, expected errors, and bytes of files.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "core/error.h"
#include "runtime/picture/image.h"

namespace cudream {

using Bytes = std::vector<uint8_t>;

inline constexpr std::string_view kData = CUDREAM_SOURCE_DIR "/tests/picture/data/";

// Every pixel its own colour, smooth enough for JPEG.
inline Image gradient(int width, int height, int channels = 3) {
  Image image{width, height, channels, {}};
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c) {
        const int values[] = {255 * x / width, 255 * y / height, 255 * (x + y) / (width + height), 255 - 128 * x / width};
        image.pixels.push_back(static_cast<uint8_t>(values[c]));
      }
  return image;
}

inline Bytes bytes_of(std::string_view text) {
  return {text.begin(), text.end()};
}

inline Bytes file_bytes(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <typename Action>
void expect_error(Action action, Code code, const std::string& part) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with \"" << part << '"';
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

// A folder that is empty at first and gone after the test.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "cudream-picture-XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }
  const std::filesystem::path& path() const { return path_; }
  bool empty() const { return std::filesystem::is_empty(path_); }

 private:
  std::filesystem::path path_;
};

}  // namespace cudream
