#include "runtime/prompt.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "core/error.h"
#include "tests/runtime/golden.h"

namespace cudream {
namespace {

TEST(Prompt, ParsesWeightsAsTheRulesSay) {
  const auto golden = golden_json("prompt_weights.json");
  ASSERT_EQ(golden["attention"].size(), 70u);
  for (const auto& entry : golden["attention"]) {
    const auto segments = parse_prompt(entry["prompt"].get<std::string>());
    ASSERT_EQ(segments.size(), entry["parsed"].size()) << entry["prompt"];
    for (size_t i = 0; i < segments.size(); i++) {
      const auto& want = entry["parsed"][i];
      EXPECT_EQ(segments[i].text, want[0].get<std::string>()) << entry["prompt"];
      EXPECT_EQ(segments[i].is_break, want[1].get<double>() == -1 && want[0] == "BREAK") << entry["prompt"];
      const double weight = segments[i].is_break ? -1 : segments[i].weight;
      EXPECT_NEAR(weight, want[1].get<double>(), 1e-6) << entry["prompt"];
    }
  }
}

TEST(Prompt, ParsesCompositions) {
  const auto golden = golden_json("prompt_weights.json");
  ASSERT_EQ(golden["composition"].size(), 14u);
  for (const auto& entry : golden["composition"]) {
    const auto parsed = parse_composition(entry["prompt"].get<std::string>());
    ASSERT_EQ(parsed.size(), entry["parsed"].size()) << entry["prompt"];
    for (size_t i = 0; i < parsed.size(); i++) {
      EXPECT_EQ(parsed[i].first, entry["parsed"][i][0].get<std::string>()) << entry["prompt"];
      EXPECT_NEAR(parsed[i].second, entry["parsed"][i][1].get<double>(), 1e-6) << entry["prompt"];
    }
  }
}

TEST(Prompt, WeightsHiddenStatesAndKeepsTheirMean) {
  const Tokenizer tokenizer;
  const SafetensorsFile file(data_path("weighted_conditioning.safetensors"));
  const auto floats = [&](const std::string& name) { return file.floats(file.at(name)); };
  const auto golden = golden_json("prompt_weights.json")["conditioning"];
  ASSERT_EQ(golden.size(), 5u);
  for (size_t n = 0; n < golden.size(); n++) {
    const auto found = chunks(tokenizer, parse_prompt(golden[n]["prompt"].get<std::string>()), Tokenizer::kEnd);
    ASSERT_EQ(found.size(), golden[n]["chunks"].get<size_t>());
    for (size_t i = 0; i < found.size(); i++) {
      const auto name = fmt::format("{}/{}/", n, i);
      const std::vector<float> ids(found[i].ids.begin(), found[i].ids.end());
      EXPECT_EQ(ids, floats(name + "ids")) << name;
      EXPECT_LT(largest_difference(found[i].weights, floats(name + "weights")), 1e-6) << name;
      auto hidden = floats(name + "hidden");
      apply_weights(hidden, found[i].weights);
      EXPECT_LT(relative_l2(hidden, floats(name + "weighted")), 1e-5) << name;
    }
  }
}

TEST(Prompt, AWordBeyondTheSeventyFifthOpensAChunk) {
  const Tokenizer tokenizer;
  std::string text;
  for (int i = 0; i < 75; i++) text += "word ";
  auto found = chunks(tokenizer, parse_prompt(text), 0);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].words, 75);
  EXPECT_EQ(found[0].ids[76], Tokenizer::kEnd);

  found = chunks(tokenizer, parse_prompt(text + "cat"), 0);
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].ids[76], Tokenizer::kEnd);
  EXPECT_EQ(found[1].words, 1);
  EXPECT_EQ(found[1].ids[2], Tokenizer::kEnd);
  EXPECT_EQ(found[1].ids[3], 0);  // the padding of this encoder
}

TEST(Prompt, BreakClosesAChunkEvenAnEmptyOne) {
  const Tokenizer tokenizer;
  const auto count = [&](std::string_view text) { return chunks(tokenizer, parse_prompt(text), 0).size(); };
  EXPECT_EQ(count(""), 1u);
  EXPECT_EQ(count("a"), 1u);
  EXPECT_EQ(count("a BREAK"), 1u);
  EXPECT_EQ(count("a BREAK b"), 2u);
  EXPECT_EQ(count("BREAK a"), 2u);
  EXPECT_EQ(count("a BREAK BREAK b"), 3u);
  EXPECT_EQ(count("a (b BREAK c:1.2)"), 2u);
  EXPECT_EQ(count("BREAKFAST"), 1u);
}

TEST(Prompt, AWeightBeyondAllNumbersIsRefusedInPlainWords) {
  const Tokenizer tokenizer;
  const std::string deep(10000, '(');
  try {
    chunks(tokenizer, parse_prompt(deep + "cat"), 0);
    FAIL() << "not refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::usage);
    EXPECT_THAT(error.what(), testing::HasSubstr("use weights near 1"));
  }
  EXPECT_EQ(parse_prompt("(cat:" + std::string(400, '9') + ")").front().weight, 1.1);  // no number, so plain text
}

TEST(Prompt, IsQuickOnDeepNesting) {
  std::string text;
  for (int i = 0; i < 200000; i++) text += "[a";
  for (int i = 0; i < 200000; i++) text += "b]";
  EXPECT_GT(parse_prompt(text).size(), 100u);  // multiplying every piece again at each bracket would run for minutes
}

TEST(Prompt, AMeanOfZeroLeavesTheRowsJustMultiplied) {
  std::vector<float> hidden{1, -1, 2, -2};
  const std::vector<float> weights{2, 3};
  apply_weights(hidden, weights);
  EXPECT_EQ(hidden, (std::vector<float>{2, -2, 6, -6}));
}

}  // namespace
}  // namespace cudream
