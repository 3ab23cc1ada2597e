// The journal: what it remembers, cut at any byte, damaged, locked, on a full disk.
#include "runtime/batch/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>

#include "core/file.h"
#include "tests/loader/errors.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

using testing::HasSubstr;
using State = JournalEntry::State;

void write_three(const std::filesystem::path& file) {
  Journal journal(file);
  journal.plan("a", 1, "a.png");
  journal.done("a", 100, "abc", 0.5);
  journal.plan("b", 2, "b.png");
  journal.failed("b", "no such picture: \xff");
  journal.plan("c", 18446744073709551615u, "c.png");
}

TEST(BatchJournal, RemembersWhatWasDecided) {
  const TemporaryFolder folder;
  write_three(folder.path() / "j");
  const Journal journal(folder.path() / "j");
  ASSERT_TRUE(journal.find("a").has_value());
  EXPECT_EQ(journal.find("a")->state, State::done);
  EXPECT_EQ(journal.find("a")->bytes, 100);
  EXPECT_EQ(journal.find("a")->sha256, "abc");
  EXPECT_EQ(journal.find("b")->state, State::failed);
  EXPECT_EQ(journal.find("b")->reason, "no such picture: \xef\xbf\xbd");
  EXPECT_EQ(journal.find("c")->state, State::planned);
  EXPECT_EQ(journal.find("c")->seed, 18446744073709551615u);
  EXPECT_FALSE(journal.find("d").has_value());
  EXPECT_TRUE(journal.has_planned("c.png"));
}

// A crash may leave any beginning of the last line; what was noted before it stays, and the journal can be written to.
TEST(BatchJournal, CutAtAnyByte) {
  const TemporaryFolder folder;
  write_three(folder.path() / "whole");
  const std::string whole = read_text(folder.path() / "whole", 1 << 20);
  for (size_t cut = 0; cut <= whole.size(); cut++) {
    const auto file = folder.write("cut", whole.substr(0, cut));
    const size_t lines = static_cast<size_t>(std::count(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(cut), '\n'));
    Journal(file).plan("new", 7, "new.png");
    const Journal again(file);
    ASSERT_TRUE(again.find("new").has_value()) << cut;
    EXPECT_EQ(again.find("a").has_value(), lines >= 2) << cut;
    EXPECT_EQ(again.find("a").has_value() && again.find("a")->state == State::done, lines >= 3) << cut;
    EXPECT_EQ(again.find("c").has_value(), lines >= 6) << cut;
  }
}

TEST(BatchJournal, DamageInsideIsNamed) {
  const TemporaryFolder folder;
  const auto damaged = [&](const std::string& text) { return folder.write("j", "{\"cudream_batch\":1}\n" + text + "\n"); };
  EXPECT_THAT(message_of([&] { Journal(damaged("nonsense")); }, Code::bad_file),
              HasSubstr("j line 2: not a JSON object. Remove the line"));
  EXPECT_THAT(message_of([&] { Journal(damaged(R"({"key":"a","seed":"x","file":"f"})")); }, Code::bad_file),
              HasSubstr("line 2: "));
  EXPECT_THAT(message_of([&] { Journal(damaged(R"({"key":"a","bytes":1,"sha256":"","seconds":0})")); }, Code::bad_file),
              HasSubstr("never planned"));
  EXPECT_THAT(message_of([&] { Journal(folder.write("j", "{\"other\":1}\n")); }, Code::unsupported), HasSubstr("no journal"));
}

TEST(BatchJournal, OneAtATime) {
  const TemporaryFolder folder;
  const Journal first(folder.path() / "j");
  EXPECT_THAT(message_of([&] { Journal(folder.path() / "j"); }, Code::io), HasSubstr("another batch is running"));
  EXPECT_THAT(message_of([&] { Journal(folder.path() / "missing" / "j"); }, Code::io),
              HasSubstr("cannot open the batch's journal"));
}

TEST(BatchJournal, AFullDiskLeavesNoHalfLine) {
  const TemporaryFolder folder;
  Journal journal(folder.path() / "j");
  journal.plan("a", 1, "a.png");
  const std::string before = read_text(folder.path() / "j", 1 << 20);
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{}, full{};
  getrlimit(RLIMIT_FSIZE, &old);
  full = {before.size() + 10, old.rlim_max};
  setrlimit(RLIMIT_FSIZE, &full);
  EXPECT_THAT(message_of([&] { journal.done("a", 1, "x", 1); }, Code::io), HasSubstr("The same command goes on from here"));
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_EQ(read_text(folder.path() / "j", 1 << 20), before);
  EXPECT_EQ(journal.find("a")->state, State::planned);
  journal.done("a", 1, "x", 1);
  EXPECT_EQ(journal.find("a")->state, State::done);
}

}  // namespace
}  // namespace cudream
