// The program with good and bad input: what it writes, what it says, how it exits.
#include "tests/cli/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "loader/hash.h"
#include "runtime/picture/image.h"

namespace cudream {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(Generate, MakesAPictureThatCanBeMadeAgain) {
  const Program program;
  const Outcome made = program.run("generate 'a red house' " + kQuick + "-o a.png");
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_THAT(program.read("a.png"), StartsWith("\x89PNG"));
  const Outcome again = program.run("generate --from a.png -o b.png");
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(program.read("a.png"), program.read("b.png"));
  const Outcome other = program.run("generate --from a.png --seed 2 -o c.png");
  ASSERT_EQ(other.status, 0) << other.err;
  EXPECT_NE(program.read("a.png"), program.read("c.png"));
}

std::string demo_hash() {
  return short_hash(sha256_of_file(std::filesystem::path(CUDREAM_SOURCE_DIR) / "models/demo.safetensors"));
}

TEST(Generate, StoresWhatOtherToolsRead) {
  const Program program;
  ASSERT_EQ(program.run("generate 'a house' --negative 'clouds, rain' " + kQuick + "-o a.png").status, 0);
  const Outcome shown = program.run("inspect a.png");
  EXPECT_EQ(shown.status, 0);
  EXPECT_THAT(shown.out, StartsWith("a house\nNegative prompt: clouds, rain\nSteps: 2, Sampler: DPM++ 2M, "));
  EXPECT_THAT(shown.out, HasSubstr("CFG scale: 7, Seed: 1, Size: 64x64, Model hash: " + demo_hash() + ", Model: demo"));
}

TEST(Generate, APromptCannotForgeSettings) {
  const Program program;
  const std::string evil = "a\\nSteps: 99, Sampler: Evil, Seed: 7\\n\\033[31mred";
  ASSERT_EQ(program.run("generate \"$(printf '" + evil + "')\" " + kQuick + "-o a.png").status, 0);
  const Outcome shown = program.run("inspect a.png");
  EXPECT_THAT(shown.out, HasSubstr("Steps: 2, Sampler: DPM++ 2M"));
  EXPECT_EQ(shown.out.find('\033'), std::string::npos);
}

TEST(Generate, PicturesOfARunAreThoseMadeAlone) {
  const Program program;
  ASSERT_EQ(program.run("generate house " + kQuick + "--count 3 -o many/").status, 0);
  ASSERT_EQ(program.run("generate house " + kQuick + "--count 3 --batch 3 -o batch/").status, 0);
  ASSERT_EQ(program.run("generate house " + kQuick + "--seed 2 -o alone.png").status, 0);
  ASSERT_EQ(program.run("generate house " + kQuick + "--seed 2 --threads 1 -o one.png").status, 0);
  EXPECT_EQ(program.files_in("many"), 3u);
  EXPECT_EQ(program.read("many/00002-2.png"), program.read("alone.png"));
  EXPECT_EQ(program.read("batch/00002-2.png"), program.read("alone.png"));
  EXPECT_EQ(program.read("one.png"), program.read("alone.png"));
}

TEST(Generate, RandomSeedIsSaidAndStored) {
  const Program program;
  const Outcome made = program.run("generate house -m demo --steps 1 --width 64 --height 64 -o a.png");
  ASSERT_EQ(made.status, 0) << made.err;
  const size_t at = made.err.find("seed: ");
  ASSERT_NE(at, std::string::npos) << made.err;
  const std::string seed = made.err.substr(at + 6, made.err.find('\n', at) - at - 6);
  EXPECT_THAT(program.run("inspect a.png").out, HasSubstr("Seed: " + seed));
}

TEST(Generate, ImageToImageKeepsTheImage) {
  const Program program;
  ASSERT_EQ(program.run("generate house " + kQuick + "-o a.png").status, 0);
  const Outcome made = program.run("generate 'a house at night' " + kQuick + "--image a.png --strength 0.5 -o b.png");
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_THAT(program.run("inspect b.png").out, HasSubstr("Denoising strength: 0.5"));
  const Outcome other_size = program.run("generate x " + kQuick + "--width 128 --height 64 --image a.png -o c.jpg");
  EXPECT_EQ(other_size.status, 0) << other_size.err;
}

TEST(Generate, LongPromptsAreReadWithANotice) {
  const Program program;
  std::string words;
  for (int i = 0; i < 100; i++) words += "house ";
  const Outcome made = program.run("generate '" + words + "' " + kQuick + "-o a.png");
  EXPECT_EQ(made.status, 0);
  EXPECT_THAT(made.err, HasSubstr("100 tokens is read in 2 chunks of 75"));
}

TEST(Generate, PicturesSayThatAModelMadeThemUnlessToldNotTo) {
  const Program program;
  for (const char* suffix : {"png", "jpg", "webp"}) {
    const std::string said = std::string("said.") + suffix, bare = std::string("bare.") + suffix;
    ASSERT_EQ(program.run("generate 'a red house' " + kQuick + "-o " + said).status, 0);
    ASSERT_EQ(program.run("generate 'a red house' " + kQuick + "--no-metadata -o " + bare).status, 0);
    EXPECT_THAT(program.read(said), HasSubstr("trainedAlgorithmicMedia"));
    EXPECT_THAT(program.run("inspect " + said).out, StartsWith("a red house\nSteps: 2"));
    EXPECT_THAT(program.read(bare), Not(testing::AnyOf(HasSubstr("trained"), HasSubstr("red house"), HasSubstr("cudream"))));
    const Outcome again = program.run("generate --from " + said + " -o again." + suffix);
    ASSERT_EQ(again.status, 0) << again.err;
    EXPECT_EQ(program.read(said), program.read(std::string("again.") + suffix));
  }
}

TEST(Generate, MakesThePictureOfAnotherProgramAgain) {
  const Program program;
  ASSERT_EQ(program.run("generate 'a red house' " + kQuick + "--rng philox -o a.png").status, 0);
  Metadata theirs = read_metadata(program.path() / "a.png");
  theirs.job = "";
  write_image(program.path() / "theirs.png", read_image(program.path() / "a.png"), theirs, Exists::refuse);
  const Outcome again = program.run("generate --from theirs.png -o b.png");
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read_image(program.path() / "b.png"), read_image(program.path() / "a.png"));

