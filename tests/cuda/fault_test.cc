// What the program says when a GPU fails, on a virtual GPU told to fail; each case in a process of its own.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "core/error.h"
#include "kernels/cuda/cuda_device.h"
#include "tests/cuda/virtual_gpu.h"

namespace cudream {
namespace {

// Opens the first card with `name`=`value` in the environment, runs `job` on it, and leaves with the exit status and message
// that the program would leave with.
template <typename Job>
[[noreturn]] void leave(const char* name, const char* value, const Job& job) {
  setenv(name, value, 1);
  try {
    const std::unique_ptr<Device> device = open_cuda(0, DType::f32);
    job(*device);
    std::_Exit(0);
  } catch (const Error& e) {
    fputs(e.what(), stderr);
    std::_Exit(static_cast<int>(e.code()));
  }
}

testing::ExitedWithCode with(Code code) {
  return testing::ExitedWithCode(static_cast<int>(code));
}

class CudaFault : public VirtualGpuTest {
 protected:
  void SetUp() override {
    VirtualGpuTest::SetUp();
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // starts the program anew, so that the driver sees the environment
  }
};

TEST_F(CudaFault, NoCard) {
  EXPECT_EXIT(leave("CUDREAM_VGPU_DEVICES", "none", [](Device&) {}), with(Code::device), "finds no GPU.*--device cpu");
}

TEST_F(CudaFault, NoMemory) {
  EXPECT_EXIT(leave("CUDREAM_VGPU_MEMORY", "64", [](Device& d) { d.allocate(int64_t{65} << 20); }), with(Code::out_of_memory),
              "cuda:0 .*no room for 65 MiB more: [0-9]+ of 64 MiB are free");
}

TEST_F(CudaFault, AKernelThatFails) {
  const auto job = [](Device& device) {
    const View x(device.allocate(4), DType::f32, {1});
    std::array<float, 1> value{1};
    device.upload(x, std::as_bytes(std::span(value)));
    device.act(x, x, Act::silu);
    device.download(std::as_writable_bytes(std::span(value)), x);
  };
  EXPECT_EXIT(leave("CUDREAM_VGPU_FAIL_LAUNCH", "1", job), with(Code::device), "cuda:0 .*CUDA_ERROR_LAUNCH_FAILED");
}

TEST_F(CudaFault, AnOldCard) {
  EXPECT_EXIT(leave("CUDREAM_VGPU_DEVICES", "2080", [](Device&) {}), with(Code::device),
              "cuda:0 .NVIDIA GeForce RTX 2080 Ti .virtual., compute capability 7.5. is too old: .*--device cpu");
}

TEST_F(CudaFault, AnOldDriver) {
  EXPECT_EXIT(leave("CUDREAM_VGPU_VERSION", "12040", [](Device&) {}), with(Code::device),
              "driver is too old: it supports CUDA 12.4, and this program was built with CUDA 1[3-9]");
}

TEST_F(CudaFault, AMissingImage) {
  EXPECT_EXIT(leave("CUDREAM_VGPU_FAIL_IMAGE", "3", [](Device&) {}), with(Code::device),
              "this program has no kernels in .*[.]cu that cuda:0 .*update the driver, or rebuild");
}

// Work on the second card stays there.
TEST_F(CudaFault, AnyOfSeveralCards) {
  const auto use_second = [] {
    setenv("CUDREAM_VGPU_DEVICES", "a100,4090", 1);
    const auto first = open_cuda(0, DType::f32), second = open_cuda(1, DType::f32);
    for (Device* device : {second.get(), first.get()}) {
      const View x(device->allocate(4), DType::f32, {1});
      std::array<float, 1> value{2};
      device->upload(x, std::as_bytes(std::span(value)));
      device->multiply(x, x, x);
      device->download(std::as_writable_bytes(std::span(value)), x);
      device->release(x.data, 4);
      fprintf(stderr, "%s %s %g; ", device->info().kind.c_str(), device->info().description.c_str(),
              static_cast<double>(value[0]));
    }
    try {
      open_cuda(2, DType::f32);
    } catch (const Error& e) {
      fputs(e.what(), stderr);
    }
    std::_Exit(0);
  };
  EXPECT_EXIT(use_second(), testing::ExitedWithCode(0),
              "cuda:1 .*4090.* 4; cuda:0 .*A100.* 4; .*cuda:2: this machine has 2 CUDA");
}

}  // namespace
}  // namespace cudream
