// Whether the GPU of a test is the virtual one (tests/vgpu), and the tests of what only that does.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>

namespace cudream {

inline bool is_virtual_gpu() {
  return std::getenv("CUDREAM_LIBCUDA") != nullptr;
}

// Tests for which the GPU counts what it does, fails as the environment says, or stands for another card: skipped on a real one.
class VirtualGpuTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!is_virtual_gpu()) GTEST_SKIP() << "only the virtual GPU can: CUDREAM_LIBCUDA does not name it";
  }
};

}  // namespace cudream
