// Names of pictures: patterns, what prompts may not do to them, and the search for a free number.
#include "cli/output_name.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <functional>

#include "core/error.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

NameFields fields_of(const std::string& prompt) {
  return {.index = 7,
          .seed = 42,
          .steps = 20,
          .width = 512,
          .height = 768,
          .prompt = prompt,
          .model = "demo v1",
          .sampler = "Euler a"};
}

void expect_error(const std::function<void()>& action, Code code, const std::string& part) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with \"" << part << '"';
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(part));
  }
}

class OutputNamesTest : public testing::Test {
 protected:
  OutputNamesTest() {
    std::string name = (fs::temp_directory_path() / "cudream-names-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~OutputNamesTest() override { fs::remove_all(folder_); }
  void touch(const std::string& name) const { std::ofstream(folder_ / name) << "x"; }

  fs::path folder_;
};

TEST(OutputName, FieldsAreFilledIn) {
  EXPECT_EQ(output_name("{index:05}-{seed}.png", fields_of("")), "00007-42.png");
  EXPECT_EQ(output_name("{prompt}_{model}_{sampler}_{steps}_{width}x{height}.jpg", fields_of("a red house")),
            "a_red_house_demo_v1_Euler_a_20_512x768.jpg");
  EXPECT_EQ(output_name("{prompt:5}-{index}.png", fields_of("abcdefgh")), "abcde-7.png");
  EXPECT_EQ(output_name("{{{seed}}}.png", fields_of("")), "{42}.png");
  EXPECT_EQ(output_name("plain name.png", fields_of("")), "plain name.png");
  EXPECT_EQ(output_name(".hidden.png", fields_of("")), ".hidden.png");
}

TEST(OutputName, WrongPatternsAreErrors) {
  for (const std::string pattern : {"{sed}.png", "{.png", "}.png", "{}.png", "{index:x}.png", "{index:0}.png", "{index:101}.png",
                                    "{index:}.png", "{prompt}{.png"})
    expect_error([&] { output_name(pattern, {}); }, Code::usage, "known fields are {index} {seed}");
  expect_error([] { output_name(std::string(200, 'x') + "{seed}.png", {}); }, Code::usage, "more than 200 bytes");
}

TEST(OutputName, PromptsCannotLeaveTheFolder) {
  const std::string prompts[] = {"../../etc/passwd",
                                 "/abs/olute",
                                 "..",
                                 ".",
                                 "a\\b",
                                 "C:\\x",
                                 "-rf",
                                 ".hidden",
                                 std::string("nul\0inside", 10),
                                 "~/x",
                                 "a\nb\x1b[31m",
                                 "\xff\xfe",
                                 "x\u202egnp.exe",
                                 "",
                                 "   ",
                                 "tab\there",
                                 "*?<>|\""};
  for (const std::string& prompt : prompts) {
    for (const std::string pattern : {"{prompt}.png", "{prompt}{index}.png", "x-{prompt}"}) {
      const std::string name = output_name(pattern, fields_of(prompt));
      EXPECT_EQ(fs::path(name).filename(), name);
      EXPECT_FALSE(name == "." || name == ".." || name.empty());
      EXPECT_TRUE(name[0] != '.' && name[0] != '-') << name;
      EXPECT_EQ(name.find_first_of("/\\:*?\"<>| \t\n\r\x1b\xff"), std::string::npos) << name;
      EXPECT_EQ(name.find("\u202e"), std::string::npos);
      EXPECT_EQ(name.find('\0'), std::string::npos);
    }
  }
  EXPECT_EQ(output_name("{prompt}.png", fields_of("../../x")), "_.._.._x.png");
  EXPECT_EQ(output_name("{prompt}.png", fields_of("")), "_.png");
}

TEST(OutputName, DeviceNamesOfWindowsAreAvoided) {
  for (const std::string prompt : {"con", "CON", "nul", "Aux", "prn", "com1", "LPT9", "con.tar"})
    EXPECT_EQ(output_name("{prompt}.png", fields_of(prompt)), "_" + prompt + ".png");
  for (const std::string prompt : {"console", "com", "com0", "lpt10", "a.con"})
    EXPECT_EQ(output_name("{prompt}.png", fields_of(prompt)), prompt + ".png");
}

TEST(OutputName, LongTextsAreCutAtACharacterAndNumbersKept) {
  std::string prompt;
  while (prompt.size() < 10000) prompt += "\u5bb6";
  const std::string one = output_name("{prompt}-{index:05}.png", fields_of(prompt));
  EXPECT_EQ(one.size(), 99 + std::string("-00007.png").size());
  EXPECT_TRUE(one.ends_with("\u5bb6-00007.png")) << one;
  const std::string two = output_name("{prompt:100}{prompt:100}{prompt}-{index:05}.png", fields_of(prompt));
  EXPECT_LE(two.size(), 200u);
  EXPECT_GE(two.size(), 190u);
  EXPECT_TRUE(two.ends_with("\u5bb6-00007.png")) << two;
}

TEST_F(OutputNamesTest, AFolderCountsOn) {
  OutputNames empty(folder_, true, Exists::refuse);
  EXPECT_EQ(empty.next(fields_of("")), folder_ / "00001-42.png");
  EXPECT_EQ(empty.next(fields_of("")), folder_ / "00002-42.png");
  for (const auto* name :
       {"00011-1.png", "00003-9.png", "2024.png", "notes.txt", "00099", "99999999999999999999999-1.png", "x00500-1.png"})
    touch(name);
  EXPECT_EQ(OutputNames(folder_, true, Exists::refuse).next(fields_of("")), folder_ / "00100-42.png");
  EXPECT_EQ(OutputNames(folder_, true, Exists::replace).next(fields_of("")), folder_ / "00001-42.png");
}

TEST_F(OutputNamesTest, EverySeriesCountsByItself) {
  touch("cat-4.png");
  touch("dog-9.png");
  touch("-3.png");
  OutputNames names(folder_ / "{prompt}-{index}.png", true, Exists::refuse);
  EXPECT_EQ(names.next(fields_of("cat")), folder_ / "cat-5.png");
  EXPECT_EQ(names.next(fields_of("dog")), folder_ / "dog-10.png");
  EXPECT_EQ(names.next(fields_of("cat")), folder_ / "cat-6.png");
  EXPECT_EQ(names.next(fields_of("owl")), folder_ / "owl-1.png");
}

TEST_F(OutputNamesTest, SeveralPicturesGetNumbers) {
  OutputNames several(folder_ / "a.png", true, Exists::refuse);
  EXPECT_EQ(several.next(fields_of("")), folder_ / "a-1.png");
  EXPECT_EQ(several.next(fields_of("")), folder_ / "a-2.png");
  EXPECT_EQ(OutputNames(folder_ / "a.png", false, Exists::refuse).next(fields_of("")), folder_ / "a.png");
  EXPECT_EQ(OutputNames(folder_ / "{seed}.png", true, Exists::refuse).next(fields_of("")), folder_ / "42.png");
}

TEST_F(OutputNamesTest, MistakesShowAtOnce) {
  touch("a.png");
  expect_error([&] { OutputNames(folder_ / "a.png", false, Exists::refuse); }, Code::io, "exists already");
  EXPECT_EQ(OutputNames(folder_ / "a.png", false, Exists::replace).next({}), folder_ / "a.png");
  expect_error([&] { OutputNames(folder_ / "a.gif", false, Exists::refuse); }, Code::usage, "use .png, .jpg, .jpeg or .webp");
  expect_error([&] { OutputNames(folder_ / "{prompt}", false, Exists::refuse); }, Code::usage, "use .png, .jpg, .jpeg or .webp");
  expect_error([&] { OutputNames(folder_ / "{size}.png", false, Exists::refuse); }, Code::usage, "unknown field \"size\"");
  expect_error([&] { OutputNames(folder_ / "none" / "a.png", false, Exists::refuse); }, Code::not_found, "does not exist");
  expect_error([&] { OutputNames(folder_ / "a.png" / "", false, Exists::refuse); }, Code::io, "a.png");
}

TEST_F(OutputNamesTest, AFolderIsMadeWhenTheNameEndsWithASlash) {
  EXPECT_EQ(OutputNames(folder_ / "new" / "deep" / "", false, Exists::refuse).next(fields_of("")),
            folder_ / "new" / "deep" / "00001-42.png");
  EXPECT_TRUE(fs::is_directory(folder_ / "new" / "deep"));
}

}  // namespace
}  // namespace cudream