  theirs.parameters.replace(theirs.parameters.find("Steps: "), 0, "Denoising strength: 0.5, Face restoration: CodeFormer, ");
  write_image(program.path() / "from.png", read_image(program.path() / "a.png"), theirs, Exists::refuse);
  const Outcome bare = program.run("generate --from from.png -o c.png");
  EXPECT_EQ(bare.status, 2);
  EXPECT_THAT(bare.err, testing::AllOf(HasSubstr("--image"), HasSubstr("Face restoration")));
  EXPECT_EQ(program.run("generate --from from.png --image a.png -o c.png").status, 0);
  EXPECT_EQ(program.run("generate --from from.png --image a.png --strict -o d.png").status, 10);
}

TEST(Generate, EtaIsThatOfDdimAndTcd) {
  const Program program;
  const auto made = [&](const std::string& options) {
    const Outcome o = program.run("generate house " + kQuick + "--no-metadata --overwrite -o a.png --sampler " + options);
    EXPECT_EQ(o.status, 0) << o.err;
    return program.read("a.png");
  };
  const std::string tcd = made("tcd"), ddim = made("ddim");
  EXPECT_EQ(made("tcd --eta 0.3"), tcd);
  EXPECT_NE(made("tcd --eta 0"), tcd);
  EXPECT_EQ(made("ddim --eta 0"), ddim);
  EXPECT_NE(made("ddim --eta 0.3"), ddim);
}

TEST(Plan, ForeseesEveryPass) {
  const Program program;
  const Outcome once = program.run("plan house " + kQuick), twice = program.run("plan house " + kQuick + "--hires 2");
  EXPECT_EQ(once.status, 0) << once.err;
  EXPECT_THAT(once.out, HasSubstr("unet [2,8,8,4]"));
  EXPECT_THAT(twice.out,
              testing::AllOf(HasSubstr("unet [2,8,8,4]"), HasSubstr("unet [2,16,16,4]"), HasSubstr("decode [1,128,128,3]")));
  ASSERT_EQ(program.run("generate house " + kQuick + "-o p.png").status, 0);
  EXPECT_THAT(program.run("plan house " + kQuick + "--image p.png").out, HasSubstr("encode [1,64,64,3]"));
  EXPECT_EQ(program.run("plan house " + kQuick + "--image none.png").status, 8);
  const Outcome refined = program.run("plan house " + kQuick + "--refiner demo --refiner-start 0.5 --preview 1");
  EXPECT_EQ(refined.status, 0) << refined.err;
  EXPECT_THAT(refined.out, testing::AllOf(HasSubstr("refiner: unet [2,8,8,4]"), HasSubstr("refiner: decode [1,64,64,3]")));
  const Outcome previewed = program.run("plan house " + kQuick + "--preview 1");
  EXPECT_THAT(previewed.out, HasSubstr("preview [1,8,8,4]"));
  EXPECT_THAT(once.out, testing::Not(HasSubstr("preview [1,8,8,4]")));
}

