// The file of measured times: read back as written, refused when damaged or measured elsewhere.
#include "kernels/cuda/tuning.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "core/error.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const TuningOf kHere{.card = "NVIDIA A100", .driver = "13.0", .cublaslt = "13.1.0", .cudnn = ""};

class TuningFile : public testing::Test {
 protected:
  TuningFile() : file_(fs::temp_directory_path() / ("cudream-tuning-" + std::to_string(getpid())) / "a" / "tuning.json") {}
  ~TuningFile() override { fs::remove_all(file_.parent_path().parent_path()); }
  std::string refusal(const TuningOf& of) const {
    try {
      Tuning::read(file_, of);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::bad_file);
      return e.what();
    }
    ADD_FAILURE() << "read";
    return "";
  }
  void put(const std::string& text) const {
    fs::create_directories(file_.parent_path());
    std::ofstream(file_) << text;
  }
  fs::path file_;
};

TEST_F(TuningFile, IsReadAsItWasWritten) {
  EXPECT_TRUE(Tuning::read(file_, kHere).empty());  // not there: no figures
  Tuning tuning(kHere);
  tuning.add("linear f16 64x64x64", {3.5, 2.25});
  tuning.write(file_);
  const Tuning again = Tuning::read(file_, kHere);
  ASSERT_TRUE(again.find("linear f16 64x64x64"));
  EXPECT_EQ(again.find("linear f16 64x64x64")->own_us, 3.5);
  EXPECT_EQ(again.find("linear f16 64x64x64")->library_us, 2.25);
  EXPECT_FALSE(again.find("linear f16 64x64x65"));
}

TEST_F(TuningFile, OfAnotherCardDriverOrLibraryIsRefused) {
  Tuning tuning(kHere);
  tuning.write(file_);
  for (TuningOf other : {TuningOf{"NVIDIA H100", "13.0", "13.1.0", ""},
                         {"NVIDIA A100", "13.1", "13.1.0", ""},
                         {"NVIDIA A100", "13.0", "", ""},
                         {"NVIDIA A100", "13.0", "13.1.0", "9.19.0"}})
    EXPECT_THAT(refusal(other), HasSubstr("another card"));
}

TEST_F(TuningFile, ThatIsDamagedIsRefused) {
  Tuning tuning(kHere);
  tuning.add("linear", {1, 2});
  tuning.write(file_);
  std::ifstream in(file_);
  const std::string whole((std::istreambuf_iterator<char>(in)), {});
  for (const std::string& text : {std::string(), std::string("{}"), std::string("[1]"), whole.substr(0, whole.size() / 2)}) {
    put(text);
    EXPECT_THAT(refusal(kHere), HasSubstr("--tune"));
  }
  for (const char* time : {"-1.0", "0", "\"fast\"", "null", "{}"}) {
    std::string text = whole;
    const size_t at = text.find("1.0", text.find("own_us"));
    put(text.replace(at, 3, time));
    EXPECT_THAT(refusal(kHere), HasSubstr("no times")) << time;
  }
}

TEST(TuningPlace, IsTheCacheFolderOfTheUser) {
  setenv("XDG_CACHE_HOME", "/somewhere", 1);
  EXPECT_EQ(tuning_file("NVIDIA GeForce RTX 4090/x"), "/somewhere/cudream/tuning-NVIDIA-GeForce-RTX-4090-x.json");
  unsetenv("XDG_CACHE_HOME");
  setenv("HOME", "/home/a", 1);
  EXPECT_EQ(tuning_file("A"), "/home/a/.cache/cudream/tuning-A.json");
}

}  // namespace
}  // namespace cudream
