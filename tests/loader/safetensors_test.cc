// The header parser, the file and the writer, against the conformance files and the reference's own output.
#include "loader/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "loader/hash.h"
#include "loader/kind.h"
#include "loader/values.h"
#include "tests/loader/errors.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

const fs::path kAttacks = fs::path(CUDREAM_SOURCE_DIR) / "tests/attacks/safetensors";

// A file of the header text `json`, padded by nothing, and `data` bytes of zeros.
std::string file_of(std::string_view header, size_t data) {
  const uint64_t length = header.size();
  std::string text(reinterpret_cast<const char*>(&length), 8);
  return text.append(header).append(data, '\0');
}

SafetensorsHeader parse(std::string_view file) {
  const uint64_t length = header_length(std::as_bytes(std::span(file)), file.size(), "x.safetensors");
  return parse_header(file.substr(8, length), file.size(), "x.safetensors");
}

std::string refusal(std::string_view header, size_t data) {
  return message_of([&] { parse(file_of(header, data)); });
}

// The conformance cases by file name.
const std::map<std::string, json>& cases() {
  static const std::map<std::string, json> all = [] {
    std::map<std::string, json> by_name;
    const json manifest = json::parse(read_text(kAttacks / "manifest.json", 10 << 20));
    for (const json& c : manifest["cases"]) by_name[c["file"]] = c;
    return by_name;
  }();
  return all;
}

class Conformance : public ::testing::TestWithParam<std::string> {};

std::vector<std::string> case_names() {
  std::vector<std::string> names;
  for (const auto& [name, unused] : cases()) names.push_back(name);
  return names;
}

INSTANTIATE_TEST_SUITE_P(Manifest, Conformance, ::testing::ValuesIn(case_names()),
                         [](const auto& test) { return fs::path(test.param).stem().string(); });

TEST_P(Conformance, HasTheVerdictOfTheManifest) {
  const json& c = cases().at(GetParam());
  const fs::path path = kAttacks / GetParam();
  std::optional<SafetensorsFile> file;
  try {
    file.emplace(path);
  } catch (const Error& e) {
    EXPECT_NE(c["expect"], "accept") << e.what();
    EXPECT_THAT(e.what(), HasSubstr(path.string()));
    return;
  }
  EXPECT_NE(c["expect"], "reject") << c["why"];
  if (!c.contains("tensors")) return;
  EXPECT_EQ(file->tensors().size(), c["tensors"].size());
  for (const auto& [name, expected] : c["tensors"].items()) {
    if (name.ends_with(" characters)")) continue;  // the manifest shortens one name of 70,000 characters
    const TensorInfo& t = file->at(name);
    EXPECT_EQ(name_of(t.type), expected["dtype"]);
    EXPECT_EQ(json(t.shape), expected["shape"]);
    EXPECT_EQ(t.offset - 8 - file->header().bytes, expected["data_offsets"][0]);
    EXPECT_EQ(sha256(file->bytes(t)), expected["sha256"]);
  }
}

