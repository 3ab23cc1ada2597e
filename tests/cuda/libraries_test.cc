// cuBLASLt as a provider of products, and cuDNN of convolutions and attention: right results, one picture's bytes in any batch,
// recordings, what is left to our own kernels, and what --tune keeps. On a card with the machine's own libraries; on the virtual
// GPU with a double of cuBLASLt.
#include "kernels/cuda/libraries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

#include "core/log.h"
#include "kernels/reference/reference_device.h"
#include "tests/cuda/nvidia_libraries.h"
#include "tests/cuda/open.h"
#include "tests/kernels/verb_cases.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using testing::ContainsRegex;
using testing::HasSubstr;

// Sums are in float everywhere (no TF32); in f16 and bf16 a result is rounded twice, by the library and by what finishes it.
double tolerance(DType type) {
  return type == DType::f32 ? 1e-5 : type == DType::f16 ? 2e-3 : 1.5e-2;
}

std::vector<VerbCase> cases_of(const std::string& verb) {
  std::vector<VerbCase> chosen;
  for (const VerbCase& c : small_verb_cases())
    if (c.name.starts_with(verb)) chosen.push_back(c);
  return chosen;
}

// And, on a card, layers of real networks, but for the largest: a library has algorithms of its own for those.
std::vector<VerbCase> cases_and_layers_of(const std::string& verb) {
  std::vector<VerbCase> chosen = cases_of(verb);
  if (is_virtual_gpu()) return chosen;
  for (const VerbCase& c : network_verb_cases({32}))
    if (c.name.starts_with(verb) && c.flops < 2e9) chosen.push_back(c);
  return chosen;
}

// What is asked of every library. `cases` are those of verbs that `providers` gives to it.
class LibraryTest : public testing::Test {
 protected:
  void SetUp() override {
    static const bool has_gpu = cuda_or_null(DType::f32) != nullptr;
    const std::string absent = has_gpu ? why_absent() : "no GPU here, real or virtual";
    if (!absent.empty()) GTEST_SKIP() << absent;
    cache_ = fs::temp_directory_path() / ("cudream-libraries-test-" + std::to_string(getpid()));
    setenv("XDG_CACHE_HOME", cache_.c_str(), 1);
  }
  void TearDown() override { fs::remove_all(cache_); }
  virtual std::string why_absent() = 0;

  static std::unique_ptr<Device> open(DType type, const Providers& providers) { return open_cuda(0, type, providers); }

  static void expect_the_references_values(DType type, const Providers& providers, const std::vector<VerbCase>& cases,
                                           const std::string& library) {
    const auto reference = open_reference(), device = open(type, providers);
    for (const VerbCase& c : cases)
      EXPECT_LE(relative_l2(run_values(*device, c, 2), run_values(*reference, c, 2)), tolerance(type))
          << c.name << " " << name_of(type);
    EXPECT_THAT(device->libraries_used(), ContainsRegex(library)) << "nothing went to the library";
  }

  static void expect_the_same_bytes_in_any_batch(DType type, const Providers& providers, const std::vector<VerbCase>& cases) {
    const auto device = open(type, providers);
    for (const VerbCase& c : cases) {
      if (c.name.find("lengths") != std::string::npos) continue;  // the lengths follow the place in the batch
      const std::vector<std::byte> alone = run_bytes(*device, c, 1, 1);
      for (const int64_t pictures : {3, 8}) {
        const std::vector<std::byte> batch = run_bytes(*device, c, pictures);
        const auto begin = batch.begin() + static_cast<std::ptrdiff_t>(alone.size());
        EXPECT_TRUE(std::equal(alone.begin(), alone.end(), begin)) << c.name << ", picture 1 of " << pictures;
      }
    }
  }

  static void expect_replays(DType type, const Providers& providers, const std::vector<VerbCase>& cases) {
    const auto device = open(type, providers);
    for (const VerbCase& c : cases) {
      if (c.name.find("in place") != std::string::npos) continue;  // each run adds once more
      VerbStage stage(*device, 3);
      const VerbRun made = c.prepare(stage);
      made.run();
      const std::vector<std::byte> eager = bytes_of(*device, made.out);
      const auto recorded = device->record(made.run);
      device->upload(made.out, std::vector<std::byte>(eager.size()));
      recorded->run();
      EXPECT_EQ(bytes_of(*device, made.out), eager) << c.name;
    }
  }

  fs::path cache_;
};

class BlasLibrary : public LibraryTest {
 protected:
  void SetUp() override {
    LibraryTest::SetUp();
    if (is_virtual_gpu()) no_dnn_.emplace("CUDREAM_LIBCUDNN", "/no/such/libcudnn.so.9");  // the real one does not come up there
  }
  std::string why_absent() override { return why_no_blas(); }

  const std::vector<VerbCase> products_ = cases_of("linear");
  std::optional<Variable> no_dnn_;
};

class DnnLibrary : public LibraryTest {
 protected:
  std::string why_absent() override { return why_no_dnn(); }

  static constexpr Providers kProviders{.conv = LibraryUse::always, .attention = LibraryUse::always};
  const std::vector<VerbCase> convolutions_ = cases_of("conv"), attentions_ = cases_of("attention");
};