TEST(Generate, JsonEventsAreOneObjectALine) {
  const Program program;
  const Outcome made = program.run("generate house " + kQuick + "--json -o a.png");
  EXPECT_EQ(made.status, 0);
  std::istringstream lines(made.out);
  size_t count = 0;
  for (std::string line; std::getline(lines, line); count++) EXPECT_TRUE(line.front() == '{' && line.back() == '}') << line;
  EXPECT_GT(count, 3u);
}

struct Bad {
  const char* name;
  std::string arguments;
  int status;
  const char* message;
};

class BadInput : public testing::TestWithParam<Bad> {};

TEST_P(BadInput, IsOneClearLine) {
  const Program program;
  program.write("empty.png", "");
  program.write("text.png", "hello");
  program.write("old.png", "mine");
  program.write("models/pickle.safetensors", std::string("PK\x03\x04") + std::string(600, 'x'));
  program.write("models/page.safetensors", "<!DOCTYPE html><html>" + std::string(600, 'x'));
  program.write("models/pointer.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4265146304\n");
  const Outcome o = program.run(GetParam().arguments);
  EXPECT_EQ(o.status, GetParam().status) << o.err;
  EXPECT_THAT(o.err, HasSubstr("error: "));
  EXPECT_THAT(o.err, HasSubstr(GetParam().message));
  EXPECT_EQ(program.read("old.png"), "mine");
  EXPECT_FALSE(program.has("a.png"));
}

const std::string kDemo = "generate house -m demo --steps 1 -o a.png ";

INSTANTIATE_TEST_SUITE_P(
    Program, BadInput,
    testing::Values(
        Bad{"NoCommand", "", 2, "--help"}, Bad{"UnknownCommand", "paint", 2, "paint"},
        Bad{"UnknownOption", kDemo + "--widht 64", 2, "--widht"}, Bad{"NotANumber", kDemo + "--steps abc", 2, "--steps"},
        Bad{"NoSteps", kDemo + "--steps 0", 2, "--steps 0"}, Bad{"NegativeSize", kDemo + "--width -64", 2, "--width -64"},
        Bad{"OddSize", kDemo + "--width 100", 2, "the nearest is 104"}, Bad{"HugeSize", kDemo + "--width 1000000", 2, "16384"},
        Bad{"UnknownSampler", kDemo + "--sampler eular", 2, "euler"},
        Bad{"UnknownSchedule", kDemo + "--schedule karas", 2, "karras"},
        Bad{"Strength", kDemo + "--image text.png --strength 0", 2, "--strength"},
        Bad{"UnknownModel", "generate house -m dmeo -o a.png", 8, "demo"},
        Bad{"NoSuchPath", "generate house -m ./nowhere.safetensors -o a.png", 8, "nowhere.safetensors"},
        Bad{"Pickle", "generate house -m models/pickle.safetensors -o a.png", 4, "pickle"},
        Bad{"HtmlPage", "generate house -m models/page.safetensors -o a.png", 3, "web page"},
        Bad{"LfsPointer", "generate house -m models/pointer.safetensors -o a.png", 3, "git lfs"},
        Bad{"NoImage", kDemo + "--image nowhere.png", 8, "nowhere.png"},
        Bad{"EmptyImage", kDemo + "--image empty.png", 3, "empty.png"},
        Bad{"NotAnImage", kDemo + "--image text.png", 3, "text.png"},
        Bad{"Exists", "generate house " + kQuick + "-o old.png", 7, "old.png exists already"},
        Bad{"NoFolder", "generate house " + kQuick + "-o nowhere/a.png", 8, "nowhere"},
        Bad{"UnknownSuffix", "generate house " + kQuick + "-o a.gif", 2, ".gif"},
        Bad{"FromNothing", "generate --from text.png -o a.png", 3, "text.png"},
        Bad{"UnknownDevice", kDemo + "--device gpu", 2, "--device gpu"},
        Bad{"Bf16Reference", kDemo + "--device reference --precision bf16", 2, "--precision"},
        Bad{"UnknownRng", kDemo + "--rng dice", 2, "dice"}, Bad{"ClipSkip", kDemo + "--clip-skip 4", 2, "--clip-skip 4"},
        Bad{"NoBatchFile", "batch nowhere.txt -o out", 8, "nowhere.txt"}, Bad{"InspectNothing", "inspect nowhere", 8, "nowhere"}),
    [](const auto& bad) { return std::string(bad.param.name); });

