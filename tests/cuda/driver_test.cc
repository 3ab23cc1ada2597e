// Opening a driver that is not there, and the driver's errors in words.
#include "kernels/cuda/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/cuda/cuda_device.h"
#include "kernels/cuda/images.h"

namespace cudream {
namespace {

using testing::HasSubstr;

// The message of the Error that `run` throws, which must have `code`.
template <typename Run>
std::string message(Code code, const Run& run) {
  try {
    run();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), code) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

TEST(Driver, SaysThatThereIsNone) {
  const std::string text = message(Code::device, [] { open_driver("/no/such/libcuda.so.1", 13000); });
  EXPECT_THAT(text, HasSubstr("no NVIDIA driver"));
  EXPECT_THAT(text, HasSubstr("/no/such/libcuda.so.1"));
  EXPECT_THAT(text, HasSubstr("--device cpu"));
}

TEST(Driver, SaysThatALibraryIsTooOld) {
  const std::string text = message(Code::device, [] { open_driver("libm.so.6", 13000); });
  EXPECT_THAT(text, HasSubstr("too old"));
  EXPECT_THAT(text, HasSubstr("cuInit"));
}

TEST(Driver, GivesErrorsTheirNameAndText) {
  Driver driver{};
  driver.error_name = [](Driver::Result, const char** name) {
    *name = "CUDA_ERROR_ILLEGAL_ADDRESS";
    return 0;
  };
  driver.error_text = [](Driver::Result, const char** text) {
    *text = "an illegal memory access was encountered";
    return 0;
  };
  EXPECT_NO_THROW(driver.check(0, "copying {} bytes", 7));
  EXPECT_EQ(message(Code::device, [&] { driver.check(700, "copying {} bytes", 7); }),
            "copying 7 bytes: CUDA_ERROR_ILLEGAL_ADDRESS (an illegal memory access was encountered)");
  message(Code::out_of_memory, [&] { driver.check(Driver::kOutOfMemory, "allocating"); });
}

TEST(CudaDevice, RefusesATypeItDoesNotComputeIn) {
  EXPECT_THAT(message(Code::usage, [] { open_cuda(0, DType::i32); }), HasSubstr("f16, bf16 or f32"));
}

TEST(CudaDevice, SaysThatABuildHasNoKernels) {
  if (!kernel_images().empty()) GTEST_SKIP() << "this build has kernels";
  EXPECT_THAT(message(Code::unsupported, [] { open_cuda(0, std::nullopt); }), HasSubstr("no CUDA kernels"));
}

}  // namespace
}  // namespace cudream