TEST(Safetensors, ErrorsNameTheRule) {
  const auto tensor = [](std::string_view fields) { return fmt::format("{{\"w\":{{{}}}}}", fields); };
  const std::string good = R"("dtype":"U8","shape":[2],"data_offsets":[0,2])";
  EXPECT_EQ(parse(file_of(tensor(good), 2)).tensors.size(), 1u);

  EXPECT_THAT(message_of([] { parse("1234567"); }), HasSubstr("HeaderTooSmall"));
  EXPECT_THAT(message_of([] { parse(std::string(8, '\xff')); }), HasSubstr("HeaderTooLarge"));
  EXPECT_THAT(message_of([] { parse(std::string("\x09\0\0\0\0\0\0\0{}", 10)); }), HasSubstr("InvalidHeaderLength"));
  EXPECT_THAT(refusal("{\"\xff\":1}", 0), HasSubstr("InvalidHeader)"));
  EXPECT_THAT(refusal(" {}", 0), HasSubstr("InvalidHeaderStart"));
  EXPECT_THAT(refusal(std::string_view("{}\0", 3), 0), HasSubstr("zero bytes"));
  EXPECT_THAT(refusal("{1}", 0), HasSubstr("InvalidHeaderDeserialization"));
  EXPECT_THAT(refusal(tensor(R"("dtype":"F33","shape":[2],"data_offsets":[0,2])"), 2), HasSubstr("unknown dtype \"F33\""));
  EXPECT_THAT(refusal(tensor(good + R"(,"dtype":"U8")"), 2), HasSubstr("has its dtype twice"));
  EXPECT_THAT(refusal("{" + std::string("\"w\":{") + good + "},\"w\":{" + good + "}}", 2), HasSubstr("InvalidOffset"));
  EXPECT_THAT(
      refusal(R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0),
      HasSubstr("DuplicateName"));
  EXPECT_THAT(refusal(R"({"__metadata__":{"a":"1","a":"2"}})", 0), HasSubstr("DuplicateName"));
  EXPECT_THAT(refusal(R"({"__metadata__":null,"__metadata__":{}})", 0), HasSubstr("DuplicateName"));
  EXPECT_THAT(refusal(tensor(R"("dtype":"U8","shape":[2],"data_offsets":[1,3])"), 3), HasSubstr("InvalidOffset"));
  EXPECT_THAT(refusal(tensor(R"("dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,2])"), 2),
              HasSubstr("ValidationOverflow"));
  EXPECT_THAT(refusal(tensor(R"("dtype":"F4","shape":[3],"data_offsets":[0,2])"), 2), HasSubstr("MisalignedSlice"));
  EXPECT_THAT(refusal(tensor(R"("dtype":"U8","shape":[3],"data_offsets":[0,2])"), 2), HasSubstr("TensorInvalidInfo"));
  EXPECT_THAT(refusal(tensor(good), 3), HasSubstr("MetadataIncompleteBuffer"));
}

TEST(Safetensors, ExtraFieldsArePassedOverWhateverTheyHold) {
  const SafetensorsHeader header = parse(file_of(
      R"({"w":{"more":{"dtype":[{"shape":1.5}],"dtype":null},"dtype":"U8","shape":[2],"data_offsets":[0,2],"x":[[],{}]}})", 2));
  ASSERT_EQ(header.tensors.size(), 1u);
  EXPECT_EQ(header.tensors[0].shape, std::vector<uint64_t>{2});
}

TEST(Safetensors, NestingIsCapped) {
  const auto nested = [](int depth) {
    return file_of(
        R"({"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":)" + std::string(depth, '[') + std::string(depth, ']') + "}}",
        0);
  };
  EXPECT_EQ(parse(nested(126)).tensors.size(), 1u);
  EXPECT_THAT(message_of([&] { parse(nested(127)); }), HasSubstr("128 levels"));
}

TEST(Safetensors, AnArrayInPlaceOfATensorIsRefused) {
  EXPECT_THAT(refusal(R"({"w":["F32",[2],[0,8]]})", 8), HasSubstr("is an array"));
}

TEST(Safetensors, NothingIsSizedByAClaim) {
  TemporaryFolder folder;
  std::string text = "????????{\"x\":12345678";
  const uint64_t claim = 99'999'999;
  std::memcpy(text.data(), &claim, 8);
  const fs::path path = folder.write("claim.safetensors", text);
  rusage before{}, after{};
  getrusage(RUSAGE_SELF, &before);
  EXPECT_THAT(message_of([&] { SafetensorsFile file(path); }), HasSubstr("InvalidHeaderLength"));
  getrusage(RUSAGE_SELF, &after);
  EXPECT_LT(after.ru_maxrss - before.ru_maxrss, 1024) << "kB";
}

