// Where models are looked for, and how one is chosen.
#include "loader/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tests/loader/errors.h"
#include "tests/loader/facts.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest() {
    places_.models = folder_.path() / "home/models";
    places_.demo = folder_.path() / "share/models";
    places_.hugging_face = folder_.path() / "hub";
  }
  std::vector<std::string> names() const {
    const Catalog catalog(places_);
    std::vector<std::string> all;
    for (const CatalogEntry& e : catalog.list()) all.push_back(std::string(describe(e.origin)) + ": " + e.name);
    return all;
  }

  TemporaryFolder folder_;
  ModelPlaces places_;
};

TEST_F(CatalogTest, NothingAnywhereIsNotAnError) {
  EXPECT_THAT(names(), IsEmpty());
  EXPECT_THAT(message_of([&] { Catalog(places_).choose("", Task::generate); }, Code::not_found),
              HasSubstr(places_.models.string()));
  EXPECT_THAT(message_of([&] { Catalog(places_).find("x"); }, Code::not_found), HasSubstr(places_.models.string()));
}

TEST_F(CatalogTest, FindsModelsInEveryKindOfPlace) {
  folder_.write("home/models/mine.safetensors", "12345");
  folder_.write("home/models/sub/deep.SAFETENSORS", "");
  folder_.write("home/models/old.ckpt", "");
  folder_.write("home/models/notes.txt", "");
  folder_.write("home/models/.hidden.safetensors", "");
  folder_.write("home/models/pipeline/model_index.json", "{}");
  folder_.write("home/models/pipeline/unet/diffusion_pytorch_model.safetensors", "123");
  folder_.write("share/models/demo.safetensors", "");
  folder_.write("comfy/models/checkpoints/c.safetensors", "");
  folder_.write("comfy/models/loras/l.safetensors", "");
  folder_.write("a1111/models/Stable-diffusion/anime/a.safetensors", "");
  folder_.write("plain/p.safetensors", "");
  folder_.write("hub/models--org--the-model/snapshots/abc/model_index.json", "{}");
  folder_.write("hub/models--org--the-model/snapshots/old/model_index.json", "{}");
  folder_.write("hub/models--org--the-model/refs/main", "abc");
  folder_.write("hub/models--org--single/snapshots/abc/v1-5.safetensors", "");
  folder_.write("hub/datasets--org--data/snapshots/abc/x.safetensors", "");
  places_.options = {folder_.path() / "comfy", folder_.path() / "absent"};
  places_.environment = {folder_.path() / "plain", folder_.path() / "home/models"};  // the same folder twice
  places_.web_uis = {folder_.path() / "a1111"};
  EXPECT_THAT(names(), ElementsAre("models folder: mine", "models folder: old", "models folder: pipeline", "models folder: deep",
                                   "--models-dir: c", "CUDREAM_MODELS: p", "web interface: a",
                                   "Hugging Face cache: org/single/v1-5", "Hugging Face cache: org/the-model", "demo: demo"));
  const Catalog catalog(places_);
  EXPECT_EQ(catalog.find("mine").bytes, 5u);
  EXPECT_EQ(catalog.find("pipeline").bytes, 3u);
  EXPECT_EQ(catalog.find("the-model").path.filename(), "abc");
  EXPECT_TRUE(catalog.find("org/the-model").folder);
}

