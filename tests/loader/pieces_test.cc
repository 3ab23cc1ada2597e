// The digest that is made while a file is read: it is that of the file, whatever is asked for and in which order, and the usual
// orders read every byte once.
#include "loader/pieces.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <map>
#include <random>

#include "kernels/reference/reference_device.h"
#include "loader/hash.h"
#include "tests/golden/tensors.h"
#include "tests/loader/errors.h"
#include "tests/loader/networks.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Each;
using ::testing::Ge;
using ::testing::Le;
using ::testing::SizeIs;

// ---- In memory: eleven pieces of one sector, of which four are kept ----------------------------------------------------------

constexpr uint64_t kPiece = PieceReader::kSector, kPieces = 11, kKept = 4;

class Pieces : public testing::Test {
 protected:
  explicit Pieces(uint64_t bytes = (kPieces - 1) * kPiece + 17) : file_(bytes), reader_(bytes, reading(), kPiece, kKept) {
    std::mt19937 random(5);
    for (std::byte& b : file_) b = static_cast<std::byte>(random());
  }
  PieceReader::ReadPiece reading() {
    return [this](std::span<std::byte> piece, uint64_t offset, uint64_t least) {
      times_[offset / kPiece]++;
      EXPECT_EQ(least, std::min<uint64_t>(kPiece, file_.size() - offset));
      EXPECT_EQ(reinterpret_cast<uintptr_t>(piece.data()) % kPiece, 0U);
      std::memcpy(piece.data(), file_.data() + offset, least);
    };
  }
  void hash_along() {
    reader_.hash_along([this] { alone_++; });
  }
  void read(uint64_t offset, uint64_t bytes) {
    std::vector<std::byte> got(bytes);
    reader_.read(got, offset);
    EXPECT_TRUE(std::ranges::equal(got, std::span(file_).subspan(offset, bytes))) << offset << " " << bytes;
  }
  void expect_digest() { EXPECT_EQ(reader_.digest(), sha256(file_)); }
  // How often each piece was read.
  std::vector<int> times() const {
    std::vector<int> all;
    for (uint64_t i = 0; i * kPiece < file_.size(); i++) all.push_back(times_.contains(i) ? times_.at(i) : 0);
    return all;
  }

  std::vector<std::byte> file_;
  std::map<uint64_t, int> times_;
  int alone_ = 0;  // pieces read for the digest alone
  PieceReader reader_;
};

TEST_F(Pieces, InOrder) {
  hash_along();
  for (uint64_t at = 0; at < file_.size(); at += 1000) read(at, std::min<uint64_t>(1000, file_.size() - at));
  expect_digest();
  EXPECT_THAT(times(), Each(1));
  EXPECT_EQ(alone_, 0);
}

TEST_F(Pieces, OutOfOrder) {
  hash_along();
  for (uint64_t at = 0; at + 3 * kPiece <= file_.size(); at += 3 * kPiece)
    for (const uint64_t i : {1, 0, 2}) read(at + i * kPiece + 100, kPiece);
  expect_digest();
  EXPECT_THAT(times(), Each(1));
}

TEST_F(Pieces, Overlapping) {
  hash_along();
  for (uint64_t at = 0; at + 3 * kPiece <= file_.size(); at += 1500) read(at, 3 * kPiece);
  expect_digest();
  EXPECT_THAT(times(), Each(1));
}

TEST_F(Pieces, GapsAtTheStartInTheMiddleAndAtTheEnd) {
  hash_along();
  read(2 * kPiece, 10);
  read(3 * kPiece, 10);
  for (const uint64_t i : {6, 7, 8}) read(i * kPiece + 5, 10);
  expect_digest();
  EXPECT_THAT(times(), Each(1));
  EXPECT_EQ(alone_, 2 + 2 + 2);
}

