// Prompts that change by step, tags, wildcards, new words.
#include "runtime/prompt_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "runtime/prompt.h"
#include "runtime/wildcards.h"
#include "tests/loader/errors.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> steps_of(std::string_view text, int steps) {
  const PromptSchedule schedule = schedule_prompt(text, steps);
  std::vector<std::string> texts;
  for (const size_t i : schedule.at_step) texts.push_back(schedule.texts[i]);
  return texts;
}

TEST(PromptSchedule, ChangesAtAShareOrAStep) {
  EXPECT_THAT(steps_of("a [cat:dog:0.5] here", 4), ElementsAre("a cat here", "a cat here", "a dog here", "a dog here"));
  EXPECT_THAT(steps_of("[cat:dog:3]", 4), ElementsAre("cat", "cat", "cat", "dog"));
  EXPECT_THAT(steps_of("a[ cat:0.5]", 2), ElementsAre("a", "a cat"));
  EXPECT_THAT(steps_of("a[ cat::0.5]", 2), ElementsAre("a cat", "a"));
  EXPECT_EQ(schedule_prompt("[cat:dog:0.5]", 20).texts.size(), 2u);
}

TEST(PromptSchedule, AlternatesAndNests) {
  EXPECT_THAT(steps_of("[a|b|c]", 4), ElementsAre("a", "b", "c", "a"));
  EXPECT_THAT(steps_of("[[a|b]:c:0.5]", 4), ElementsAre("a", "b", "c", "c"));
  EXPECT_THAT(steps_of("[(a:1.2):b:0.5]", 2), ElementsAre("(a:1.2)", "b"));
}

TEST(PromptSchedule, LeavesTheRestAlone) {
  for (const std::string text : {"plain", "[less]", "[a:b]", "[a:b:c]", "[open:a:0.5", "\\[a|b\\]", "(x:1.2)", "]["})
    EXPECT_THAT(steps_of(text, 2), ElementsAre(text, text));
  const std::string deep(5000, '[');
  EXPECT_EQ(steps_of(deep, 1).front(), deep);
  const std::string huge(1 << 20, '[');
  EXPECT_EQ(steps_of(huge, 50).back(), huge);
}

TEST(Tags, AreTakenOut) {
  const TaggedPrompt prompt = take_tags("a <lora:film:0.8> house<lora:grain> <b>");
  EXPECT_EQ(prompt.text, "a  house <b>");
  EXPECT_THAT(prompt.loras, ElementsAre(LoraTag{"film", 0.8}, LoraTag{"grain", 1}));
  EXPECT_EQ(parse_lora("film:-0.5"), (LoraTag{"film", -0.5}));
  EXPECT_THAT(message_of([] { take_tags("<lora:film:much>"); }, Code::usage), HasSubstr("\"film\" has the strength \"much\""));
  EXPECT_THAT(message_of([] { take_tags("<lora:>"); }, Code::usage), HasSubstr("without a name"));
}

TEST(WildcardsTest, DrawFromTheSeed) {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder.path() / "animals");
  std::ofstream(folder.path() / "animals" / "cats.txt") << "lion\n# not this\n\ntiger\n{black|white} cat\r\n";
  std::ofstream(folder.path() / "loop.txt") << "__loop__\n";
  const Wildcards wildcards(folder.path());
  std::set<std::string> seen;
  for (uint64_t seed = 0; seed < 200; seed++) {
    const std::string drawn = wildcards.expand("a __animals/cats__, {red|green|blue}", seed);
    EXPECT_EQ(drawn, wildcards.expand("a __animals/cats__, {red|green|blue}", seed));
    seen.insert(drawn);
  }
  EXPECT_EQ(seen.size(), 12u);
  EXPECT_TRUE(seen.contains("a white cat, blue"));
  EXPECT_EQ(wildcards.expand("plain {one} \\{a|b\\} snake_case __", 1), "plain {one} \\{a|b\\} snake_case __");
  EXPECT_TRUE(has_wildcards("{a|b}") && has_wildcards("__x__"));
  EXPECT_FALSE(has_wildcards("{a}") || has_wildcards("a__b") || has_wildcards("\\{a|b\\}"));
  EXPECT_THAT(message_of([&] { wildcards.expand("__../passwd__", 1); }, Code::not_found),
              HasSubstr("no wildcard list \"../passwd\""));
  EXPECT_THAT(message_of([&] { wildcards.expand("__loop__", 1); }, Code::usage), HasSubstr("lead back to themselves"));
  EXPECT_EQ(wildcards.lists_behind("a __loop__ __none__ __animals/cats__"),
            "__animals/cats__\nlion\ntiger\n{black|white} cat\n__loop__\n__loop__\n");
  EXPECT_EQ(wildcards.lists_behind("plain {one|two}"), "");
}

TEST(NewWords, BecomeTheirTokens) {
  const Tokenizer tokenizer;
  const std::vector<NewWord> words{{"<thing>", 49408, 3}, {"thing", 49411, 1}};
  const auto ids = [&](std::string_view text) {
    std::vector<int> found;
    for (const Chunk& c : chunks(tokenizer, parse_prompt(text), 49407, words))
      for (int i = 1; i <= c.words; i++) found.push_back(c.ids[static_cast<size_t>(i)]);
    return found;
  };
  const int a = tokenizer.encode("a").front();
  EXPECT_THAT(ids("a <THING> a"), ElementsAre(a, 49408, 49409, 49410, a));
  EXPECT_THAT(ids("a thing"), ElementsAre(a, 49411));
  for (const int id : ids("something")) EXPECT_LT(id, 49408);
  // A new word is not cut by the end of a chunk.
  std::string full;
  for (int i = 0; i < 74; i++) full += "a ";
  const std::vector<Chunk> cut = chunks(tokenizer, parse_prompt(full + "<thing>"), 49407, words);
  ASSERT_EQ(cut.size(), 2u);
  EXPECT_EQ(cut[0].words, 74);
  EXPECT_EQ(cut[1].ids[1], 49408);
}

}  // namespace
}  // namespace cudream
