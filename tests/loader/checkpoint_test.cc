// Checkpoints: what PyTorch writes is read to the byte; what would run code, or is not what it seems, is refused by name.
#include "loader/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "loader/hash.h"
#include "loader/model.h"
#include "loader/pickle.h"

namespace cudream {
namespace {

using nlohmann::json;
using testing::HasSubstr;

const std::filesystem::path kFolder = std::filesystem::path(CUDREAM_SOURCE_DIR) / "tests/attacks/checkpoint";

json cases() {
  return json::parse(std::ifstream(kFolder / "manifest.json"))["cases"];
}

SafetensorsFile open(const std::filesystem::path& path) {
  MappedFile map(path);
  SafetensorsHeader header = read_checkpoint(
      {.name = path.string(), .size = map.size(), .read = [&](auto to, uint64_t offset) { map.read(to, offset); }});
  return {std::move(map), std::move(header)};
}

TEST(Checkpoint, ReadsWhatPyTorchWrites) {
  size_t read = 0;
  for (const json& c : cases()) {
    if (c["expect"] != "accept") continue;
    const SafetensorsFile file = open(kFolder / c["file"].get<std::string>());
    EXPECT_EQ(file.tensors().size(), c["tensors"].size()) << c["file"];
    for (const auto& [name, want] : c["tensors"].items()) {
      const TensorInfo& t = file.at(name);
      EXPECT_EQ(json(t.shape), want["shape"]) << c["file"] << name;
      if (t.bytes > 0) {
        EXPECT_EQ(sha256(file.bytes(t)), want["sha256"]) << c["file"] << name;
      }
      read++;
    }
  }
  EXPECT_GT(read, 12u);
}

// A byte of a pickle makes a value of a hundred: their number is bounded.
TEST(Checkpoint, RefusesAPickleThatWouldFillTheMemory) {
  std::vector<std::byte> pickle{std::byte{0x80}, std::byte{2}};
  pickle.resize(2 << 20, std::byte{'N'});
  try {
    read_pickle(pickle, "model.ckpt");
    ADD_FAILURE() << "it was read";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::bad_file);
    EXPECT_THAT(e.what(), HasSubstr("more values than any checkpoint"));
  }
}

TEST(Checkpoint, RefusesWhatItDoesNotKnow) {
  size_t refused = 0;
  for (const json& c : cases()) {
    if (c["expect"] != "reject") continue;
    try {
      open(kFolder / c["file"].get<std::string>());
      ADD_FAILURE() << c["file"] << " was read";
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == Code::bad_file || e.code() == Code::unsupported) << c["file"];
      EXPECT_THAT(e.what(), HasSubstr(c["message"].get<std::string>())) << c["file"];
      refused++;
    }
  }
  EXPECT_GT(refused, 50u);
}

// What the safetensors rules refuse as pickle or archive is no checkpoint either.
TEST(Checkpoint, RefusesTheHostileSafetensors) {
  for (const char* name :
       {"bad_pickle.safetensors", "bad_trailing_zip.safetensors", "bad_gguf.safetensors", "bad_empty_file.safetensors"}) {
    EXPECT_THROW(open(kFolder / ".." / "safetensors" / name), Error) << name;
    EXPECT_THROW(open_model(kFolder / ".." / "safetensors" / name, Checkpoints::read), Error) << name;
  }
}

TEST(Checkpoint, IsOpenedOnlyToBeConverted) {
  const std::filesystem::path path = kFolder / "ok_plain.ckpt";
  EXPECT_EQ(open_model(path, Checkpoints::read).files().front()->tensors().size(), 1u);
  try {
    open_model(path);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::unsupported);
    EXPECT_THAT(e.what(), HasSubstr("cudream convert '" + path.string() + "' -o '"));
    EXPECT_THAT(e.what(), HasSubstr("ok_plain.safetensors'"));
  }
}

}  // namespace
}  // namespace cudream