TEST(Safety, AFullDiskLeavesNothingBehind) {
  const Program program;
  const Outcome o = program.run("generate house " + kQuick + "-o a.png", "trap '' XFSZ; ulimit -f 1;");
  EXPECT_EQ(o.status, 7) << o.err;
  EXPECT_EQ(program.files_in("."), 0u);
}

TEST(Safety, AClosedPipeIsAnError) {
  const Program program;
  const std::string demo = CUDREAM_SOURCE_DIR "/models/demo.safetensors";
  for (const std::string& arguments : {"inspect '" + demo + "' --json", "generate house " + kQuick + "--json -o a.png"}) {
    const std::string command = "cd '" + program.path().string() + "'; (sleep 0.2; '" CUDREAM_BINARY_DIR "/bin/cudream' " +
                                arguments + "; echo $? >status) 2>errors | true";
    ASSERT_EQ(std::system(command.c_str()), 0);
    for (int i = 0; i < 200 && !program.has("status"); i++) usleep(50'000);
    EXPECT_EQ(program.read("status"), "7\n") << arguments << program.read("errors");
    std::filesystem::remove(program.path() / "status");
  }
}

TEST(Safety, OpensNoSocket) {
  const Program program;
  if (std::system("strace -V >/dev/null 2>&1") != 0) GTEST_SKIP() << "strace is not installed";
  const Outcome o = program.run("generate house " + kQuick + "-o a.png", "strace -f -qq -e trace=network -o net.txt");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(program.read("net.txt"), "");
}

TEST(Safety, ControlCEndsWithinAStep) {
  const Program program;
  const Outcome o =
      program.run("generate house -m demo --steps 900 --seed 1 -o a.png", "timeout --foreground --preserve-status -s INT 4");
  EXPECT_EQ(o.status, 130) << o.err;
  EXPECT_THAT(o.err, HasSubstr("cancelled"));
  EXPECT_EQ(program.files_in("."), 0u);
}

TEST(Models, TheFolderIsPrintedAndMade) {
  const Program program;
  const Outcome o = program.run("models --path");
  EXPECT_EQ(o.status, 0);
  EXPECT_EQ(o.out, program.path().string() + "/.local/share/cudream/models\n");
  EXPECT_TRUE(program.has(".local/share/cudream/models"));
  EXPECT_THAT(program.run("models").out, HasSubstr("demo"));
}

TEST(Doctor, SaysWhatIsThere) {
  const Program program;
  const Outcome o = program.run("doctor");
  EXPECT_EQ(o.status, 0) << o.out;
  EXPECT_THAT(o.out, HasSubstr("models folder"));
}

// Every verb of the step is there, with the calls and the arithmetic that the plan counts: 360 of the UNet on the processor.
TEST(Bench, VerbsAreTimedByTheirShapes) {
  const Program p;
  const Outcome made = p.run("bench -m demo --size 64 --steps 1 --runs 1 --json --device cpu verbs");
  ASSERT_EQ(made.status, 0) << made.err;
  const auto j = nlohmann::json::parse(made.out);
  int64_t calls = 0;
  for (const auto& v : j["verbs"]) {
    EXPECT_GT(v["median_s"].get<double>(), 0) << v;
    EXPECT_GE(v["bytes"].get<double>(), 4) << v;
    if (v["stage"] == "denoise" && v["verb"] != "combine") calls += v["calls"].get<int64_t>();
    if (v["verb"] == "attention") {
      EXPECT_GT(v["flops"].get<double>(), 0) << v;
    }
  }
  EXPECT_GE(calls, 360);
  EXPECT_LE(calls, 400) << "beside the UNet a few for times, text and sampler";
}

TEST(Help, HasExamplesAndStatuses) {
  const Program program;
  EXPECT_THAT(program.run("--help").out, HasSubstr("130  cancelled"));
  EXPECT_THAT(program.run("generate --help").out, HasSubstr("Examples:"));
  EXPECT_EQ(program.run("--version").out, "cudream " CUDREAM_VERSION "\n");
}

}  // namespace
}  // namespace cudream
