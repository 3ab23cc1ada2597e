// Batches as a user runs them: killed, stopped, on a full disk, with bad items; nothing is lost and nothing made twice.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <thread>

#include "tests/cli/running.h"
#include "tests/golden/overflowing.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

const std::string kQuickBatch = "-m demo --steps 1 --width 64 --height 64 ";

TEST(Batch, GoesOnAfterABadLine) {
  const Program program;
  program.write("p.txt",
                "# a comment\na red house --seed 4\n\na house --widht 64\na boat --steps 3 --negative 'clouds, rain'\nx --image "
                "none.png\n");
  const Outcome o = program.run("batch p.txt " + kQuickBatch + "--seed 9 -o out --report");
  EXPECT_EQ(o.status, 9) << o.err;
  EXPECT_THAT(o.err, HasSubstr("p.txt line 4: The following argument was not expected: --widht=64"));
  EXPECT_THAT(o.err, HasSubstr("p.txt line 6: --image none.png: no file that can be read"));
  EXPECT_THAT(o.err, HasSubstr("2 of 4 pictures done, 2 failed"));
  EXPECT_EQ(program.files_in("out"), 3u) << "two pictures and the report";
  EXPECT_THAT(program.run("inspect out/00003-9.png").out, HasSubstr("Negative prompt: clouds, rain\nSteps: 3"));
  EXPECT_THAT(program.read("out/report.html"), HasSubstr("<img src=\"00001-4.png\" alt=\"a red house\""));
  EXPECT_THAT(program.read("out/.batch/status.json"), HasSubstr("\"failed\": 2"));
}

TEST(Batch, AFailedItemIsTriedAgainWhenAsked) {
  const Program program;
  program.write("p.txt", "house --seed 1\nhouse --image a.png --steps 2 --seed 2\n");
  EXPECT_EQ(program.run("batch p.txt " + kQuickBatch + "-o out").status, 9);
  ASSERT_EQ(program.run("generate house " + kQuick + "-o a.png").status, 0);
  const Outcome kept = program.run("batch p.txt " + kQuickBatch + "-o out --retry-failed");
  EXPECT_EQ(kept.status, 0) << kept.err;
  EXPECT_THAT(kept.err, HasSubstr("2 of 2 pictures done (1 before this run)"));
  const Outcome nothing = program.run("batch p.txt " + kQuickBatch + "-o out");
  EXPECT_EQ(nothing.status, 0);
  EXPECT_THAT(nothing.err, Not(HasSubstr("wrote")));
}

// The picture of an item is the one that `generate` makes, and a changed item is a new one.
TEST(Batch, ItemsAreThePicturesMadeAlone) {
  const Program program;
  program.write("p.csv", "prompt,seed,steps\nhouse,1,2\n");
  ASSERT_EQ(program.run("batch p.csv -m demo --width 64 --height 64 -o out").status, 0);
  ASSERT_EQ(program.run("generate house " + kQuick + "-o alone.png").status, 0);
  EXPECT_EQ(program.read("out/00001-1.png"), program.read("alone.png"));
  program.write("p.csv", "prompt,seed,steps\nhouse,1,2\nhouse,1,3\n");
  ASSERT_EQ(program.run("batch p.csv -m demo --width 64 --height 64 -o out").status, 0);
  EXPECT_EQ(program.files_in("out"), 2u);
}

// Prompts of one and two chunks, with and without guidance, with and without a LoRA, in passes of up to three.
TEST(Batch, MixedItemsAreThePicturesMadeAlone) {
  const Program program;
  const std::string longer = "a lighthouse BREAK a storm at night", lora = "a house <lora:lora-sd1-kohya:0.7>";
  std::vector<std::pair<std::string, std::string>> items;
  for (const std::string& prompt : {std::string("a red house"), longer, lora, std::string("a boat"), longer + ", rain"})
    for (const std::string guidance : {"7", "3", "1"}) items.emplace_back(prompt, guidance);
  std::string lines;
  for (size_t i = 0; i < items.size(); i++)
    lines += items[i].first + " --guidance " + items[i].second + " --seed " + std::to_string(i) + "\n";
  program.write("p.txt", lines);
  const std::string host = "-m sd1 --models-dir '" + (golden() / "models").string() +
                           "' --device cpu --precision f32 --steps 2 --width 64 --height 64 ";
  const Outcome batch = program.run("batch p.txt -o out --batch 3 " + host);
  ASSERT_EQ(batch.status, 0) << batch.err;
  for (size_t i = 0; i < items.size(); i++) {
    const std::string seed = std::to_string(i), alone = "alone-" + seed + ".png";
    const Outcome o = program.run("generate '" + items[i].first + "' --guidance " + items[i].second + " --seed " + seed + " -o " +
                                  alone + " " + host);
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(program.read(alone), program.read(fmt::format("out/{:05}-{}.png", i + 1, i))) << items[i].first;
  }
}

