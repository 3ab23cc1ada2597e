// Model folders: which files belong to one, and that none is read from elsewhere.
#include "loader/folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "loader/model.h"
#include "loader/values.h"
#include "tests/loader/errors.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

// The names of a folder's tensor files, part/name.
std::vector<std::string> found(const fs::path& folder) {
  std::vector<std::string> names;
  for (const ModelFiles::Weights& w : find_model_files(folder).weights)
    names.push_back(w.part + "/" + w.path.filename().string());
  return names;
}

TEST(Folder, PrefersThePlainNameThenShardsThenFp16) {
  TemporaryFolder folder;
  folder.write("m/unet/diffusion_pytorch_model.fp16.safetensors", "");
  EXPECT_EQ(found(folder.path() / "m"), std::vector<std::string>{"unet/diffusion_pytorch_model.fp16.safetensors"});
  folder.write("m/unet/diffusion_pytorch_model.safetensors.index.json",
               R"({"weight_map":{"b":"b.safetensors","a":"a.safetensors","c":"a.safetensors"}})");
  folder.write("m/unet/a.safetensors", "");
  folder.write("m/unet/b.safetensors", "");
  EXPECT_EQ(found(folder.path() / "m"), (std::vector<std::string>{"unet/a.safetensors", "unet/b.safetensors"}));
  folder.write("m/unet/diffusion_pytorch_model.safetensors", "");
  EXPECT_EQ(found(folder.path() / "m"), std::vector<std::string>{"unet/diffusion_pytorch_model.safetensors"});
}

TEST(Folder, SaysWhatIsWrong) {
  TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { found(folder.path() / "absent"); }, Code::not_found), HasSubstr("there is no file or folder"));
  EXPECT_THAT(message_of([&] { found(folder.path()); }, Code::not_found), HasSubstr("holds no model"));
  EXPECT_THAT(message_of([&] { found("/dev/null"); }), HasSubstr("neither a file nor a folder"));
  folder.write("m/unet/diffusion_pytorch_model.bin", "");
  EXPECT_THAT(message_of([&] { found(folder.path() / "m"); }, Code::unsupported), HasSubstr("pickles only"));
  folder.write("m/unet/diffusion_pytorch_model.safetensors.index.json", "[]");
  EXPECT_THAT(message_of([&] { found(folder.path() / "m"); }), HasSubstr("not a JSON object"));
  folder.write("m/unet/diffusion_pytorch_model.safetensors.index.json", R"({"weight_map":{"a":"gone.safetensors"}})");
  EXPECT_THAT(message_of([&] { found(folder.path() / "m"); }), HasSubstr("gone.safetensors, which is not there"));
  folder.write("m/unet/diffusion_pytorch_model.safetensors.index.json", R"({"weight_map":{"a":7}})");
  EXPECT_THAT(message_of([&] { found(folder.path() / "m"); }), HasSubstr("not a text"));
}

TEST(Folder, ShardsArePlainNames) {
  TemporaryFolder folder;
  folder.write("secret.safetensors", "");
  folder.write("m/secret.safetensors", "");
  for (const std::string name : {"../secret.safetensors", "../../secret.safetensors", "/etc/passwd", "..", ".", "",
                                 "a/b.safetensors", "a\\\\b.safetensors", "b.safetensors\\u0000"}) {
    SCOPED_TRACE(name);
    folder.write("m/unet/diffusion_pytorch_model.safetensors.index.json", R"({"weight_map":{"a":")" + name + R"("}})");
    EXPECT_THAT(message_of([&] { found(folder.path() / "m"); }), HasSubstr("not a plain name"));
  }
}

TEST(Folder, LinksMayNotLeaveIt) {
  TemporaryFolder folder;
  const fs::path outside = folder.write("outside.safetensors", "");
  folder.write("m/unet/config.json", "{}");
  const fs::path link = folder.path() / "m/unet/diffusion_pytorch_model.safetensors";
  fs::create_symlink(outside, link);
  EXPECT_THAT(message_of([&] { found(folder.path() / "m"); }), HasSubstr("outside of the model's folder"));

  // A sub-folder, or a configuration, that is a link is no better.
  fs::create_directories(folder.path() / "elsewhere");
  folder.write("elsewhere/diffusion_pytorch_model.safetensors", "");
  fs::create_directories(folder.path() / "n");
  fs::create_directory_symlink(folder.path() / "elsewhere", folder.path() / "n/unet");
  EXPECT_THAT(message_of([&] { found(folder.path() / "n"); }), HasSubstr("outside of the model's folder"));

  // Inside the folder they may point where they like, and the folder itself may be reached by one.
  fs::remove(link);
  folder.write("m/unet/real.safetensors", "");
  fs::create_symlink("real.safetensors", link);
  fs::create_directory_symlink(folder.path() / "m", folder.path() / "alias");
  EXPECT_EQ(found(folder.path() / "alias").size(), 1u);
}