TEST_F(Pieces, MoreEarlyOnesThanAreKept) {
  hash_along();
  read(5 * kPiece, 5 * kPiece);
  EXPECT_EQ(alone_, 5);  // when the first of them had to leave
  for (const uint64_t i : {0, 1, 2}) read(i * kPiece, kPiece);
  expect_digest();
  EXPECT_THAT(times(), testing::ElementsAre(2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1));
}

TEST_F(Pieces, TheNextToLeaveIsNotReadTwiceWhenItComes) {
  hash_along();
  for (const uint64_t i : {1, 2, 3, 4, 0}) read(i * kPiece, kPiece);
  expect_digest();
  EXPECT_THAT(times(), Each(1));
  EXPECT_EQ(alone_, 6);
}

TEST_F(Pieces, AnyOrder) {
  hash_along();
  std::mt19937 random(6);
  for (int i = 0; i < 200; i++) {
    const uint64_t at = random() % file_.size();
    read(at, random() % std::min<uint64_t>(3 * kPiece, file_.size() - at));
  }
  expect_digest();
}

TEST_F(Pieces, NothingAskedFor) {
  hash_along();
  expect_digest();
  EXPECT_THAT(times(), Each(1));
}

TEST_F(Pieces, WithoutADigestOnlyWhatIsAskedForIsRead) {
  read(3 * kPiece - 1, 2);
  read(9 * kPiece, 1);
  read(2 * kPiece, 1);
  EXPECT_THAT(times(), testing::ElementsAre(0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 0));
}

TEST_F(Pieces, WhatIsThrownBetweenReadsEndsThem) {
  reader_.hash_along([] { throw fail(Code::cancelled, "enough"); });
  EXPECT_EQ(message_of([&] { read(5 * kPiece, 5 * kPiece); }, Code::cancelled), "enough");
  EXPECT_THAT(times(), testing::ElementsAre(0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0));
}

class WholePieces : public Pieces {
 protected:
  WholePieces() : Pieces(6 * kPiece) {}
};
TEST_F(WholePieces, EndWithTheFile) {
  hash_along();
  read(0, 6 * kPiece);
  expect_digest();
  EXPECT_THAT(times(), AllOf(SizeIs(6), Each(1)));
}

class NoPieces : public Pieces {
 protected:
  NoPieces() : Pieces(0) {}
};
TEST_F(NoPieces, AreAnEmptyFile) {
  hash_along();
  read(0, 0);
  expect_digest();
}

// ---- Models read directly ------------------------------------------------------------------------------------------------

// Bytes that reads of this process have returned, of mappings none (proc(5)); none: the kernel does not count.
std::optional<int64_t> bytes_read() {
  std::ifstream counts("/proc/self/io");
  std::string name;
  int64_t bytes = 0;
  if (counts >> name >> bytes && name == "rchar:") return bytes;
  return std::nullopt;
}

class DirectLoad : public testing::TestWithParam<bool> {
 protected:
  DirectLoad() { setenv("XDG_CACHE_HOME", (folder_.path() / "cache").c_str(), 1); }
  ~DirectLoad() override { unsetenv("XDG_CACHE_HOME"); }
  DirectLoad(const DirectLoad&) = delete;
  DirectLoad& operator=(const DirectLoad&) = delete;

  void SetUp() override {
    try {
      const MappedFile map(demo_);
      const WeightFile direct(map, Reading::direct);
    } catch (const Error& e) {
      if (e.code() != Code::unsupported) throw;
      GTEST_SKIP() << e.what();
    }
  }

  // The report, and the digest of what arrived on the device, weight by weight.
  static std::pair<LoadReport, std::string> load(const fs::path& path, const LoadOptions& options) {
    const Model model = open_model(path);
    const std::unique_ptr<Device> device = open_reference();
    WeightStore store;
    request_networks(store, model.spec());
    const LoadReport report = load_weights(model, store, *device, options);
    Sha256 arrived;
    std::string part;
    for (const WeightRequest& r : store.requests()) {
      if (const std::string mine = part_of(r.weight.name); options.in_turn && mine != part) {
        if (!part.empty()) store.put_aside(part);
        store.bring(part = mine);
      }
      arrived.add({r.weight.data.as<std::byte>(), static_cast<size_t>(r.weight.shape.size()) * sizeof(float)});
    }
    return {report, arrived.hex()};
  }
  LoadOptions options() const { return {.in_turn = GetParam(), .reading = Reading::direct, .hash = true}; }