TEST(Safetensors, AFileCutShortUnderTheMapIsAnError) {
  TemporaryFolder folder;
  const std::string header = R"({"w":{"dtype":"U8","shape":[1000000],"data_offsets":[0,1000000]}})";
  const fs::path path = folder.write("cut.safetensors", file_of(header, 1'000'000));
  const SafetensorsFile file(path);
  fs::resize_file(path, 5000);
  EXPECT_THAT(message_of([&] { static_cast<void>(file.bytes(file.at("w"))); }), HasSubstr("became shorter"));
}

TEST(Safetensors, AMissingTensorIsNamed) {
  const SafetensorsFile file(kAttacks / "ok_one.safetensors");
  EXPECT_THAT(message_of([&] { static_cast<void>(file.at("nothing\n")); }), HasSubstr("nothing\\x0a"));
}

TEST(Safetensors, ValuesOfEveryFloatType) {
  const auto value = [](FileType type, std::initializer_list<int> raw) {
    std::vector<std::byte> bytes;
    for (const int b : raw) bytes.push_back(static_cast<std::byte>(b));
    float f = 0;
    to_float({&f, 1}, type, bytes);
    return f;
  };
  EXPECT_EQ(value(FileType::f64, {0, 0, 0, 0, 0, 0, 0xf8, 0xbf}), -1.5f);
  EXPECT_EQ(value(FileType::bf16, {0xc0, 0x3f}), 1.5f);
  EXPECT_EQ(value(FileType::f16, {0x00, 0x3e}), 1.5f);
  EXPECT_EQ(value(FileType::f8_e4m3, {0x3c}), 1.5f);
  EXPECT_EQ(value(FileType::f8_e5m2, {0x3e}), 1.5f);
  EXPECT_EQ(value(FileType::f8_e4m3fnuz, {0x44}), 1.5f);
  EXPECT_EQ(value(FileType::f8_e4m3fnuz, {0x01}), std::ldexp(1.0f, -10));
  EXPECT_EQ(value(FileType::f8_e5m2fnuz, {0x42}), 1.5f);
  EXPECT_TRUE(std::isnan(value(FileType::f8_e4m3fnuz, {0x80})));
  EXPECT_EQ(value(FileType::f8_e8m0, {130}), 8.0f);
  EXPECT_EQ(value(FileType::i64, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), -1.0f);
  EXPECT_EQ(value(FileType::boolean, {7}), 1.0f);
  EXPECT_EQ(message_of([&] { value(FileType::f4, {0}); }, Code::unsupported).empty(), false);
}

// Rebuilds written.safetensors, which data/make_written.py made with the reference.
TEST(Writer, WritesTheBytesOfTheReference) {
  const fs::path reference = fs::path(CUDREAM_SOURCE_DIR) / "tests/loader/data/written.safetensors";
  const SafetensorsFile made(reference);
  std::vector<TensorData> tensors;
  std::vector<std::vector<std::byte>> bytes;
  for (const TensorInfo& t : made.tensors()) {
    std::vector<std::byte>& raw = bytes.emplace_back(t.bytes);
    for (size_t i = 0; i < raw.size(); i++) raw[i] = static_cast<std::byte>((7 * i + 3) % 251);
    tensors.push_back({t.name, t.type, t.shape, raw});
  }
  EXPECT_EQ(tensors.size(), 25u);
  std::reverse(tensors.begin(), tensors.end());
  TemporaryFolder folder;
  const fs::path path = folder.path() / "ours.safetensors";
  write_safetensors(path, tensors, {{"note", "a \"quoted\"\nline, ünïcode"}});
  EXPECT_EQ(read_text(path, 1 << 20), read_text(reference, 1 << 20));
  EXPECT_THAT(message_of([&] { write_safetensors(path, tensors); }, Code::io), HasSubstr("exists already"));
}

TEST(Writer, WritesAnEmptyFile) {
  TemporaryFolder folder;
  write_safetensors(folder.path() / "empty.safetensors", {});
  EXPECT_EQ(read_text(folder.path() / "empty.safetensors", 100), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
}

}  // namespace
}  // namespace cudream