TEST_F(BlasLibrary, AgreesWithTheReference) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16})
    expect_the_references_values(type, {.gemm = LibraryUse::always}, products_, "cuBLASLt [0-9]+\\.[0-9]+\\.[0-9]+ ");
}

TEST_F(BlasLibrary, GivesAPictureTheSameBytesInAnyBatch) {
  for (const DType type : {DType::f32, DType::f16})
    expect_the_same_bytes_in_any_batch(type, {.gemm = LibraryUse::always}, cases_and_layers_of("linear"));
}

// What the rule prevents: the same rows as one larger product get another algorithm, and other bytes. The double sees to that; a
// real library need not.
TEST_F(BlasLibrary, WouldChangeBytesIfTheBatchPickedTheAlgorithm) {
  if (!is_virtual_gpu()) GTEST_SKIP() << "only the double of cuBLASLt is sure to change its algorithm";
  Gpu gpu(0);
  Matmul matmul(gpu);
  const int64_t rows = 16, depth = 320, outs = 64, pictures = 8;
  std::vector<float> x(static_cast<size_t>(pictures * rows * depth)), w(static_cast<size_t>(outs * depth));
  for (size_t i = 0; i < x.size(); i++) x[i] = std::sin(static_cast<float>(i));
  for (size_t i = 0; i < w.size(); i++) w[i] = std::cos(static_cast<float>(i));
  void *dx = gpu.allocate(static_cast<int64_t>(x.size() * 4)), *dw = gpu.allocate(static_cast<int64_t>(w.size() * 4)),
       *out = gpu.allocate(pictures * rows * outs * 4);
  gpu.upload(dx, std::as_bytes(std::span(x)));
  gpu.upload(dw, std::as_bytes(std::span(w)));
  const auto first_picture = [&](int64_t rows_seen, int64_t batch) {
    const MatmulShape shape{DType::f32, rows_seen, depth, outs};
    EXPECT_TRUE(matmul.serves(shape));
    matmul.run(shape, batch, out, dx, dw, nullptr, nullptr);
    std::vector<float> got(static_cast<size_t>(rows * outs));
    gpu.download(std::as_writable_bytes(std::span(got)), out);
    return got;
  };
  const std::vector<float> alone = first_picture(rows, 1);
  EXPECT_EQ(first_picture(rows, pictures), alone);
  const std::vector<float> picked_by_batch = first_picture(rows * pictures, 1);
  EXPECT_NE(picked_by_batch, alone);
  EXPECT_LE(relative_l2(picked_by_batch, alone), 1e-5);
  for (void* at : {dx, dw, out}) gpu.release(at);
}

TEST_F(BlasLibrary, ReplaysWhatWasRecorded) {
  expect_replays(DType::f32, {.gemm = LibraryUse::always}, products_);
}

TEST_F(BlasLibrary, IsRefusedWhereItIsNamedAndAbsentAndNotMissedOtherwise) {
  const Variable absent("CUDREAM_LIBCUBLASLT", "/no/such/libcublasLt.so.13");
  try {
    open(DType::f32, {.gemm = LibraryUse::always});
    FAIL() << "opened";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::device);
    EXPECT_THAT(e.what(), HasSubstr("no cuBLASLt library"));
    EXPECT_THAT(e.what(), HasSubstr("--gemm own"));
  }
  const VerbCase& product = products_[6];
  for (const Providers& providers : {Providers{}, {.gemm = LibraryUse::never}, {.tune = true}}) {
    const auto device = open(DType::f32, providers);
    EXPECT_FALSE(run_bytes(*device, product, 1).empty());
    EXPECT_EQ(device->libraries_used(), "");
  }
}

TEST_F(BlasLibrary, IsUsedWhereItWasMeasuredToBeFaster) {
  const VerbCase& product = products_[8];
  const auto used = [&](const Providers& providers) {
    const auto device = open(DType::f32, providers);
    run_bytes(*device, product, 2);
    return device->libraries_used();
  };
  EXPECT_EQ(used({}), "");
  used({.tune = true});
  const fs::path file = tuning_file(Gpu(0).model());
  ASSERT_TRUE(fs::exists(file));
  std::ifstream in(file);
  const std::string text((std::istreambuf_iterator<char>(in)), {});
  EXPECT_THAT(text, HasSubstr("linear f32 "));
  const auto rewrite = [&](const char* own, const char* library) {
    std::string changed = text;
    const auto put = [&](const std::string& name, const char* value) {
      const size_t at = changed.find(name) + name.size(), end = changed.find_first_of(",\n}", at);
      changed.replace(at, end - at, value);
    };
    put("\"own_us\": ", own);
    put("\"library_us\": ", library);
    std::ofstream(file) << changed;
  };
  rewrite("2.0", "1.0");
  EXPECT_THAT(used({}), HasSubstr("cuBLASLt"));
  rewrite("1.0", "2.0");
  EXPECT_EQ(used({}), "");
  EXPECT_EQ(used({.tune = true}), "");  // known: not measured again
}