  // Many weights are joined or not read at all, and with --offload the UNet comes before the autoencoder.
  const fs::path demo_ = CUDREAM_SOURCE_DIR "/models/demo.safetensors";
  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Order, DirectLoad, testing::Bool(),
                         [](const auto& in_turn) { return in_turn.param ? "InTurn" : "AtOnce"; });

TEST_P(DirectLoad, ReadsTheFileOnceForWeightsAndDigest) {
  const std::optional<int64_t> before = bytes_read();
  const auto [report, arrived] = load(demo_, options());
  const std::optional<int64_t> after = bytes_read();
  EXPECT_TRUE(report.hashed);
  EXPECT_EQ(report.reading, Reading::direct);
  EXPECT_EQ(CachedDigest(demo_).known(), sha256_of_file(demo_));
  EXPECT_EQ(arrived, load(demo_, {.in_turn = GetParam(), .reading = Reading::mmap}).second);
  if (!before || !after) GTEST_SKIP() << "/proc/self/io has no counts: how often it is read is not checked";
  // Allowance: the counts' own text, and what the C library may read about the machine. A piece is 4 MiB.
  const auto size = static_cast<int64_t>(fs::file_size(demo_));
  EXPECT_THAT(*after - *before, AllOf(Ge(size), Le(size + 65536)));
}

TEST_P(DirectLoad, MakesNoDigestThatIsKnown) {
  const std::string known(64, 'a');
  CachedDigest(demo_).keep(known);
  EXPECT_FALSE(load(demo_, options()).first.hashed);
  EXPECT_EQ(CachedDigest(demo_).known(), known);
}

TEST_P(DirectLoad, MakesNoDigestUnasked) {
  EXPECT_FALSE(load(demo_, {.in_turn = GetParam(), .reading = Reading::direct}).first.hashed);
  EXPECT_EQ(CachedDigest(demo_).known(), "");
}

TEST_P(DirectLoad, LeavesNoDigestOfAFileThatChanges) {
  const fs::path file = folder_.path() / "model.safetensors";
  fs::copy_file(golden_model("sd1.safetensors"), file);
  LoadOptions changing = options();
  changing.progress = [&](int64_t done, int64_t total) {
    if (done == total) fs::last_write_time(file, fs::file_time_type::clock::now());
  };
  EXPECT_TRUE(load(file, changing).first.hashed);
  EXPECT_FALSE(fs::exists(folder_.path() / "cache"));
  EXPECT_TRUE(load(file, options()).first.hashed);
  EXPECT_EQ(CachedDigest(file).known(), sha256_of_file(file));
}

TEST_P(DirectLoad, NeedsNoCacheThatCanBeWritten) {
  setenv("XDG_CACHE_HOME", "/dev/null", 1);
  EXPECT_TRUE(load(demo_, options()).first.hashed);
  EXPECT_EQ(HashBeside(demo_).get(), sha256_of_file(demo_));
}

TEST_P(DirectLoad, AFileCutShortMeanwhileIsAnError) {
  const fs::path file = folder_.path() / "model.safetensors";
  fs::copy_file(demo_, file);
  LoadOptions cutting = options();
  cutting.progress = [&](int64_t, int64_t) { fs::resize_file(file, 1 << 20); };
  EXPECT_THAT(message_of([&] { load(file, cutting); }), testing::HasSubstr("became shorter"));
  EXPECT_FALSE(fs::exists(folder_.path() / "cache"));
}

}  // namespace
}  // namespace cudream