// Of items that are made together, the one that cannot be made fails alone.
TEST(Batch, AFailureFindsItsItem) {
  const Program program;
  program.write("p.txt", "house --seed 1\nhouse <lora:none> --seed 2\nboat --seed 3\nhouse --clip-skip 99 --seed 4\n");
  const Outcome o = program.run("batch p.txt " + kQuickBatch + "-o out --batch 4");
  EXPECT_EQ(o.status, 9) << o.err;
  EXPECT_THAT(o.err, HasSubstr("p.txt line 2: no model is named \"none\""));
  EXPECT_THAT(o.err, HasSubstr("p.txt line 4: --clip-skip 99"));
  EXPECT_THAT(o.err, HasSubstr("2 of 4 pictures done, 2 failed"));
  EXPECT_TRUE(program.has("out/00001-1.png") && program.has("out/00003-3.png"));
}

// Of pictures that are decoded together each one that cannot be fails alone, and its latent is kept.
TEST(Batch, WhatCannotBeDecodedIsKept) {
  const Program program;
  const fs::path model = write_overflowing(program.path(), kOverflows[3], std::nanf(""));
  program.write("p.txt", "house --seed 1..3\n");
  const Outcome o = program.run(
      "batch p.txt -o out --batch 3 --device cpu --precision f32 --steps 1 --width 64 --height 64 -m '" + model.string() + "'");
  EXPECT_EQ(o.status, 9) << o.err;
  EXPECT_THAT(o.err, HasSubstr("0 of 3 pictures done, 3 failed"));
  for (const char* name : {"00001-1", "00002-2", "00003-3"}) {
    EXPECT_TRUE(program.has(fmt::format("out/{}.latent.safetensors", name))) << name;
    EXPECT_THAT(o.err, HasSubstr(fmt::format("decode out/{}.latent.safetensors", name)));
  }
}

// A LoRA with other bytes under the same name makes another picture.
TEST(Batch, ALoraThatChangedMakesANewItem) {
  const Program program;
  fs::create_directories(program.path() / "loras");
  const fs::path lora = program.path() / "loras" / "film.safetensors";
  fs::copy_file(golden() / "models" / "lora-sd1-kohya.safetensors", lora);
  program.write("p.txt", "house <lora:film> --seed 1\n");
  const std::string command = "batch p.txt -o out -m sd1 --models-dir '" + (golden() / "models").string() +
                              "' --models-dir loras --device cpu --precision f32 --steps 1 --width 64 --height 64";
  ASSERT_EQ(program.run(command).status, 0);
  EXPECT_THAT(program.run(command).err, HasSubstr("(1 before this run)"));
  fs::copy_file(golden() / "models" / "lora-sd1-peft.safetensors", lora, fs::copy_options::overwrite_existing);
  const Outcome changed = program.run(command);
  EXPECT_EQ(changed.status, 0) << changed.err;
  EXPECT_EQ(program.files_in("out"), 2u);
}

TEST(Batch, AWildcardListThatChangedMakesANewItem) {
  const Program program;
  program.write("lists/animal.txt", "a __kind__ cat\n");
  program.write("lists/kind.txt", "red\n");
  program.write("lists/other.txt", "sea\n");
  program.write("b.txt", "__animal__ " + kQuick + "\na house " + kQuick + "\n");
  const auto run = [&] { return program.run("batch b.txt -o out --wildcards lists").err; };
  EXPECT_THAT(run(), HasSubstr("2 of 2 pictures done"));
  program.write("lists/other.txt", "hill\n");
  EXPECT_THAT(run(), HasSubstr("2 of 2 pictures done (2 before this run)"));
  program.write("lists/kind.txt", "blue\n");
  EXPECT_THAT(run(), HasSubstr("2 of 2 pictures done (1 before this run)"));
  EXPECT_EQ(program.files_in("out"), 3u);
}

TEST(Batch, ListsWhatItWouldMake) {
  const Program program;
  program.write("p.yaml", "defaults: {steps: 1}\nitems:\n  - {prompt: house, seed: 1..3, sampler: [ddim, euler]}\n");
  const Outcome o = program.run("batch p.yaml --expand-only --json");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.out, HasSubstr(R"({"where":"item 1","steps":"1","prompt":"house","seed":"3","sampler":"euler"})"));
  const Outcome many = program.run("batch - --expand-only", "echo 'fox --seed 1..1000000' |");
  EXPECT_EQ(many.status, 2);
  EXPECT_THAT(many.err, HasSubstr("line 1 makes 1000000 pictures; a batch may have 100000"));
}

TEST(Batch, SeedsThatWereDrawnAreKept) {
  const Program program;
  program.write("p.txt", "house --count 2\nhouse\n");
  ASSERT_EQ(program.run("batch p.txt " + kQuickBatch + "-o out").status, 0);
  const auto before = pictures(program, "out");
  ASSERT_EQ(before.size(), 3u);
  fs::remove(program.path() / "out" / before.begin()->first);
  ASSERT_EQ(program.run("batch p.txt " + kQuickBatch + "-o out").status, 0);
  EXPECT_EQ(pictures(program, "out"), before) << "the missing picture was made again, with its seed and name";
}

