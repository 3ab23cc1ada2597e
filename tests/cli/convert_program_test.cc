// cudream convert: what it wrote makes the picture of what it read.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/cli/program.h"
#include "tests/golden/tensors.h"
#include "tests/loader/checkpoint_writer.h"
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using testing::HasSubstr;

const std::string kSd1 = "'" + golden_model("sd1.safetensors").string() + "'";

// The pixels that a model makes: the texts in two pictures name different models.
std::vector<uint8_t> pixels(const Program& program, const std::string& model, const std::string& more = "") {
  const Outcome o = program.run("generate 'a house' -m " + model +
                                " --device cpu --precision f32 --steps 2 -W 64 -H 64 --seed 5 --overwrite -o a.png " + more);
  EXPECT_EQ(o.status, 0) << o.err;
  return read_image(program.path() / "a.png").pixels;
}

TEST(Convert, EveryFormOfAModelMakesItsPicture) {
  const Program program;
  const std::vector<uint8_t> want = pixels(program, kSd1);
  write_checkpoint(program.path() / "old.ckpt", SafetensorsFile(golden_model("sd1.safetensors")));
  std::filesystem::copy_file(golden_model("sd1.config.json"), program.path() / "old.config.json");
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{{kSd1, "folder/"},
                                                                                 {"folder", "one.safetensors"},
                                                                                 {"./one.safetensors", "wide.safetensors"},
                                                                                 {"old.ckpt", "new.safetensors"}}) {
    const Outcome o = program.run("convert " + from + " -o " + to + (to == "wide.safetensors" ? " --precision fp32" : ""));
    EXPECT_EQ(o.status, 0) << to << o.err;
    EXPECT_EQ(pixels(program, "./" + to), want) << to;
  }
}

TEST(Convert, PutsALoraIntoTheWeights) {
  const Program program;
  const std::string lora = "--lora '" + golden_model("lora-sd1-kohya.safetensors").string() + ":0.8'";
  const Outcome o = program.run("convert " + kSd1 + " --precision fp32 " + lora + " -o merged.safetensors");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("114 of 114 keys used"));
  EXPECT_EQ(pixels(program, "./merged.safetensors"), pixels(program, kSd1, lora));
  EXPECT_NE(pixels(program, "./merged.safetensors"), pixels(program, kSd1));
  EXPECT_EQ(SafetensorsFile(program.path() / "merged.safetensors").header().metadata.at("merged_loras"), "lora-sd1-kohya:0.8");
}

TEST(Convert, RefusesClearlyAndLeavesNothing) {
  const Program program;
  program.write("old.safetensors", "mine");
  const auto refused = [&](const std::string& arguments, Code code, const std::string& message) {
    const Outcome o = program.run("convert " + arguments);
    EXPECT_EQ(o.status, static_cast<int>(code)) << arguments;
    EXPECT_THAT(o.err, HasSubstr(message));
  };
  refused(kSd1 + " -o a.ckpt", Code::usage, "written are .safetensors files");
  refused(kSd1 + " -o old.safetensors", Code::io, "exists already");
  refused(kSd1 + " -o .", Code::io, "exists already");
  refused(kSd1 + " -o a.safetensors --precision fp8", Code::usage, "--precision");
  refused("./old.safetensors -o a.safetensors", Code::bad_file, "old.safetensors");
  refused("'" CUDREAM_SOURCE_DIR "/tests/attacks/checkpoint/bad_reduce_2.ckpt' -o a.safetensors", Code::unsupported,
          "posix getpid");
  refused("'" CUDREAM_SOURCE_DIR "/tests/attacks/checkpoint/ok_plain.ckpt' -o a.safetensors", Code::unsupported, "not converted");
  EXPECT_EQ(program.read("old.safetensors"), "mine");
  EXPECT_EQ(program.files_in("."), 1u);
}

TEST(Convert, IsWhatTheRefusalOfACheckpointSays) {
  const Program program;
  write_checkpoint(program.path() / "old.ckpt", SafetensorsFile(golden_model("sd1.safetensors")));
  const Outcome o = program.run("generate x -m ./old.ckpt -o a.png");
  EXPECT_EQ(o.status, static_cast<int>(Code::unsupported));
  EXPECT_THAT(o.err, HasSubstr("cudream convert './old.ckpt' -o './old.safetensors'"));
}

}  // namespace
}  // namespace cudream
