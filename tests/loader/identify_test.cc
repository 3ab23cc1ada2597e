// Real models, by their headers alone.
#include "loader/identify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "loader/model.h"
#include "tests/loader/facts.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;
using json = nlohmann::json;

class RealHeader : public ::testing::TestWithParam<std::string> {};

INSTANTIATE_TEST_SUITE_P(Models, RealHeader, ::testing::ValuesIn(header_names()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

std::vector<std::string> texts(const json& expect, const char* key) {
  return expect.value(key, std::vector<std::string>{});
}

TEST_P(RealHeader, IsIdentified) {
  const json fact = header_fact(GetParam());
  const json& expect = fact["expect"];
  TemporaryFolder folder;
  const std::filesystem::path path = make_sparse(GetParam(), folder.path());
  if (fact.contains("file_bytes")) {
    EXPECT_EQ(std::filesystem::file_size(path), fact["file_bytes"]);
  }
  const Identity id = open_model(path).identity();
  EXPECT_EQ(name_of(id.verdict), expect["verdict"]);
  EXPECT_EQ(id.family, expect["family"]);
  EXPECT_EQ(id.task, expect["task"]);
  // "epsilon (scheduler config)": the word in parentheses is the fact's reason.
  const std::string prediction = expect["prediction"];
  EXPECT_EQ(id.prediction, prediction.substr(0, prediction.find(" (")));
  EXPECT_THAT(id.parts, UnorderedElementsAreArray(texts(expect, "parts")));
  EXPECT_THAT(id.missing, UnorderedElementsAreArray(texts(expect, "missing")));
  // Every file may have a logit_scale, so it is never called extra; of Kolors' projection the fact names only the matrix.
  std::vector<std::string> extra = texts(expect, "extra");
  // A guidance embedding is a part of the network here.
  std::erase_if(extra,
                [](const std::string& name) { return name.ends_with("logit_scale") || name.find("cond_proj") != name.npos; });
  if (id.family == "kolors") extra.emplace_back("encoder_hid_proj.bias [2048]");
  EXPECT_THAT(id.extra, UnorderedElementsAreArray(extra));
}

ModelSpec spec_of(const std::string& name) {
  TemporaryFolder folder;
  return open_model(make_sparse(name, folder.path())).spec();
}

TEST(Spec, Sd15IsTheDefaultOfEveryNumber) {
  for (const std::string name : {"sd15-emaonly-f32", "sd15-merge-f16", "sd15-diffusers-tree-bf16"}) {
    SCOPED_TRACE(name);
    const ModelSpec spec = spec_of(name);
    EXPECT_EQ(spec.family, Family::sd1);
    EXPECT_EQ(spec.task, Task::generate);
    EXPECT_EQ(spec.unet, UNetSpec{});
    EXPECT_EQ(spec.vae, VaeSpec{});
    EXPECT_EQ(spec.text_encoders, std::vector{TextEncoderSpec{}});
    EXPECT_EQ(spec.noise, NoiseSpec{});
    EXPECT_EQ(spec.native_size, 512);
    EXPECT_EQ(spec.assumed.empty(), name == "sd15-diffusers-tree-bf16");
  }
}

TEST(Spec, TasksAreToldByTheInputChannels) {
  EXPECT_EQ(spec_of("sd15-inpainting-f32").task, Task::inpaint);
  EXPECT_EQ(spec_of("sd15-inpainting-f32").unet->in_channels, 9);
  EXPECT_EQ(spec_of("instruct-pix2pix-ema-f32").task, Task::instruct);
}

TEST(Spec, Sd2HasItsOwnHeadsAndText) {
  const ModelSpec spec = spec_of("sd21-768-v-f32");
  EXPECT_EQ(spec.unet->heads, (std::vector<int>{5, 10, 20, 20}));
  EXPECT_EQ(spec.unet->context, 1024);
  EXPECT_EQ(spec.text_encoders.at(0).layers, 23);  // 24 are stored, the last is not used
  EXPECT_EQ(spec.text_encoders.at(0).act, Act::gelu);
  EXPECT_EQ(spec.text_encoders.at(0).pad_token, 0);
}

TEST(Spec, SdxlHasTwoTextEncoders) {
  const ModelSpec spec = spec_of("sdxl-base-f16");
  EXPECT_EQ(spec.unet->down_depth, (std::vector<std::vector<int>>{{0, 0}, {2, 2}, {10, 10}}));
  EXPECT_EQ(spec.unet->size_count(spec.text_encoders.at(1).projection), 6);
  EXPECT_EQ(spec.unet->mid_depth, 10);
  EXPECT_EQ(spec.unet->heads, (std::vector<int>{5, 10, 20}));
  EXPECT_EQ(spec.unet->pooled_embedding, 2816);
  EXPECT_FLOAT_EQ(spec.vae->scaling_factor, 0.13025f);
  ASSERT_EQ(spec.text_encoders.size(), 2u);
  EXPECT_EQ(spec.text_encoders[1].projection, 1280);
  EXPECT_EQ(spec.text_encoders[1].heads, 20);
}

TEST(Spec, FilesAndFoldersOfOneModelAgree) {
  const ModelSpec file = spec_of("sdxl-base-f16"), folder = spec_of("sdxl-diffusers-tree-f16"),
                  shards = spec_of("sdxl-diffusers-tree-sharded-bf16");
  EXPECT_EQ(file.unet, folder.unet);
  EXPECT_EQ(file.vae, folder.vae);
  EXPECT_EQ(file.text_encoders, folder.text_encoders);
  EXPECT_EQ(folder.unet, shards.unet);
}

std::vector<std::string> weight_names(const std::string& name) {
  TemporaryFolder folder;
  const Model model = open_model(make_sparse(name, folder.path()));
  std::vector<std::string> names;
  for (const auto& [weight, unused] : model.names().weights) names.push_back(weight);
  return names;
}

TEST(Names, AreTheSameForEveryNamingOfAModel) {
  EXPECT_EQ(weight_names("sd15-emaonly-f32"), weight_names("sd15-diffusers-tree-bf16"));
  EXPECT_EQ(weight_names("sdxl-base-f16"), weight_names("sdxl-diffusers-tree-f16"));
  EXPECT_EQ(weight_names("controlnet-sd15-original-f32"), weight_names("controlnet-sd15-diffusers-f32"));
  EXPECT_EQ(weight_names("vae-original-names-f16"), weight_names("vae-diffusers-f32"));
  EXPECT_EQ(weight_names("vae-diffusers-old-attention-names-f32"), weight_names("vae-diffusers-f32"));
}

TEST_P(RealHeader, EveryTensorHasOneMeaning) {
  TemporaryFolder folder;
  const Model model = open_model(make_sparse(GetParam(), folder.path()));
  std::map<std::tuple<uint32_t, uint32_t, uint8_t>, int> uses;
  for (const auto& [name, s] : model.names().weights) uses[{s.file, s.tensor, s.piece}]++;
  for (const Source& s : model.names().buffers) uses[{s.file, s.tensor, 0}]++;
  for (const Source& s : model.names().unknown) uses[{s.file, s.tensor, 0}]++;
  for (const auto& [place, count] : uses) EXPECT_EQ(count, 1);
}

TEST(Runnable, SaysWhatAFileIsAndWhatIsMissing) {
  const auto refusal = [](const std::string& name) -> std::string {
    TemporaryFolder folder;
    try {
      require_runnable(open_model(make_sparse(name, folder.path())));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::unsupported);
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(refusal("sd15-merge-f16"), "");
  EXPECT_EQ(refusal("sd15-diffusers-tree-bf16"), "");
  EXPECT_THAT(refusal("lora-kohya-sd15-r32-f16"), HasSubstr("is an adapter (lora for sd1)"));
  EXPECT_THAT(refusal("vae-diffusers-f32"), HasSubstr("part of a model"));
  EXPECT_THAT(refusal("flux1-dev-diffusers-tree"), HasSubstr("FLUX.1"));
  EXPECT_THAT(refusal("kolors-unet-f16"), HasSubstr("Kolors"));
  EXPECT_THAT(refusal("sdturbo-diffusers-unet-f32"), HasSubstr("--vae FILE"));
  EXPECT_THAT(refusal("bk-sdm-tiny-unet-f32"), HasSubstr("--vae FILE"));
  EXPECT_THAT(refusal("ssd-1b-unet-f16"), HasSubstr("--vae FILE"));
  EXPECT_EQ(refusal("sdxl-base-f16"), "");
}

}  // namespace
}  // namespace cudream