TEST(Batch, OneAtATimeInAFolder) {
  const Program program;
  program.write("p.txt", "house --seed 1..500\n");
  const Running first(program, "batch p.txt " + kQuickBatch + "-o out");
  first.wait_for(program, "out/00001-1.png");
  const std::string command = "cd '" + program.path().string() +
                              "'; '" CUDREAM_BINARY_DIR "/bin/cudream' batch p.txt -m demo -o out 2>second; echo $? >status";
  ASSERT_EQ(std::system(command.c_str()), 0);
  EXPECT_EQ(program.read("status"), "7\n");
  EXPECT_THAT(program.read("second"), HasSubstr("another batch is running in out"));
  first.send(SIGTERM);
  EXPECT_EQ(first.wait(), 130);
  EXPECT_THAT(program.read(".stderr"), HasSubstr(" left; the same command goes on from here"));
}

// Four runs at once in one folder make what one run makes.
TEST(Batch, ShardsShareAFolder) {
  const Program program;
  program.write("p.txt", "house --seed 1..9\n");
  ASSERT_EQ(program.run("batch p.txt " + kQuickBatch + "-o whole").status, 0);
  {
    const Running two(program, "batch p.txt " + kQuickBatch + "-o parts --shard 2/4");
    const Running three(program, "batch p.txt " + kQuickBatch + "-o parts --shard 3/4");
    const Outcome one = program.run("batch p.txt " + kQuickBatch + "-o parts --shard 1/4");
    EXPECT_THAT(one.err, HasSubstr("3 of 3 pictures done"));
    EXPECT_EQ(program.run("batch p.txt " + kQuickBatch + "-o parts --shard 4/4").status, 0);
    EXPECT_EQ(two.wait() + three.wait(), 0);
  }
  EXPECT_EQ(pictures(program, "parts").size(), 9u);
  EXPECT_TRUE(pictures(program, "parts") == pictures(program, "whole"));
  const Outcome wrong = program.run("batch p.txt -o parts --shard 5/4");
  EXPECT_EQ(wrong.status, 2);
  EXPECT_THAT(wrong.err, HasSubstr("--shard 5/4: expected I/N, with I from 1 to N"));
}

TEST(Batch, AFolderThatVanishesIsAnError) {
  const Program program;
  program.write("p.txt", "house --seed 1..500\n");
  const Running running(program, "batch p.txt " + kQuickBatch + "-o out");
  running.wait_for(program, "out/00002-2.png");
  fs::rename(program.path() / "out", program.path() / "elsewhere");
  EXPECT_EQ(running.wait(), 7);
  EXPECT_THAT(program.read(".stderr"), HasSubstr("the same command goes on from here"));
}

TEST(Batch, GoesOnAfterAFullDisk) {
  const Program program;
  program.write("p.txt", "house --seed 1\nhouse --seed 2 --width 256 --height 256\nhouse --seed 3\n");
  const Outcome full = program.run("batch p.txt " + kQuickBatch + "-o out", "trap '' XFSZ; ulimit -f 30;");
  EXPECT_EQ(full.status, 7) << full.err;
  EXPECT_EQ(program.files_in("out"), 2u) << "those of one size come first";
  EXPECT_EQ(program.run("batch p.txt " + kQuickBatch + "-o out").status, 0);
  EXPECT_EQ(program.files_in("out"), 3u);
}

// 200 pictures, killed at 30 random instants: the same files with the same bytes as a run that nothing disturbed.
TEST(Batch, KilledAtAnyInstantNothingIsLostOrMadeTwice) {
  const Program program;
  std::string lines;
  for (int i = 0; i < 50; i++) lines += "house number " + std::to_string(i) + " --seed " + std::to_string(4 * i) + " --count 4\n";
  program.write("p.txt", lines);
  const std::string command = "batch p.txt " + kQuickBatch + "-o ";
  ASSERT_EQ(program.run(command + "whole").status, 0);

  std::mt19937 random(1);
  int killed = 0;
  for (int i = 0; i < 30; i++) {
    const Running running(program, command + "killed");
    std::this_thread::sleep_for(std::chrono::milliseconds(std::uniform_int_distribution(50, 1500)(random)));
    running.send(SIGKILL);
    killed += running.wait() == 128 + SIGKILL;
  }
  EXPECT_GT(killed, 3);
  const Outcome last = program.run(command + "killed");
  ASSERT_EQ(last.status, 0) << last.err;
  const auto whole = pictures(program, "whole"), again = pictures(program, "killed");
  EXPECT_EQ(whole.size(), 200u);
  EXPECT_EQ(again.size(), 200u);
  for (const auto& [name, bytes] : whole) {
    const auto found = again.find(name);
    ASSERT_NE(found, again.end()) << name;
    EXPECT_TRUE(found->second == bytes) << name << ": other bytes";
  }
}

}  // namespace
}  // namespace cudream
