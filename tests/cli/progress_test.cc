// What a person or a program sees of a run, in each style, and what happens when nobody reads any more.
#include "cli/progress.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"

namespace cudream {
namespace {

using testing::HasSubstr;

// A Progress that writes into a pipe, under a clock that the test moves.
class ProgressTest : public testing::Test {
 protected:
  ProgressTest() {
    std::signal(SIGPIPE, SIG_IGN);
    EXPECT_EQ(::pipe(pipe_.data()), 0);
    ::fcntl(pipe_[0], F_SETFL, O_NONBLOCK);
  }
  ~ProgressTest() override {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  ProgressSink sink(ProgressStyle style, int columns = 80, bool color = false) {
    return {.style = style, .fd = pipe_[1], .columns = columns, .color = color, .clock = [this] { return now_; }};
  }
  std::string shown() {
    std::string text;
    std::array<char, 4096> buffer{};
    for (ssize_t n = 0; (n = ::read(pipe_[0], buffer.data(), buffer.size())) > 0;)
      text.append(buffer.data(), static_cast<size_t>(n));
    return text;
  }
  void close_reader() { ::close(std::exchange(pipe_[0], ::open("/dev/null", O_RDONLY))); }

  std::array<int, 2> pipe_{};
  double now_ = 100;
};

TEST_F(ProgressTest, APictureTakesThePlaceOfTheOneBefore) {
  const auto drawn = [](const std::string& up, const std::string& picture) {
    return up + "\x1b[3A\x1b" + "7" + picture + "\x1b" + "8\x1b[3B";
  };
  Progress progress(sink(ProgressStyle::bar, 24));
  progress.start("denoise", 4);
  shown();
  progress.show("PICTURE", 3);
  EXPECT_THAT(shown(), HasSubstr(drawn("\n\n\n", "PICTURE") + "\rdenoise"));
  progress.show("NEXT", 3);
  const std::string next = shown();
  EXPECT_THAT(next, HasSubstr(drawn("", "NEXT")));
  EXPECT_THAT(next, testing::Not(HasSubstr("\n")));
  progress.message(LogLevel::info, "a word between");
  progress.show("LAST", 3);
  EXPECT_THAT(shown(), HasSubstr(drawn("\n\n\n", "LAST")));
}

TEST_F(ProgressTest, TheBarIsRedrawnInPlace) {
  Progress progress(sink(ProgressStyle::bar, 60));
  progress.start("denoise", 20);
  EXPECT_EQ(shown(), "\rdenoise  [...................] 0/20");
  now_ += 2;
  progress.step(4);
  EXPECT_EQ(shown(), "\rdenoise  [###................] 4/20  2.00 it/s  8 s left");
  now_ += 0.01;
  progress.step(5);  // too soon
  EXPECT_EQ(shown(), "");
  now_ += 8;
  progress.done();
  const std::string end = shown();
  EXPECT_TRUE(end.ends_with("\rdenoise  10.01 s  (5 steps, 2.00 s/it)\n")) << end;
}

TEST_F(ProgressTest, TheLastStepIsAlwaysDrawn) {
  Progress progress(sink(ProgressStyle::bar));
  progress.start("denoise", 2);
  shown();
  now_ += 0.001;
  progress.step(2);
  EXPECT_THAT(shown(), HasSubstr("2/2"));
}

TEST_F(ProgressTest, NoLineIsWiderThanTheTerminal) {
  for (int columns = 0; columns < 100; ++columns) {
    Progress progress(sink(ProgressStyle::bar, columns));
    progress.start("denoise", 20);
    now_ += 1;
    progress.step(7);
    std::istringstream lines(shown());
    for (std::string line; std::getline(lines, line, '\r');) EXPECT_LE(line.size(), std::max(columns - 1, 0)) << columns;
  }
}

TEST_F(ProgressTest, ColourOnlyWhenAsked) {
  Progress(sink(ProgressStyle::bar, 80, true)).start("denoise", 20);
  EXPECT_THAT(shown(), HasSubstr("\x1b[36m"));
  Progress(sink(ProgressStyle::bar, 80, false)).start("denoise", 20);
  EXPECT_EQ(shown().find('\x1b'), std::string::npos);
}

TEST_F(ProgressTest, PipedLinesComeNowAndThen) {
  Progress progress(sink(ProgressStyle::lines));
  progress.start("denoise", 10);
  for (int i = 1; i <= 10; ++i) {
    now_ += 0.75;
    progress.step(i);
  }
  progress.done();
  EXPECT_EQ(shown(),
            "denoise  3/10  1.33 it/s  5 s left\n"
            "denoise  6/10  1.33 it/s  3 s left\n"
            "denoise  9/10  1.33 it/s  1 s left\n"
            "denoise  7.50 s  (10 steps, 1.33 it/s)\n");
}

TEST_F(ProgressTest, PercentAndStagesWithoutSteps) {
  Progress progress(sink(ProgressStyle::lines));
  progress.start("load", 200, "%");
  now_ += 3;
  progress.step(50);
  progress.done();
  progress.start("text", 0);
  now_ += 0.5;
  progress.done();
  progress.done();  // no stage: nothing
  EXPECT_EQ(shown(), "load     25 %  9 s left\nload     3.00 s\ntext     0.50 s\n");
}

TEST_F(ProgressTest, LongTimesAreReadable) {
  Progress progress(sink(ProgressStyle::lines));
  progress.start("denoise", 100);
  now_ += 70;
  progress.step(50);
  now_ += 7200;
  progress.step(51);
  EXPECT_EQ(shown(), "denoise  50/100  1.40 s/it  1 min 10 s left\ndenoise  51/100  142.55 s/it  1 h 56 min left\n");
}

TEST_F(ProgressTest, JsonEventsAreOneObjectALine) {
  Progress progress(sink(ProgressStyle::json));
  progress.start("denoise", 4);
  now_ += 1;
  progress.step(2);
  progress.done();
  progress.message(LogLevel::warn, "a \"prompt\"\nwith \x1b[31m \xff \u00e9");
  progress.picture("out/a.png", 18446744073709551615u, 1.25);
  std::istringstream lines(shown());
  std::vector<nlohmann::json> events;
  for (std::string line; std::getline(lines, line);) {
    EXPECT_TRUE(std::all_of(line.begin(), line.end(), [](char c) { return c >= ' ' && c < 0x7f; })) << line;
    events.push_back(nlohmann::json::parse(line));
  }
  ASSERT_EQ(events.size(), 5u);
  EXPECT_EQ(events[0], nlohmann::json::parse(R"({"event": "start", "stage": "denoise", "total": 4})"));
  EXPECT_EQ(events[1], nlohmann::json::parse(
                           R"({"event": "step", "stage": "denoise", "step": 2, "total": 4, "seconds": 1.0, "left": 1.0})"));
  EXPECT_EQ(events[2], nlohmann::json::parse(R"({"event": "done", "stage": "denoise", "steps": 2, "seconds": 1.0})"));
  EXPECT_EQ(events[3]["level"], "warning");
  EXPECT_EQ(events[3]["text"], "a \"prompt\"\nwith \x1b[31m \ufffd \u00e9");
  EXPECT_EQ(events[4]["seed"], 18446744073709551615u);
  EXPECT_EQ(events[4]["path"], "out/a.png");
}

TEST_F(ProgressTest, MessagesStandAboveTheBarAndArePrintable) {
  Progress progress(sink(ProgressStyle::bar));
  progress.start("denoise", 20);
  const std::string bar = shown();
  progress.message(LogLevel::warn, "prompt \x1b[31mred\r\nsecond");
  EXPECT_EQ(shown(), "\r" + std::string(bar.size() - 1, ' ') + "\rwarning: prompt \\x1b[31mred\\x0d\nsecond\n" + bar);
  progress.done();
  shown();
  progress.message(LogLevel::info, "after");
  EXPECT_EQ(shown(), "after\n");
  progress.picture("a\x1b.png", 3, 2);
  EXPECT_EQ(shown(), "wrote a\\x1b.png (seed 3, 2.00 s)\n");
}

TEST_F(ProgressTest, QuietKeepsWarnings) {
  Progress progress(sink(ProgressStyle::quiet));
  progress.start("denoise", 20);
  progress.step(20);
  progress.done();
  progress.message(LogLevel::info, "no");
  progress.picture("a.png", 3, 2);
  progress.message(LogLevel::error, "yes");
  EXPECT_EQ(shown(), "error: yes\n");
}

TEST_F(ProgressTest, AClosedPipeIsAnErrorForEventsAndSilenceForTheBar) {
  close_reader();
  Progress bar(sink(ProgressStyle::bar));
  bar.start("denoise", 2);
  bar.step(2);
  bar.done();
  Progress events(sink(ProgressStyle::json));
  try {
    events.start("denoise", 2);
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::io);
    EXPECT_THAT(error.what(), HasSubstr("cannot write to standard output: Broken pipe"));
  }
  events.message(LogLevel::error, "the report of that error must not fail again");
}

TEST_F(ProgressTest, AFullDiskIsAnErrorForEvents) {
  ProgressSink full = sink(ProgressStyle::json);
  full.fd = ::open("/dev/full", O_WRONLY);
  Progress events(full);
  EXPECT_THROW(events.start("denoise", 2), Error);
  ::close(full.fd);
}

TEST(ProgressSink, FollowsTheProcess) {
  // Under CTest standard error is no terminal.
  EXPECT_EQ(ProgressSink::of_process(true, false).style, ProgressStyle::json);
  EXPECT_EQ(ProgressSink::of_process(true, false).fd, 1);
  EXPECT_EQ(ProgressSink::of_process(false, true).style, ProgressStyle::quiet);
  EXPECT_EQ(ProgressSink::of_process(false, false).fd, 2);
}

// Standard error as a terminal of a given kind: what becomes of style and colour.
TEST(ProgressSink, TerminalsAndNoColor) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_GE(master, 0);
  ASSERT_EQ(::grantpt(master) | ::unlockpt(master), 0);
  std::array<char, 64> name{};
  ASSERT_EQ(::ptsname_r(master, name.data(), name.size()), 0);
  const int terminal = ::open(name.data(), O_RDWR | O_NOCTTY), saved = ::dup(2);
  ::dup2(terminal, 2);
  ::setenv("TERM", "xterm", 1);
  ::unsetenv("NO_COLOR");
  const ProgressSink plain = ProgressSink::of_process(false, false);
  ::setenv("NO_COLOR", "1", 1);
  const ProgressSink colorless = ProgressSink::of_process(false, false);
  ::setenv("TERM", "dumb", 1);
  const ProgressSink dumb = ProgressSink::of_process(false, false);
  ::dup2(saved, 2);
  for (const int fd : {master, terminal, saved}) ::close(fd);
  EXPECT_EQ(plain.style, ProgressStyle::bar);
  EXPECT_TRUE(plain.color);
  EXPECT_EQ(colorless.style, ProgressStyle::bar);
  EXPECT_FALSE(colorless.color);
  EXPECT_EQ(dumb.style, ProgressStyle::lines);
}

}  // namespace
}  // namespace cudream