TEST_F(CatalogTest, FindsByWholeNameThenByUniquePart) {
  folder_.write("home/models/Dream.safetensors", "");
  folder_.write("home/models/dream-XL.safetensors", "");
  folder_.write("home/models/other.safetensors", "");
  const Catalog catalog(places_);
  EXPECT_EQ(catalog.find("dream").name, "Dream");
  EXPECT_EQ(catalog.find("Dream.safetensors").name, "Dream");
  EXPECT_EQ(catalog.find("xl").name, "dream-XL");
  EXPECT_THAT(message_of([&] { catalog.find("rea"); }, Code::usage),
              AllOf(HasSubstr("fits 2 models"), HasSubstr("dream-XL.safetensors")));
  EXPECT_THAT(message_of([&] { catalog.find("dreem"); }, Code::not_found),
              AllOf(HasSubstr("The nearest: Dream, "), HasSubstr(places_.models.string())));
  EXPECT_THAT(message_of([&] { catalog.find("../../etc/passwd"); }, Code::not_found), HasSubstr("no model is named"));
  EXPECT_THAT(message_of([&] { catalog.find(""); }, Code::not_found), HasSubstr("no model is named"));
  EXPECT_THAT(message_of([&] { catalog.find("x\x1b[2J"); }, Code::not_found), Not(HasSubstr("\x1b")));
}

TEST_F(CatalogTest, FindsControlNets) {
  folder_.write("comfy/models/checkpoints/c.safetensors", "");
  folder_.write("comfy/models/controlnet/canny.safetensors", "");
  folder_.write("a1111/models/Stable-diffusion/a.safetensors", "");
  folder_.write("a1111/models/ControlNet/depth.safetensors", "");
  folder_.write("home/models/pose/config.json", "{}");
  folder_.write("home/models/pose/diffusion_pytorch_model.safetensors", "");
  folder_.write("hub/models--org--tile/snapshots/1/config.json", "{}");
  folder_.write("hub/models--org--tile/snapshots/1/diffusion_pytorch_model.safetensors", "");
  places_.web_uis = {folder_.path() / "comfy", folder_.path() / "a1111"};
  EXPECT_THAT(names(), ElementsAre("models folder: pose", "web interface: c", "web interface: canny", "web interface: a",
                                   "web interface: depth", "Hugging Face cache: org/tile"));
}

TEST_F(CatalogTest, FindsAutoencoders) {
  folder_.write("comfy/models/checkpoints/c.safetensors", "");
  folder_.write("comfy/models/vae/fine.safetensors", "");
  folder_.write("comfy/models/vae_approx/taesd_decoder.safetensors", "");
  folder_.write("a1111/models/Stable-diffusion/a.safetensors", "");
  folder_.write("a1111/models/VAE/soft.safetensors", "");
  places_.web_uis = {folder_.path() / "comfy", folder_.path() / "a1111"};
  EXPECT_THAT(names(), ElementsAre("web interface: c", "web interface: fine", "web interface: taesd_decoder", "web interface: a",
                                   "web interface: soft"));
}

TEST_F(CatalogTest, FindsTheTinyDecoderOfAModel) {
  fs::create_directories(places_.models);
  make_sparse("taesd-encoder-original-f32", places_.models);
  EXPECT_EQ(Catalog(places_).tiny_decoder({.family = Family::sd1, .vae = VaeSpec{}}), nullptr);
  make_sparse("taesd-decoder-original-f32", places_.models);
  fs::rename(make_sparse("taesd-diffusers-f32", places_.models), places_.models / "taesdxl.safetensors");
  const Catalog catalog(places_);
  const auto found = [&](Family family) { return catalog.tiny_decoder({.family = family, .vae = VaeSpec{}})->name; };
  EXPECT_EQ(found(Family::sd1), "taesd-decoder-original-f32");
  EXPECT_EQ(found(Family::sdxl), "taesdxl");
  EXPECT_EQ(catalog.tiny_decoder({.vae = VaeSpec{.latent_channels = 16}}), nullptr);
  EXPECT_EQ(catalog.tiny_decoder({.family = Family::sd1, .vae = VaeSpec{.channels = {64, 128}}}), nullptr);
}

TEST_F(CatalogTest, WithoutANameTheOnlyOwnModelIsChosenElseTheDemo) {
  folder_.write("share/models/demo.safetensors", "");
  EXPECT_EQ(Catalog(places_).choose("", Task::generate).name, "demo");
  folder_.write("home/models/mine.safetensors", "");
  EXPECT_EQ(Catalog(places_).choose("", Task::generate).name, "mine");
  EXPECT_EQ(Catalog(places_).choose("demo", Task::generate).name, "demo");
  EXPECT_THAT(message_of([&] { Catalog(places_).choose("gone", Task::generate); }, Code::not_found), HasSubstr("gone"));
}

