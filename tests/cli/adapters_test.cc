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

// The latents of all steps, one after the other.
std::vector<float> latents(const Program& program, const std::string& prompt, const std::string& options = "") {
  const Outcome o = program.run(generate(prompt, "--overwrite -o a.png --trace trace.safetensors " + options));
  EXPECT_EQ(o.status, 0) << o.err;
  const SafetensorsFile trace(program.path() / "trace.safetensors");
  return trace.floats(trace.at("latents"));
}

// In one step of DDIM the latent is linear in the guided output, so Liu et al.'s equation 11 can be seen in latents alone.
TEST(Prompts, JoinedByAndAreComposed) {
  const Program program;
  const std::string one = "--steps 1 --sampler ddim --guidance ";
  const auto alone = [&](const std::string& prompt) { return latents(program, prompt, one + "1"); };
  const std::vector<float> cat = alone("a cat"), dog = alone("a dog"), fog = alone("fog");
  std::vector<float> want(cat.size());
  for (size_t i = 0; i < want.size(); i++) want[i] = fog[i] + 3 * (1.2f * (cat[i] - fog[i]) - 0.5f * (dog[i] - fog[i]));
  EXPECT_LE(relative_error(latents(program, "a cat:1.2 AND a dog:-0.5", one + "3 --negative fog"), want), 1e-5);
  for (size_t i = 0; i < want.size(); i++) want[i] = 0.5f * (cat[i] + dog[i]);
  EXPECT_LE(relative_error(latents(program, "a cat :0.5 AND a dog :0.5", one + "1"), want), 1e-5);
  // Alone, a number is part of the words; so is "and".
  EXPECT_NE(alone("a cat:2"), cat);
  EXPECT_NE(alone("a cat and a dog"), latents(program, "a cat AND a dog", one + "1"));
}

TEST(Prompts, JoinedByAndMayChangeAndAreCounted) {
  const Program program;
  EXPECT_EQ(latents(program, "[a cat:a dog:0.5] AND fog"), latents(program, "[a cat|a dog] AND fog"));
  EXPECT_NE(latents(program, "[a cat:a dog:0.5] AND fog"), latents(program, "a cat AND fog"));
  const Outcome many = program.run(generate("a AND b AND c AND d AND e AND f AND g", "-o x.png"));
  EXPECT_EQ(many.status, static_cast<int>(Code::usage));
  EXPECT_THAT(many.err, HasSubstr("7 prompts are joined by AND; at most 6 can be"));
  const Outcome lcm = program.run("generate 'a AND b' -m '" + golden_model("lcm").string() + "' -W 64 -H 64 --steps 1 -o x.png");
  EXPECT_EQ(lcm.status, static_cast<int>(Code::unsupported)) << lcm.err;
}

// A sampler without a memory does not notice that the same model takes over.
TEST(Refiner, GoesOnWhereTheModelStopped) {
  const Program program;
  const std::string ddim = "--steps 4 --sampler ddim --seed 3 ", self = "--refiner sd1 --refiner-start ";
  EXPECT_EQ(latents(program, "[a cat:a dog:0.75]", ddim + self + "0.5"), latents(program, "[a cat:a dog:0.75]", ddim));
  EXPECT_THAT(program.run("inspect a.png").out, AllOf(HasSubstr("Steps: 4")));
  const auto refusal = [&](const std::string& options, Code code) {
    const Outcome o = program.run(generate("x", options + " -o x.png"));
    EXPECT_EQ(o.status, static_cast<int>(code)) << o.err;
    return o.err;
  };
  EXPECT_THAT(refusal("--refiner sd1 --refiner-start 0.0001", Code::usage), HasSubstr("leaves the model no step"));
  EXPECT_THAT(refusal("--refiner sd1 --refiner-start 0.9999 --sampler ddim", Code::usage),
              HasSubstr("leaves the refiner no step"));
  EXPECT_THAT(refusal("--refiner sd1 --refiner-start 1", Code::usage), HasSubstr("above 0 and below 1"));
  EXPECT_THAT(refusal("--refiner '" + golden_model("sdxl-refiner.safetensors").string() + "'", Code::unsupported),
              HasSubstr("cannot take over from sd1: its latents are not those of the model"));
}

TEST(Prompts, MayChangeDuringTheRun) {
  const Program program;
  const auto latents = [&](const std::string& prompt) { return cudream::latents(program, prompt); };
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
