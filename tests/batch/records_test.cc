// Batch files: every format, what is wrong in one, and how axes multiply.
#include "runtime/batch/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/loader/errors.h"

namespace cudream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// "prompt=a fox|seed=1,2"
std::string shown(const Record& record) {
  if (!record.error.empty()) return record.where + " error: " + record.error;
  std::string text;
  for (const Field& field : record.fields) {
    text += (text.empty() ? "" : "|") + field.name + "=";
    for (const std::string& value : field.values) text += (&value == field.values.data() ? "" : ",") + value;
  }
  return text;
}

std::vector<std::string> shown(const std::string& text, BatchFormat format) {
  std::vector<std::string> all;
  for (const Record& record : parse_records(text, format)) all.push_back(shown(record));
  return all;
}

TEST(BatchText, PromptsAndOptions) {
  EXPECT_THAT(shown("# comment\n\na red fox --steps 20 --seed 4\r\n--prompt \"a red fox\" --cfg_scale 5\na - b -- c\n",
                    BatchFormat::text),
              ElementsAre("prompt=a red fox|steps=20|seed=4", "prompt=a red fox|guidance=5", "prompt=a - b -- c"));
  EXPECT_THAT(shown("fox --negative 'it''s \"rain\"' --eta=0.5 --only-masked --seed -1\n", BatchFormat::text),
              ElementsAre("prompt=fox|negative=its \"rain\"|eta=0.5|only-masked=true|seed=-1"));
}

TEST(BatchText, OptionsAloneAreDefaultsForTheLinesBelow) {
  EXPECT_THAT(shown("one\n--steps 9 --seed 1\ntwo\nthree --seed 2\n", BatchFormat::text),
              ElementsAre("prompt=one", "steps=9|seed=1|prompt=two", "steps=9|prompt=three|seed=2"));
}

TEST(BatchText, AnOptionGivenTwiceIsAnAxis) {
  EXPECT_THAT(shown("fox --sampler ddim --sampler \"euler a\"\n", BatchFormat::text),
              ElementsAre("prompt=fox|sampler=ddim,euler a"));
}

TEST(BatchText, ALineThatDoesNotParseIsAnErrorWithItsNumber) {
  EXPECT_THAT(
      shown("fox --negative \"rain\n\nfox --steps 20 30\nfox --prompt house", BatchFormat::text),
      ElementsAre(HasSubstr("line 1 error: a quote (\") is not closed"), HasSubstr("line 3 error: \"30\" belongs to no option"),
                  HasSubstr("line 4 error: a prompt before the options and a --prompt")));
}

TEST(BatchCsv, CellsUnderTheirNames) {
  EXPECT_THAT(shown("\xef\xbb\xbfprompt,seed,negative\n\"a fox, \"\"red\"\"\",1..3,\n house ,,rain\n", BatchFormat::csv),
              ElementsAre("prompt=a fox, \"red\"|seed=1..3",
                          testing::AnyOf("prompt= house |negative=rain", "prompt=house|negative=rain")));
  EXPECT_THAT(shown("prompt\nfox, red\n", BatchFormat::csv),
              ElementsAre(HasSubstr("row 2 error: 2 cells where the header names 1")));
  EXPECT_THAT(message_of([&] { parse_records("seed\n1\n", BatchFormat::csv); }, Code::bad_file),
              HasSubstr("must name the columns"));
  EXPECT_THAT(message_of([&] { parse_records("prompt\n\"open", BatchFormat::csv); }, Code::bad_file),
              HasSubstr("not CSV after row 1"));
}

TEST(BatchJsonl, ObjectsAndLists) {
  EXPECT_THAT(
      shown(
          "{\"defaults\": {\"steps\": 9}}\n{\"prompt\": \"fox\", \"seed\": [1, 2], \"guidance\": 7.5}\n[1]\n{\"prompt\": {}}\n{",
          BatchFormat::jsonl),
      ElementsAre("steps=9|prompt=fox|seed=1,2|guidance=7.5", HasSubstr("line 3 error: expected an object, not array"),
                  HasSubstr("line 4 error: \"prompt\" cannot be object"), HasSubstr("line 5 error: ")));
}

TEST(BatchYaml, ItemsAndDefaults) {
  EXPECT_THAT(
      shown("defaults: {steps: 9}\nitems:\n  - a fox\n  - prompt: [house, boat]\n    seed: 1..8\n  - [1]\n", BatchFormat::yaml),
      ElementsAre("steps=9|prompt=a fox", "steps=9|prompt=house,boat|seed=1..8",
                  HasSubstr("item 3 error: an item is a mapping")));
  EXPECT_THAT(shown("- fox\n", BatchFormat::yaml), ElementsAre("prompt=fox"));
  EXPECT_THAT(message_of([&] { parse_records("a: [", BatchFormat::yaml); }, Code::bad_file), HasSubstr("not YAML"));
  EXPECT_THAT(message_of([&] { parse_records("items: []\nitem: []\n", BatchFormat::yaml); }, Code::bad_file),
              HasSubstr("\"item\" beside \"items\""));
}

TEST(BatchYaml, AliasesCannotMultiplyWithoutEnd) {
  std::string bomb = "defaults: {negative: &a [" + std::string("x") + "]}\nitems:\n  - &b {prompt: [";
  for (int i = 0; i < 1000; i++) bomb += "x, ";
  bomb += "x]}\n";
  for (int i = 0; i < 2000; i++) bomb += "  - *b\n";
  EXPECT_THAT(message_of([&] { parse_records(bomb, BatchFormat::yaml); }, Code::bad_file),
              HasSubstr("once its aliases are written out"));
}

TEST(BatchAxes, TheLastIsTheFastest) {
  const Record record = parse_records("fox --seed 1..3..2 --sampler ddim --sampler euler\n", BatchFormat::text).at(0);
  EXPECT_EQ(combinations(record), 4u);
  std::vector<std::string> all;
  for (const Combination& c : expand(record, 4)) all.push_back(c[1].second + " " + c[2].second);
  EXPECT_THAT(all, ElementsAre("1 ddim", "1 euler", "3 ddim", "3 euler"));
}

TEST(BatchAxes, AreCountedBeforeTheyAreMade) {
  const Record huge = parse_records("fox --seed 1..9000000000000 --steps 1..9000000000000\n", BatchFormat::text).at(0);
  EXPECT_EQ(combinations(huge), UINT64_MAX);
  EXPECT_THAT(message_of([&] { expand(huge, 1000); }, Code::usage),
              HasSubstr("line 1 makes more than 10^19 pictures; a batch may have 1000"));
  const Record words = parse_records("--prompt 1..8 --negative 1..8", BatchFormat::text).at(0);
  EXPECT_EQ(combinations(words), 1u) << "words are never ranges";
}

TEST(BatchFormats, BySuffix) {
  EXPECT_EQ(batch_format("a.CSV"), BatchFormat::csv);
  EXPECT_EQ(batch_format("a.ndjson"), BatchFormat::jsonl);
  EXPECT_EQ(batch_format("a.yml"), BatchFormat::yaml);
  EXPECT_EQ(batch_format("prompts"), BatchFormat::text);
}

}  // namespace
}  // namespace cudream
