// Every option of every command is in the man page and in the completions, and these are what their readers accept.
#include "cli/reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "tests/cli/program.h"

namespace cudream {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsSupersetOf;

class Reference : public testing::Test {
 protected:
  Reference() { describe_program(app_, chosen_); }
  // Calls check(command, option) for each option that has a long name.
  template <typename Check>
  void each_option(Check check) {
    size_t count = 0;
    for (const CLI::App* command : app_.get_subcommands([](const CLI::App*) { return true; }))
      for (const CLI::Option* option : command->get_options([](const CLI::Option* o) { return !o->get_lnames().empty(); }))
        check(*command, *option), count++;
    EXPECT_GT(count, 100u);
  }
  // What bash offers for the last of `words`.
  std::vector<std::string> bash_offers(const std::string& words) const {
    folder_.write("complete.bash", completion(app_, Shell::bash));
    folder_.write("try.bash",
                  "compopt() { :; }; source complete.bash; COMP_WORDS=(" + words +
                      "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _cudream; printf '%s\\n' \"${COMPREPLY[@]}\" >out\n");
    EXPECT_EQ(std::system(("cd '" + folder_.path().string() + "' && bash try.bash").c_str()), 0);
    return CLI::detail::split(read_text(folder_.path() / "out", 1 << 20), '\n');
  }
  CLI::App app_;
  Command chosen_;
  TemporaryFolder folder_;
};

TEST_F(Reference, TheManPageHasEveryOption) {
  const std::string page = man_page(app_);
  each_option([&](const CLI::App& command, const CLI::Option& option) {
    const size_t from = page.find(".SS " + command.get_name() + "\n"), to = page.find("\n.SS ", from + 1);
    std::string name = "\\-\\-" + CLI::detail::find_and_replace(option.get_lnames().front(), "-", "\\-") + "\\fR";
    EXPECT_THAT(page.substr(from, to - from), HasSubstr(name)) << command.get_name();
  });
  EXPECT_THAT(page, HasSubstr("130  cancelled"));
}

TEST_F(Reference, TheManPageIsOne) {
  if (std::system("groff --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "groff is not installed";
  folder_.write("cudream.1", man_page(app_));
  const std::string place = folder_.path().string();
  EXPECT_EQ(std::system(("groff -man -ww -z '" + place + "/cudream.1' 2>'" + place + "/errors'").c_str()), 0);
  EXPECT_EQ(read_text(folder_.path() / "errors", 1 << 20), "");
}

TEST_F(Reference, CompletionsHaveEveryOption) {
  const std::string bash = completion(app_, Shell::bash), zsh = completion(app_, Shell::zsh),
                    fish = completion(app_, Shell::fish);
  each_option([&](const CLI::App& command, const CLI::Option& option) {
    const std::string& name = option.get_lnames().front();
    const size_t of_bash = bash.find("    " + command.get_name() + ") options="),
                 of_zsh = zsh.find("    " + command.get_name() + ")\n");
    EXPECT_THAT(bash.substr(of_bash, bash.find('\n', of_bash) - of_bash), HasSubstr("--" + name)) << command.get_name();
    EXPECT_THAT(zsh.substr(of_zsh, zsh.find(";;", of_zsh) - of_zsh), HasSubstr("'*--" + name + "[")) << command.get_name();
    const size_t of_fish = fish.find("'__fish_seen_subcommand_from " + command.get_name() + "'");
    ASSERT_NE(of_fish, std::string::npos);
    EXPECT_THAT(fish.substr(of_fish), HasSubstr(" -l " + name + " ")) << command.get_name();
  });
}

TEST_F(Reference, BashCompletes) {
  EXPECT_THAT(bash_offers("cudream ge"), ElementsAre("generate"));
  EXPECT_THAT(bash_offers("cudream generate --precision ''"), IsSupersetOf({"auto", "f32", "bf16", "f16"}));
  EXPECT_THAT(bash_offers("cudream generate --hires-s"), IsSupersetOf({"--hires-strength", "--hires-steps"}));
  EXPECT_THAT(bash_offers("cudream plan --no-such"), ElementsAre(""));
}

TEST(Help, ExplainsACommand) {
  const Program program;
  EXPECT_EQ(program.run("help plan").out, program.run("plan --help").out);
  EXPECT_EQ(program.run("help").out, program.run("--help").out);
  EXPECT_EQ(program.run("help nothing").status, 2);
  EXPECT_THAT(program.run("help --man").out, testing::StartsWith(".TH CUDREAM 1"));
  EXPECT_THAT(program.run("completion zsh").out, testing::StartsWith("#compdef cudream"));
}

}  // namespace
}  // namespace cudream
