// cudream bench throughput and compare: what they report, and that comparing can tell and refuse.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/cli/program.h"

namespace cudream {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::string kThroughput = "bench throughput -m demo --size 64 --steps 1 --runs 4 --batches 1,3 ";

TEST(Bench, ThroughputSaysHowFastAndHowGood) {
  const Program program;
  const Outcome o = program.run(kThroughput + "-o a.json");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr("| batch | pictures/min |"));
  const json result = json::parse(program.read("a.json"));
  ASSERT_EQ(result["batches"].size(), 2u);
  EXPECT_EQ(result["batches"][1]["batch"], 3);
  for (const json& batch : result["batches"]) {
    EXPECT_EQ(batch["runs_s"].size(), 4u);
    EXPECT_GE(batch["p95_s"], batch["p50_s"]);
    double share = 0;
    for (const json& stage : batch["stages"]) share += stage["share"].get<double>();
    EXPECT_GT(share, 0.5);
    EXPECT_LT(share, 1.001) << "text, steps and decoding are parts of a pass";
  }
  EXPECT_EQ(result["quality"]["psnr_db"].size(), 2u);
  bool conv = false;
  for (const json& verb : result["verbs"]) conv |= verb["stage"] == "denoise" && verb["verb"] == "conv2d";
  EXPECT_TRUE(conv);
}

// A stage whose result were kept from the run before would seem to pass the processor's limit many times over.
TEST(Bench, EveryRunDoesAllTheWork) {
  const Program program;
  const Outcome o = program.run("bench -m demo --size 64 --steps 1 --runs 3 --device cpu --json");
  ASSERT_EQ(o.status, 0) << o.err;
  const json result = json::parse(o.out);
  int stages = 0;
  for (const json& stage : result["stages"]) {
    if (stage["gflop"] == 0) continue;
    stages++;
    EXPECT_LT(stage["gflop"].get<double>() / stage["median_s"].get<double>(), 2 * result["peak_gflops"].get<double>()) << stage;
  }
  EXPECT_EQ(stages, 3) << "text, steps and decoding";
}

TEST(Bench, AQualityThatIsAskedForIsHeld) {
  const Program program;
  const Outcome o = program.run(kThroughput + "--device cpu --precision bf16 --least-psnr 90");
  EXPECT_EQ(o.status, 1) << o.err;
  EXPECT_THAT(o.err, HasSubstr("--least-psnr asks for 90 dB"));
}

// Two results made by hand: six runs of 1.0 s and more, and the same twice as fast.
TEST(Bench, CompareTellsDifferencesFromChance) {
  const Program program;
  json before{{"bench", "throughput"}, {"version", "v"},       {"device", "cpu"},
              {"description", "d"},    {"compute", "f32"},     {"model", "demo"},
              {"width", 64},           {"height", 64},         {"steps", 1},
              {"guidance", 7.0},       {"sampler", "dpm++2m"}, {"batches", json::array()}};
  before["batches"].push_back({{"batch", 2}, {"runs_s", {1.0, 1.1, 1.2, 1.3, 1.4, 1.5}}});
  json faster = before, noisy = before, other = before;
  faster["batches"][0]["runs_s"] = {0.50, 0.55, 0.60, 0.65, 0.70, 0.75};
  noisy["batches"][0]["runs_s"] = {1.05, 1.15, 1.25, 1.35, 1.45, 1.06};
  other["steps"] = 2;
  for (const auto& [name, result] : {std::pair("a.json", before), {"b.json", faster}, {"c.json", noisy}, {"d.json", other}})
    program.write(name, result.dump());

  const json told = json::parse(program.run("bench compare a.json b.json --json").out);
  EXPECT_EQ(told["batches"][0]["verdict"], "faster");
  EXPECT_NEAR(told["batches"][0]["ratio"].get<double>(), 2, 1e-9);
  EXPECT_NEAR(told["batches"][0]["p"].get<double>(), 2.0 / 924, 1e-9) << "one order of 924, both ways";
  EXPECT_THAT(program.run("bench compare b.json a.json").out, HasSubstr("| slower |"));
  EXPECT_THAT(program.run("bench compare a.json c.json").out, HasSubstr("| no difference shown |"));
  const Outcome refused = program.run("bench compare a.json d.json");
  EXPECT_EQ(refused.status, 2);
  EXPECT_THAT(refused.err, HasSubstr("the results are of different work: steps is 1 in one and 2 in the other"));
  program.write("e.json", "{}");
  EXPECT_EQ(program.run("bench compare a.json e.json").status, 3);
}

}  // namespace
}  // namespace cudream
