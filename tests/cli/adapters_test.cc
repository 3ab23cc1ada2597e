// The program with LoRAs, textual inversions, wildcards and changing prompts: what it says, and that it undoes what it did.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "core/error.h"
#include "loader/safetensors.h"
#include "tests/cli/program.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string generate(const std::string& prompt, const std::string& options = "") {
  return "generate '" + prompt + "' -m sd1 --models-dir '" + (golden() / "models").string() +
         "' --device cpu --precision f32 --steps 2 --width 64 --height 64 --seed 5 " + options;
}

TEST(Adapters, ATagIsLookedUpUsedAndSaid) {
  const Program program;
  const Outcome o = program.run(generate("a house <lora:lora-sd1-kohya:0.5>", "-o a.png"));
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, HasSubstr("LoRA lora-sd1-kohya: 114 of 114 keys used"));
  EXPECT_THAT(program.run("inspect a.png").out, HasSubstr("a house <lora:lora-sd1-kohya:0.5>"));
}

TEST(Adapters, ANameInAPromptIsNoPath) {
  const Program program;
  const Outcome o = program.run(generate("x <lora:../models/lora-sd1-kohya>", "-o a.png"));
  EXPECT_EQ(o.status, static_cast<int>(Code::not_found));
  EXPECT_THAT(o.err, HasSubstr("no model is named \"../models/lora-sd1-kohya\""));
  EXPECT_FALSE(program.has("a.png"));
}

TEST(Adapters, OfAnotherFamilyAreRefused) {
  const Program program;
  const Outcome lora = program.run(generate("x", "--lora lora-sdxl-kohya -o a.png"));
  EXPECT_EQ(lora.status, static_cast<int>(Code::unsupported));
  EXPECT_THAT(lora.err, HasSubstr("lora-sdxl-kohya.safetensors does not fit the model"));
  const Outcome word = program.run(generate("x", "--embedding ti-sdxl -o a.png"));
  EXPECT_EQ(word.status, static_cast<int>(Code::unsupported));
  EXPECT_THAT(word.err, HasSubstr("was made for another family of models"));
}

TEST(Prompts, WildcardsAreDrawnFromTheSeedOfEachPicture) {
  const Program program;
  std::filesystem::create_directories(program.path() / "lists");
  std::ofstream(program.path() / "lists" / "animal.txt") << "cat\ndog\nfox\nowl\n";
  const std::string prompt = "a {red|green|blue} __animal__";
  const Outcome o = program.run(generate(prompt, "--wildcards lists -c 4 -b 4 -o {index}.png"));
  ASSERT_EQ(o.status, 0) << o.err;
  std::set<std::string> texts;
  for (const char* file : {"1.png", "2.png", "3.png", "4.png"}) {
    const std::string text = program.run(std::string("inspect ") + file).out;
    EXPECT_THAT(text, HasSubstr("Template: " + prompt));
    texts.insert(text.substr(0, text.find('\n')));
  }
  EXPECT_GT(texts.size(), 1u);
  EXPECT_THAT(program.run(generate("a __plant__", "--wildcards lists -o x.png")).err, HasSubstr("no wildcard list \"plant\""));
}

TEST(Prompts, MayChangeDuringTheRun) {
  const Program program;
  const auto latents = [&](const std::string& prompt) {  // of both steps, one after the other
    const Outcome o = program.run(generate(prompt, "--overwrite -o a.png --trace trace.safetensors"));
    EXPECT_EQ(o.status, 0) << o.err;
    const SafetensorsFile trace(program.path() / "trace.safetensors");
    return trace.floats(trace.at("latents"));
  };
  const std::vector<float> cat = latents("a cat"), dog = latents("a dog"), changed = latents("a [cat:dog:0.5]");
  const auto half = static_cast<std::ptrdiff_t>(cat.size() / 2);
  EXPECT_TRUE(std::equal(cat.begin(), cat.begin() + half, changed.begin()));
  EXPECT_FALSE(std::equal(cat.begin() + half, cat.end(), changed.begin() + half));
  EXPECT_NE(changed, dog);
  EXPECT_EQ(latents("a [cat|dog]"), changed);
  EXPECT_EQ(latents("a [dog:cat:0]"), cat);
}

}  // namespace
}  // namespace cudream
