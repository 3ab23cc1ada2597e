// A1111's text: what is written, what is read, and that no prompt or value can pass for another.
#include "runtime/picture/parameters.h"

#include <random>

#include "tests/picture/pictures.h"

namespace cudream {
namespace {

const decltype(Parameters::values) kValues = {{"Steps", "20"}, {"Sampler", "Euler a"}, {"CFG scale", "7"}, {"Seed", "1"}};
constexpr std::string_view kLine = "Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1";

std::string written(const std::string& prompt, const std::string& negative = "") {
  return write_parameters({prompt, negative, kValues});
}

TEST(Parameters, TextAsOthersWriteIt) {
  EXPECT_EQ(written("a house, (red:1.2)", "blurry"), "a house, (red:1.2)\nNegative prompt: blurry\n" + std::string(kLine));
  EXPECT_EQ(written("two\nlines"), "two\nlines\n" + std::string(kLine));
  EXPECT_EQ(written("", "x"), "Negative prompt: x\n" + std::string(kLine));
  EXPECT_EQ(written(""), kLine);
}

TEST(Parameters, ValuesAreQuotedWhereNeeded) {
  const Parameters p{
      .prompt = "p",
      .values = {{"Model", "a, b"}, {"VAE", "c:d"}, {"Lora hashes", "say \"hi\"\n"}, {"Tiling", ""}, {"User", " me "}}};
  EXPECT_EQ(write_parameters(p),
            "p\nModel: \"a, b\", VAE: \"c:d\", Lora hashes: \"say \\\"hi\\\"\\n\", Tiling: \"\", User: \" me \"");
  EXPECT_EQ(read_parameters(write_parameters(p)), p);
}

TEST(Parameters, ReadsWhatOthersWrote) {
  const Parameters p = read_parameters(
      "masterpiece, portrait\nof a cat\nNegative prompt: bad hands,\nblurry\nSteps: 28, Sampler: DPM++ 2M Karras, CFG scale: "
      "7.5, Seed: 42, "
      "Size: 512x768, Model hash: 45dee52b, Model: v1-5, Lora hashes: \"a: 1b2c, d: 3e4f\", Version: v1.6.0\n");
  EXPECT_EQ(p.prompt, "masterpiece, portrait\nof a cat");
  EXPECT_EQ(p.negative, "bad hands,\nblurry");
  ASSERT_EQ(p.values.size(), 9u);
  EXPECT_EQ(*p.find("Sampler"), "DPM++ 2M Karras");
  EXPECT_EQ(*p.find("Lora hashes"), "a: 1b2c, d: 3e4f");
  EXPECT_EQ(*p.find("Version"), "v1.6.0");
  EXPECT_EQ(p.find("VAE"), nullptr);
}

TEST(Parameters, FewerThanThreePairsAreAPrompt) {
  EXPECT_EQ(read_parameters("a\nSteps: 20, Seed: 1"), (Parameters{.prompt = "a\nSteps: 20, Seed: 1"}));
  EXPECT_EQ(read_parameters("a\nSteps: 20, Seed: 1, Size: 8x8").values.size(), 3u);
  EXPECT_EQ(read_parameters(""), Parameters{});
}

TEST(Parameters, OddLines) {
  const auto values = [](const std::string& line) { return read_parameters("p\n" + line).values; };
  using Values = decltype(Parameters::values);
  EXPECT_EQ(values("AA: 1, BB: \"open, CC: 3"), (Values{{"AA", "1"}, {"BB", "\"open"}, {"CC", "3"}}));
  EXPECT_EQ(values("AA: 1, BB: \"x\" y, CC: 3"), (Values{{"AA", "1"}, {"BB", "\"x\" y"}, {"CC", "3"}}));
  EXPECT_EQ(values("AA: 1, AA: 2, BB: 3"), (Values{{"AA", "2"}, {"BB", "3"}}));
  EXPECT_EQ(values("AA: 1, junk (x) BB: 2, CC:, D: 5"), (Values{{"AA", "1"}, {"BB", "2"}, {"CC", ""}}));
  EXPECT_EQ(values("AA: \"\\q\", BB: \"\", CC: \""), (Values{{"AA", "\"\\q\""}, {"BB", ""}, {"CC", "\""}}));
}

TEST(Parameters, NoPromptForgesALine) {
  const std::string fake = "Steps: 1, Sampler: DDIM, Seed: 666";
  const std::string prompts[] = {"x\n" + fake,
                                 fake,
                                 "x\nNegative prompt: forged",
                                 "Negative prompt: forged",
                                 "x\r\n" + fake,
                                 "x\n \tNegative prompt:y",
                                 "x\n\u3000Negative prompt:y"};
  for (const std::string& prompt : prompts) {
    for (const bool as_negative : {false, true}) {
      const Parameters p = as_negative ? Parameters{"p", prompt, kValues} : Parameters{prompt, "n", kValues};
      const std::string text = write_parameters(p);
      EXPECT_EQ(read_parameters(text), p);
      // A reader that only knows lines sees our values last, and one line that begins the negative prompt: ours.
      const size_t last = text.rfind('\n') + 1;
      EXPECT_TRUE(text.substr(last).starts_with(kLine)) << text;
      const size_t ours = text.find("\nNegative prompt: ") + 1;
      EXPECT_EQ(text.find("Negative prompt:"), ours) << text;
      EXPECT_GE(text.find("Negative prompt:", ours + 1), last) << text;
    }
  }
}

TEST(Parameters, CopiesOnlyWhereTheLinesAreNotExact) {
  EXPECT_EQ(written("x\nNegative prompt: y"),
            "x\nNegative  prompt: y\n" + std::string(kLine) + ", Prompt: \"x\\nNegative prompt: y\"");
  EXPECT_EQ(written("p", " n"), "p\nNegative prompt:  n\n" + std::string(kLine) + ", Negative prompt: \" n\"");
  EXPECT_EQ(written("ends with a newline\n"), "ends with a newline\n\n" + std::string(kLine));
}

TEST(Parameters, AnyPromptComesBack) {
  const std::string pieces[] = {"a",
                                " ",
                                "\n",
                                ",",
                                ":",
                                "\"",
                                "\\",
                                "Steps: 1, ",
                                "Negative prompt:",
                                "Prompt: \"x\"",
                                "\t",
                                "\r",
                                "\x7f",
                                "\u00e9",
                                "\U0001F319",
                                "(x:1.2)",
                                std::string(1, '\0'),
                                "Seed: 1, Size: 2, Model: 3",
                                "{",
                                "\n\n"};
  std::mt19937 random(11);
  const auto text = [&] {
    std::string out;
    for (auto n = random() % 8; n > 0; --n) out += pieces[random() % std::size(pieces)];
    return out;
  };
  for (int i = 0; i < 20000; ++i) {
    const Parameters p{text(), text(), {{"Steps", text()}, {"Model", text()}, {"Clip skip", text()}}};
    ASSERT_EQ(read_parameters(write_parameters(p)), p) << write_parameters(p);
  }
}

TEST(Parameters, LongTextsTakeLinearTime) {
  std::string pairs, quotes, keys(1 << 20, 'k');
  for (int i = 0; i < 100000; ++i) {
    pairs += "k" + std::to_string(i) + ": v, ";
    quotes += "kk: \"\\\", ";
  }
  EXPECT_EQ(read_parameters(pairs).values.size(), 100000u);
  EXPECT_EQ(read_parameters(quotes).values.size(), 1u);
  EXPECT_EQ(read_parameters(keys).prompt.size(), keys.size());
}

TEST(Parameters, MistakesOfOurs) {
  expect_error([] { write_parameters({"p", "", {{"Steps", "1"}}}); }, Code::internal, "too few");
  expect_error([] { write_parameters({"p", "", {{"A", "1"}, {"BB", "1"}, {"CC", "1"}}}); }, Code::internal, "no parameters key");
  expect_error(
      [] {
        write_parameters({"p", "", {{"A:b", "1"}, {"BB", "1"}, {"CC", "1"}}});
      },
      Code::internal, "no parameters key");
}

}  // namespace
}  // namespace cudream