TEST(Folder, TheHuggingFaceCacheLinksIntoItsBlobs) {
  TemporaryFolder folder;
  const fs::path repository = folder.path() / "hub/models--org--name";
  folder.write("hub/models--org--name/blobs/0123", "");
  folder.write("hub/models--org--other/blobs/4567", "");
  const fs::path snapshot = repository / "snapshots/abc", file = snapshot / "unet/diffusion_pytorch_model.safetensors";
  fs::create_directories(snapshot / "unet");
  fs::create_symlink("../../../blobs/0123", file);
  EXPECT_EQ(found(snapshot).size(), 1u);
  fs::remove(file);
  fs::create_symlink("../../../../models--org--other/blobs/4567", file);
  EXPECT_THAT(message_of([&] { found(snapshot); }), HasSubstr("outside of the model's folder"));
}

// ---- Configurations -------------------------------------------------------------------------------------------------------

// A VAE of 8 channels, with or without a configuration in its metadata.
fs::path write_vae(const fs::path& path, const HeaderMetadata& metadata) {
  const std::vector<std::byte> zeros(4096);
  const auto tensor = [&](std::string name, std::vector<uint64_t> shape) {
    uint64_t n = 4;
    for (const uint64_t d : shape) n *= d;
    return TensorData{std::move(name), FileType::f32, std::move(shape), std::span(zeros).first(n)};
  };
  fs::create_directories(path.parent_path());
  write_safetensors(path,
                    {tensor("decoder.conv_in.weight", {8, 4, 3, 3}), tensor("decoder.conv_out.weight", {3, 8, 1, 1}),
                     tensor("decoder.up_blocks.0.resnets.0.conv1.weight", {8, 8, 1, 1})},
                    metadata, Exists::replace);
  return path;
}

TEST(Configs, ComeFromTheFileThenFromBesideItThenFromTheFamily) {
  TemporaryFolder folder;
  const fs::path path = folder.path() / "v/diffusion_pytorch_model.safetensors";
  EXPECT_THAT(message_of([&] { open_model(write_vae(path, {})); }), HasSubstr("8 channels, which 32 groups do not divide"));
  folder.write("v/config.json", R"({"_class_name":"AutoencoderKL","norm_num_groups":2,"scaling_factor":0.5})");
  EXPECT_EQ(open_model(path).spec().vae->groups, 2);
  EXPECT_FLOAT_EQ(open_model(path).spec().vae->scaling_factor, 0.5f);
  EXPECT_EQ(open_model(folder.path() / "v").spec().vae->groups, 2);  // the component's folder
  folder.write("v/diffusion_pytorch_model.config.json", R"({"vae":{"norm_num_groups":4}})");
  EXPECT_EQ(open_model(path).spec().vae->groups, 4);
  write_vae(path, {{"config", R"({"vae":{"norm_num_groups":8}})"}});
  EXPECT_EQ(open_model(path).spec().vae->groups, 8);
}

TEST(Configs, AreReadWithTypesChecked) {
  TemporaryFolder folder;
  const auto refusal = [&](const std::string& config) {
    return message_of([&] { open_model(write_vae(folder.path() / "v/a.safetensors", {{"config", config}})); });
  };
  EXPECT_THAT(refusal(R"({"vae":{"norm_num_groups":"8"}})"), HasSubstr("norm_num_groups that is not a whole number"));
  EXPECT_THAT(refusal(R"({"vae":{"norm_num_groups":-1}})"), HasSubstr("-1 groups"));
  EXPECT_THAT(refusal(R"({"vae":{"norm_num_groups":3}})"), HasSubstr("do not divide"));
  EXPECT_THAT(refusal(R"({"vae":[]})"), HasSubstr("not an object"));
  EXPECT_THAT(refusal("{"), HasSubstr("not a JSON object"));
  // Other programs put other things under the same key.
  EXPECT_THAT(refusal("sd1.yaml"), HasSubstr("NAME.config.json"));
}

// ---- Values that are not finite -------------------------------------------------------------------------------------------

TEST(Check, CountsWhatIsNotFinite) {
  TemporaryFolder folder;
  const std::vector<float> bad = {1, NAN, INFINITY, -INFINITY, 0};
  const std::vector<uint16_t> bad_halves = {0x3c00, 0x7c00, 0xfe00, 0xfbff};
  const fs::path path = folder.path() / "a.safetensors";
  write_safetensors(path, {{"a", FileType::f32, {5}, std::as_bytes(std::span(bad))},
                           {"b", FileType::f16, {4}, std::as_bytes(std::span(bad_halves))}});
  const SafetensorsFile file(path);
  EXPECT_EQ(count_non_finite(file, file.at("a")), 3u);
  EXPECT_EQ(count_non_finite(file, file.at("b")), 2u);
}

}  // namespace
}  // namespace cudream