TEST_F(CatalogTest, TheDemoIsNeverTheUsersOwn) {
  folder_.write("share/models/demo.safetensors", "");
  places_.options = {places_.demo};
  EXPECT_THAT(names(), ElementsAre("demo: demo"));
}

TEST_F(CatalogTest, OfSeveralOnlyWholeModelsCount) {
  fs::create_directories(places_.models);
  make_sparse("sd15-merge-f16", places_.models);
  make_sparse("vae-diffusers-f32", places_.models);
  make_sparse("lora-kohya-sd15-r32-f16", places_.models);
  folder_.write("home/models/broken.safetensors", "");
  EXPECT_EQ(Catalog(places_).choose("", Task::generate).name, "sd15-merge-f16");
  make_sparse("sd15-inpainting-f32", places_.models);
  EXPECT_EQ(Catalog(places_).choose("", Task::generate).name, "sd15-merge-f16");
  EXPECT_EQ(Catalog(places_).choose("", Task::inpaint).name, "sd15-inpainting-f32");
  EXPECT_THAT(message_of([&] { Catalog(places_).choose("", Task::instruct); }, Code::not_found),
              HasSubstr("edits by instruction"));
  fs::create_hard_link(places_.models / "sd15-merge-f16.safetensors", places_.models / "sd15.safetensors");
  EXPECT_THAT(message_of([&] { Catalog(places_).choose("", Task::generate); }, Code::usage),
              AllOf(HasSubstr("there are 2 models; choose one with -m"), HasSubstr("sd15-merge"), Not(HasSubstr("vae")),
                    Not(HasSubstr("inpainting"))));
}

TEST_F(CatalogTest, AModelBesideTheNamedOneIsFound) {
  fs::create_directories(places_.models);
  make_sparse("sd15-merge-f16", places_.models);
  make_sparse("sd15-inpainting-f32", places_.models);
  fs::rename(places_.models / "sd15-merge-f16.safetensors", places_.models / "SD15.safetensors");
  const Catalog catalog(places_);
  const CatalogEntry& named = catalog.find("sd15.safetensors");
  ASSERT_NE(catalog.beside(named, Task::inpaint), nullptr);
  EXPECT_EQ(catalog.beside(named, Task::inpaint)->name, "sd15-inpainting-f32");
  EXPECT_EQ(catalog.beside(named, Task::instruct), nullptr);
  EXPECT_EQ(catalog.choose("sd15.safetensors", Task::inpaint).name, "sd15-inpainting-f32");
}

TEST(Places, ComeFromTheEnvironment) {
  const auto set = [](const char* name, const char* value) { value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1); };
  for (const char* name : {"XDG_DATA_HOME", "XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "CUDREAM_MODELS"}) set(name, nullptr);
  set("HOME", "/home/u");
  ModelPlaces places = model_places({"/x"}, "/share");
  EXPECT_EQ(places.models, "/home/u/.local/share/cudream/models");
  EXPECT_EQ(places.hugging_face, "/home/u/.cache/huggingface/hub");
  EXPECT_THAT(places.options, ElementsAre("/x"));
  EXPECT_THAT(places.environment, IsEmpty());
  set("XDG_DATA_HOME", "/data");
  set("CUDREAM_MODELS", "/a::/b:");
  set("HF_HOME", "/hf");
  places = model_places({}, "/share");
  EXPECT_EQ(places.models, "/data/cudream/models");
  EXPECT_EQ(places.hugging_face, "/hf/hub");
  EXPECT_THAT(places.environment, ElementsAre("/a", "/b"));
}

}  // namespace
}  // namespace cudream
