// Both layouts are one another's inverse: names, shapes and bytes, against files of the reference implementation.
#include "loader/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>

#include "core/error.h"
#include "loader/hash.h"
#include "tests/golden/tensors.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

// "F16 [320,4,3,3]" and a hash of the bytes, by name, of the tensors that are weights.
std::map<std::string, std::string> weights_of(const std::filesystem::path& path) {
  const Model model = open_model(path);
  std::map<std::string, std::string> found;
  std::set<std::pair<uint32_t, uint32_t>> used;
  for (const auto& [name, source] : model.names().weights) used.emplace(source.file, source.tensor);
  for (const auto& [file, tensor] : used) {
    const TensorInfo& t = model.files()[file]->tensors()[tensor];
    const std::string part = model.names().files[file].part;
    found[(part.empty() ? "" : part + "/") + t.name] = t.str() + " " + sha256(model.files()[file]->bytes(t));
  }
  return found;
}

void convert(const std::filesystem::path& from, const std::filesystem::path& to, Conversion conversion = {}) {
  if (to.extension() != ".safetensors") conversion.layout = Conversion::Layout::folder;
  convert_model(open_model(from), conversion, to);
}

void expect_same_networks(const std::filesystem::path& one, const std::filesystem::path& other) {
  const ModelSpec a = open_model(one).spec(), b = open_model(other).spec();
  EXPECT_TRUE(a.unet == b.unet && a.vae == b.vae && a.text_encoders == b.text_encoders && a.noise == b.noise);
  EXPECT_EQ(a.native_size, b.native_size);
  EXPECT_EQ(a.prediction_known, b.prediction_known);
}

class RoundTrip : public testing::TestWithParam<const char*> {};

TEST_P(RoundTrip, GivesTheNamesShapesAndBytesOfTheOriginalFile) {
  const TemporaryFolder folder;
  const std::filesystem::path file = golden_model(GetParam() + std::string(".safetensors"));
  convert(file, folder.path() / "as-folder");
  convert(folder.path() / "as-folder", folder.path() / "back.safetensors");
  EXPECT_EQ(weights_of(folder.path() / "back.safetensors"), weights_of(file));
  // And says of itself what the configuration beside the original said.
  expect_same_networks(folder.path() / "back.safetensors", file);
  expect_same_networks(folder.path() / "as-folder", file);
}

INSTANTIATE_TEST_SUITE_P(Models, RoundTrip, testing::Values("sd1", "sd2", "sdxl", "sdxl-refiner"), [](const auto& model) {
  std::string name = model.param;
  std::erase(name, '-');
  return name;
});

// Folders that the reference implementation wrote.
class FromFolder : public testing::TestWithParam<const char*> {};

TEST_P(FromFolder, ComesBackAsItWas) {
  const TemporaryFolder folder;
  const std::filesystem::path given = golden_model(GetParam());
  convert(given, folder.path() / "one.safetensors");
  convert(folder.path() / "one.safetensors", folder.path() / "back");
  EXPECT_EQ(weights_of(folder.path() / "back"), weights_of(given));
  expect_same_networks(folder.path() / "back", given);
}

INSTANTIATE_TEST_SUITE_P(Models, FromFolder, testing::Values("lcm", "sd1-inpaint"), [](const auto& model) {
  std::string name = model.param;
  std::erase(name, '-');
  return name;
});

TEST(Convert, WritesTheSameBytesAgain) {
  const TemporaryFolder folder;
  const std::filesystem::path one = folder.path() / "one.safetensors", two = folder.path() / "two.safetensors";
  convert(golden_model("sd1.safetensors"), one);
  convert(golden_model("sd1.safetensors"), two);
  EXPECT_EQ(sha256_of_file(one), sha256_of_file(two));
}

TEST(Convert, KeepsMetadataButHashes) {
  const TemporaryFolder folder;
  convert(golden_model("sdxl.safetensors"), folder.path() / "one.safetensors", {.added = {{"merged_loras", "film:0.8"}}});
  const HeaderMetadata metadata = SafetensorsFile(folder.path() / "one.safetensors").header().metadata;
  EXPECT_THAT(metadata, Contains(Pair("modelspec.title", "tiny fixture")));
  EXPECT_THAT(metadata, Contains(Pair("merged_loras", "film:0.8")));
  EXPECT_THAT(metadata, Contains(Pair("config", HasSubstr("\"UNet2DConditionModel\""))));
}

TEST(Convert, RoundsOnceAndRefusesWhatDoesNotFit) {
  const TemporaryFolder folder;
  const std::filesystem::path wide = folder.path() / "wide.safetensors";
  const auto value = [](const std::filesystem::path& path) {
    const SafetensorsFile file(path);
    return file.floats(file.at("decoder.conv_in.bias")).at(0);
  };
  const auto write = [&](float first) {
    std::vector<std::vector<std::byte>> bytes;
    std::vector<TensorData> tensors;
    const SafetensorsFile vae(golden_model("sd1-inpaint") / "vae" / "diffusion_pytorch_model.safetensors");
    for (const TensorInfo& t : vae.tensors()) {
      std::vector<float> values = vae.floats(t);
      if (t.name == "decoder.conv_in.bias") values.front() = first;
      bytes.emplace_back(reinterpret_cast<const std::byte*>(values.data()),
                         reinterpret_cast<const std::byte*>(values.data() + values.size()));
    }
    for (size_t i = 0; i < bytes.size(); i++)
      tensors.push_back({vae.tensors()[i].name, FileType::f32, vae.tensors()[i].shape, bytes[i]});
    write_safetensors(wide, std::move(tensors), {}, Exists::replace);
  };
  write(1.0f + 0x1p-11f);  // between two values of f16: the even one
  convert(wide, folder.path() / "half", {.precision = FileType::f16});
  EXPECT_EQ(value(folder.path() / "half" / "vae" / "diffusion_pytorch_model.safetensors"), 1.0f);
  write(70000);
  convert(wide, folder.path() / "brain", {.precision = FileType::bf16});
  EXPECT_EQ(value(folder.path() / "brain" / "vae" / "diffusion_pytorch_model.safetensors"), 70144.0f);
  try {
    convert(wide, folder.path() / "again", {.precision = FileType::f16});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::unsupported);
    EXPECT_THAT(e.what(), HasSubstr("vae.decoder.conv_in.bias holds the value 70000, which F16 cannot hold"));
  }
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "again"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder.path()), {}), 3);  // wide, half, brain: nothing half-done
}

TEST(Convert, WritesNoFolderThatCannotSayWhatItPredicts) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "sd2.safetensors";  // without the configuration beside it
  std::filesystem::copy_file(golden_model("sd2.safetensors"), file);
  try {
    convert(file, folder.path() / "out");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::usage);
    EXPECT_THAT(e.what(), HasSubstr("pass --prediction"));
  }
  convert(file, folder.path() / "out", {.prediction = Prediction::v});
  EXPECT_EQ(open_model(folder.path() / "out").spec().noise.prediction, Prediction::v);
}

TEST(Convert, RefusesAdapters) {
  const TemporaryFolder folder;
  EXPECT_THROW(convert(golden_model("lora-sd1-kohya.safetensors"), folder.path() / "a.safetensors"), Error);
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "a.safetensors"));
}

}  // namespace
}  // namespace cudream
