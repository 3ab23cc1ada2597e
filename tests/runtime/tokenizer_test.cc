#include "runtime/tokenizer.h"

#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>

#include "tests/runtime/golden.h"

namespace cudream {
namespace {

TEST(Tokenizer, GivesTheReferencesIds) {
  const Tokenizer tokenizer;
  const auto golden = golden_json("tokenizer.json");
  ASSERT_EQ(golden["cases"].size(), 178u);
  for (const auto& entry : golden["cases"]) {
    std::vector<int> ids = tokenizer.encode(entry["text"].get<std::string>());
    ids.insert(ids.begin(), Tokenizer::kStart);
    ids.push_back(Tokenizer::kEnd);
    EXPECT_EQ(ids, entry["ids"].get<std::vector<int>>()) << entry["text"];
  }
}

TEST(Tokenizer, HasNoTwoTokensOfOneText) {
  // The vocabulary is read by the hash of each token's text; were two alike, the ids of one would be lost.
  std::string text = read_text(std::filesystem::path(CUDREAM_SOURCE_DIR) / "runtime/vocabulary/clip_merges.txt", 1 << 20);
  std::set<uint64_t> hashes;
  size_t tokens = 0;
  for (size_t at = text.find('\n') + 1; at < text.size(); tokens++) {
    const size_t end = text.find('\n', at);
    uint64_t hash = 0xCBF29CE484222325u;
    for (; at < end; at++) {
      if (text[at] != ' ') hash = (hash ^ static_cast<uint8_t>(text[at])) * 0x100000001B3u;
    }
    hashes.insert(hash);
    at = end + 1;
  }
  EXPECT_EQ(tokens, 48894u);
  EXPECT_EQ(hashes.size(), tokens);
}

TEST(Tokenizer, AcceptsAnyBytes) {
  const Tokenizer tokenizer;
  std::mt19937 random(1);
  for (int round = 0; round < 300; round++) {
    std::string text(random() % 60, '\0');
    for (char& c : text) c = static_cast<char>(random());
    for (const int id : tokenizer.encode(text)) {
      ASSERT_GE(id, 0);
      ASSERT_LT(id, Tokenizer::kVocabulary);
    }
  }
  EXPECT_EQ(tokenizer.encode("\xff"), tokenizer.encode("\xef\xbf\xbd"));
  EXPECT_EQ(tokenizer.encode("a\xc3"), tokenizer.encode("a\xef\xbf\xbd"));
}

TEST(Tokenizer, IsQuickOnOneVeryLongWord) {
  const Tokenizer tokenizer;
  std::mt19937 random(2);
  std::string word(1 << 18, 'a');
  for (char& c : word) c = static_cast<char>('a' + random() % 26);
  EXPECT_GT(tokenizer.encode(word).size(), size_t{1} << 15);  // a quadratic merge would run for minutes
}

}  // namespace
}  // namespace cudream
