// Notices: each is told in a line, and with --strict is an error of the same text, before anything is written.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "kernels/open.h"
#include "tests/cli/program.h"
#include "tests/golden/overflowing.h"

namespace cudream {
namespace {

using testing::HasSubstr;
using testing::Not;

const std::string kGolden = "-m sd1 --models-dir '" + (golden() / "models").string() + "' --steps 2 -W 64 -H 64 --seed 1 ";

struct Told {
  const char* name;
  std::string arguments, notice;
};

class Strict : public testing::TestWithParam<Told> {
 protected:
  void SetUp() override {
    const Outcome made = program_.run("generate house " + kQuick + "-o p.png");
    ASSERT_EQ(made.status, 0) << made.err;
    program_.write("batch.txt", "a house\n" + words() + "\n");
    // A LoRA with a key that has no place.
    const SafetensorsFile lora(golden_model("lora-sd1-kohya.safetensors"));
    std::vector<std::vector<std::byte>> bytes;
    std::vector<TensorData> tensors;
    for (const TensorInfo& t : lora.tensors()) bytes.push_back(lora.bytes(t));
    for (size_t i = 0; i < bytes.size(); i++) {
      const TensorInfo& t = lora.tensors()[i];
      tensors.push_back({.name = t.name, .type = t.type, .shape = t.shape, .bytes = bytes[i]});
      if (const size_t at = t.name.find("lora_unet_mid_block_attentions_0_proj_in."); at == 0)
        tensors.back().name.replace(0, t.name.find('.'), "lora_unet_nowhere");
    }
    write_safetensors(program_.path() / "odd.safetensors", std::move(tensors));
  }
  static std::string words() {
    std::string text;
    for (int i = 0; i < 80; i++) text += "house ";
    return text;
  }
  Program program_;
};

TEST_P(Strict, ANoticeIsAnErrorWithItsText) {
  const auto& [name, arguments, notice] = GetParam();
  std::string command = arguments;
  if (const size_t at = command.find("WORDS"); at != std::string::npos) command.replace(at, 5, words());
  const Outcome told = program_.run(command + " -o told/"), refused = program_.run(command + " --strict -o refused/");
  EXPECT_EQ(told.status, 0) << told.err;
  EXPECT_THAT(told.err, HasSubstr("note: " + notice));
  EXPECT_EQ(refused.status, static_cast<int>(Code::strict)) << refused.err;
  EXPECT_THAT(refused.err, HasSubstr("error: " + notice));
  EXPECT_THAT(refused.err, HasSubstr("(--strict)"));
  EXPECT_EQ(program_.files_in("refused"), 0u);
}

INSTANTIATE_TEST_SUITE_P(Notices, Strict,
                         testing::Values(Told{"LongPrompt", "generate 'WORDS' " + kQuick,
                                              "a prompt of 80 tokens is read in 2 chunks"},
                                         Told{"LoraKeys", "generate x " + kGolden + "--lora ./odd.safetensors",
                                              "LoRA odd: 113 of 114 keys used; not used: "},
                                         Told{"Eta", "generate x " + kQuick + "--sampler euler --eta 0.5",
                                              "--eta 0.5 is for ddim and tcd, and changes nothing of euler"},
                                         Told{"HiresSize", "generate x " + kQuick + "--hires 1.3",
                                              "--hires 1.3 asks for 83.2 x 83.2; made is 80 x 80, multiples of 8"},
                                         Told{"Proportions", "generate x -m demo --steps 2 --seed 1 --image p.png -W 60",
                                              "the proportions of the picture ask for --height 60; made is 64, a multiple of 8"},
                                         Told{"OtherModel", "generate x " + kGolden + "--image p.png --mask p.png",
                                              "sd1-inpaint is made for this, and used in place of sd1"}),
                         [](const auto& told) { return std::string(told.param.name); });

TEST_F(Strict, ABatchGoesOn) {
  const Outcome o = program_.run("batch batch.txt " + kQuick + "--strict -o out");
  EXPECT_EQ(o.status, static_cast<int>(Code::partial)) << o.err;
  EXPECT_THAT(o.err, HasSubstr("batch.txt line 2: a prompt of 80 tokens"));
  EXPECT_EQ(program_.files_in("out"), 1u);
}

TEST_F(Strict, NothingIsSaidOfWhatWasAsked) {
  const Outcome o = program_.run("generate x " + kGolden + "--lora lora-sd1-kohya --hires 1.5 --strict -o a.png");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, Not(HasSubstr("note: ")));
}

// A stage that overflows in bf16: told, part of the picture's text, and refused by --strict, which keeps what was made until
// then.
TEST(Overflow, IsToldAndStored) {
  try {
    open_device({.name = "cpu", .precision = DType::bf16});
  } catch (const Error& e) {
    GTEST_SKIP() << e.what();
  }
  const Program program;
  write_overflowing(program.path(), kOverflows[3]);
  const std::string command = "generate x -m ./overflowing.safetensors --device cpu --precision bf16 --steps 1 -W 64 -H 64 -c 2 ";
  const Outcome o = program.run(command + "-o out/");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("note: decode: values overflow in bf16; done again in f32"));
  for (const auto& picture : std::filesystem::directory_iterator(program.path() / "out"))
    EXPECT_THAT(program.run("inspect '" + picture.path().string() + "'").out, HasSubstr("Done again in f32: decode"));
  const Outcome refused = program.run(command + "--strict -o refused/");
  EXPECT_EQ(refused.status, static_cast<int>(Code::strict)) << refused.err;
  ASSERT_EQ(program.files_in("refused"), 1u);
  const std::filesystem::path kept = std::filesystem::directory_iterator(program.path() / "refused")->path();
  const std::string finish = "decode '" + kept.string() + "' -m ./overflowing.safetensors --device cpu --precision bf16 -o a.png";
  EXPECT_EQ(program.run(finish + " --strict").status, static_cast<int>(Code::strict));
  EXPECT_EQ(program.run(finish).status, 0);
  EXPECT_THAT(program.run("inspect a.png").out, HasSubstr("Done again in f32: decode"));
}

}  // namespace
}  // namespace cudream