TEST_F(BlasLibrary, ADamagedTuningFileIsOneWarning) {
  const fs::path file = tuning_file(Gpu(0).model());
  fs::create_directories(file.parent_path());
  std::ofstream(file) << "{";
  std::vector<std::string> warnings;
  set_log_sink([&](LogLevel level, std::string_view line) {
    if (level == LogLevel::warn) warnings.emplace_back(line);
  });
  const auto device = open(DType::f32, {});
  run_bytes(*device, products_[8], 1);
  set_log_sink({});
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_THAT(warnings[0], HasSubstr(file.string()));
  EXPECT_THAT(warnings[0], HasSubstr("--tune"));
  EXPECT_EQ(device->libraries_used(), "");
}

TEST_F(BlasLibrary, CudnnIsRefusedWhereItIsNamedAndAbsent) {
  const Variable absent("CUDREAM_LIBCUDNN", "/no/such/libcudnn.so.9");
  for (const Providers& providers : {Providers{.conv = LibraryUse::always}, Providers{.attention = LibraryUse::always}}) try {
      open(DType::f16, providers);
      ADD_FAILURE() << "opened";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::device);
      EXPECT_THAT(e.what(), HasSubstr("no cuDNN library"));
    }
}

TEST_F(DnnLibrary, AgreesWithTheReference) {
  for (const DType type : {DType::f16, DType::bf16}) {
    expect_the_references_values(type, kProviders, convolutions_, "cuDNN [0-9]+\\.[0-9]+\\.[0-9]+ .[0-9]+ conv2d");
    expect_the_references_values(type, kProviders, attentions_, "cuDNN [0-9]+\\.[0-9]+\\.[0-9]+ .[0-9]+ attention");
  }
}

TEST_F(DnnLibrary, GivesAPictureTheSameBytesInAnyBatch) {
  for (const char* verb : {"conv", "attention"})
    expect_the_same_bytes_in_any_batch(DType::f16, kProviders, cases_and_layers_of(verb));
}

TEST_F(DnnLibrary, ReplaysWhatWasRecorded) {
  for (const auto& cases : {convolutions_, attentions_}) expect_replays(DType::f16, kProviders, cases);
}

TEST(SplitConv, SaysWhatTheLibraryTakesAndWhatIsLeft) {
  int data = 0;
  const auto split = [&](DType type, int64_t channels, int64_t outs, const ConvArgs& a) {
    return split_conv(View(&data, type, {2, 16, 16, channels}), Shape{outs, channels, 3, 3}, true, a);
  };
  const View some(&data, DType::f16, {1, 64});
  EXPECT_TRUE(split(DType::f16, 64, 64, {}).possible);
  EXPECT_FALSE(split(DType::f16, 64, 64, {}).finish);
  EXPECT_TRUE(split(DType::f16, 64, 64, {.e = {.add = some}}).finish);
  EXPECT_TRUE(split(DType::f16, 64, 64, {.e = {.residual = some}}).shape.residual);
  EXPECT_FALSE(split(DType::f16, 64, 64, {.e = {.residual = some, .act = Act::silu}}).possible);
  EXPECT_FALSE(split(DType::f16, 64, 64, {.up_height = 32, .up_width = 32}).possible);
  EXPECT_FALSE(split(DType::f16, 4, 64, {}).possible);  // rows of 8 bytes
  EXPECT_FALSE(split(DType::f16, 64, 3, {}).possible);
  EXPECT_FALSE(split(DType::f32, 64, 64, {}).possible);  // the library may use TF32
  EXPECT_EQ(split(DType::f16, 64, 64, {.stride = 2}).shape.out_height(), 8);
}

TEST(SplitLinear, SaysWhatTheLibraryTakesAndWhatIsLeft) {
  int data = 0;
  const View some(&data, DType::f32, {1, 64});
  const auto split = [](DType type, bool bias, const Epilogue& e) { return split_linear(type, 64, 320, 640, bias, e); };
  EXPECT_TRUE(split(DType::f32, true, {}).shape.bias);
  EXPECT_FALSE(split(DType::f32, true, {}).finish);
  EXPECT_FALSE(split(DType::f16, true, {}).shape.bias);  // the bias is f32, and the library wants the output's type
  EXPECT_TRUE(split(DType::f16, true, {}).finish);
  EXPECT_FALSE(split(DType::f16, false, {}).finish);
  EXPECT_TRUE(split(DType::f16, false, {.residual = some}).shape.residual);
  EXPECT_FALSE(split(DType::f16, false, {.residual = some}).finish);
  EXPECT_TRUE(split(DType::f32, false, {.add = some}).finish);
  EXPECT_TRUE(split(DType::f32, false, {.gate = some}).possible);
  EXPECT_FALSE(split(DType::f32, false, {.gate = some, .residual = some}).possible);
  EXPECT_FALSE(split_linear(DType::f16, 64, 77, 640, false, {}).possible);  // rows of 154 bytes
  EXPECT_FALSE(split_linear(DType::f16, 64, 320, 4, false, {}).possible);
  EXPECT_FALSE(split_linear(DType::f16, 1, 320, 640, false, {}).possible);  // a vector
}

}  // namespace
}  // namespace cudream
