// Opening models, binding them to the networks, and the bytes that arrive on a device.
#include "loader/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "kernels/reference/reference_device.h"
#include "nets/controlnet.h"
#include "tests/golden/tensors.h"
#include "tests/loader/errors.h"
#include "tests/loader/facts.h"
#include "tests/loader/networks.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// Every weight that the model has, by its canonical name.
void request_all(WeightStore& store, const Model& model) {
  for (const auto& [name, source] : model.names().weights) {
    Shape shape;
    for (const uint64_t n : model.names().shape(source)) shape.n[static_cast<size_t>(shape.rank++)] = static_cast<int64_t>(n);
    store.root().get(name, Use::vector, shape);
  }
}

using Values = std::map<std::string, std::vector<float>>;

// All weights of a model as they arrive on the reference device.
Values values_of(const Model& model) {
  const std::unique_ptr<Device> device = open_reference();
  WeightStore store;
  request_all(store, model);
  load_weights(model, store, *device);
  Values values;
  for (const WeightRequest& r : store.requests()) {
    const float* data = r.weight.data.as<float>();
    values[r.parts.front()].assign(data, data + r.weight.shape.size());
  }
  return values;
}

// ---- Real models --------------------------------------------------------------------------------------------------------

class WholeModel : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, WholeModel,
                         ::testing::Values("sd15-emaonly-f32", "sd15-merge-f16", "sd15-diffusers-tree-bf16",
                                           "sd15-inpainting-f32", "instruct-pix2pix-ema-f32", "sd21-768-v-f32",
                                           "sd2-inpainting-f32", "sdxl-base-f16", "sdxl-refiner-f16", "sdxl-diffusers-tree-f16",
                                           "sdxl-diffusers-tree-sharded-bf16"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(WholeModel, GivesTheNetworksAllTheyAskForAndNothingElse) {
  TemporaryFolder folder;
  const Model model = open_model(make_sparse(GetParam(), folder.path()));
  require_runnable(model);
  WeightStore store;
  request_networks(store, model.spec());
  EXPECT_NO_THROW(check_weights(model, store));
}

TEST(ControlNets, OfEveryNamingGiveTheNetworkAllItAsksFor) {
  TemporaryFolder folder;
  for (const std::string name :
       {"controlnet-sd15-diffusers-f32", "controlnet-sd15-original-f32", "controlnet-sdxl-diffusers-f16"}) {
    SCOPED_TRACE(name);
    const Model model = open_model(make_sparse(name, folder.path()));
    ASSERT_TRUE(model.spec().controlnet);
    EXPECT_EQ(model.spec().controlnet->hint_channels, (std::vector<int64_t>{16, 32, 96, 256}));
    WeightStore store;
    ControlNet(store.root() / "controlnet", *model.spec().controlnet);
    EXPECT_NO_THROW(check_weights(model, store));
    EXPECT_THAT(message_of([&] { require_runnable(model); }, Code::unsupported), HasSubstr("and this with --control"));
  }
}

TEST(ReplaceVae, TakesEveryNaming) {
  TemporaryFolder folder;
  for (const std::string name :
       {"vae-diffusers-f32", "vae-diffusers-old-attention-names-f32", "vae-original-names-f16", "sd15-merge-f16"}) {
    SCOPED_TRACE(name);
    Model model = open_model(make_sparse("sd15-emaonly-f32", folder.path()));
    model.replace_vae(make_sparse(name, folder.path()));
    WeightStore store;
    request_networks(store, model.spec());
    EXPECT_NO_THROW(check_weights(model, store));
    const Source& source = model.names().weights.at("vae.decoder.conv_in.weight");
    EXPECT_EQ(model.files()[source.file]->path().stem(), name);
    EXPECT_EQ(model.names().stored(source).bytes,
              model.names().files[source.file].header->find(model.names().stored(source).name)->bytes);
  }
}

TEST(ReplaceVae, CompletesAUNetThatStandsAlone) {
  TemporaryFolder folder;
  Model model = open_model(make_sparse("sdturbo-diffusers-unet-f32", folder.path()));
  EXPECT_THAT(message_of([&] { require_runnable(model); }, Code::unsupported), HasSubstr("--vae FILE"));
  model.replace_vae(make_sparse("vae-diffusers-f32", folder.path()));
  EXPECT_THAT(message_of([&] { require_runnable(model); }, Code::unsupported), HasSubstr("no text encoder"));
}

TEST(ReplaceVae, RefusesWhatIsNoVae) {
  TemporaryFolder folder;
  Model model = open_model(make_sparse("sd15-emaonly-f32", folder.path()));
  const fs::path lora = make_sparse("lora-kohya-sd15-r32-f16", folder.path()),
                 half = make_sparse("taesd-encoder-original-f32", folder.path());
  EXPECT_THAT(message_of([&] { model.replace_vae(lora); }), HasSubstr("holds no VAE (sd1 lora)"));
  EXPECT_THAT(message_of([&] { model.replace_vae(half); }), HasSubstr("only the encoder of a tiny autoencoder"));
}

TEST(ReplaceVae, TakesATinyOneWithTheScaleOfTheModel) {
  TemporaryFolder folder;
  const std::pair<const char*, float> models[] = {{"sd15-emaonly-f32", 0.18215f}, {"sdxl-base-f16", 0.13025f}};
  for (const auto& [name, scale] : models)
    for (const std::string tiny : {"taesd-diffusers-f32", "taesd-decoder-original-f32"}) {
      SCOPED_TRACE(name + (" " + tiny));
      Model model = open_model(make_sparse(name, folder.path()));
      model.replace_vae(make_sparse(tiny, folder.path()));
      const VaeSpec expected{.channels = {64, 64, 64, 64},
                             .layers = 3,
                             .scaling_factor = scale,
                             .tiny = true,
                             .encoder = tiny == "taesd-diffusers-f32"};
      EXPECT_EQ(model.spec().vae, expected);
      WeightStore store;
      request_networks(store, model.spec());
      EXPECT_NO_THROW(check_weights(model, store));
      EXPECT_NO_THROW(require_runnable(model));
    }
}

TEST(TinyAutoencoder, ItsOwnFilesHoldTheHalvesOfTheFolder) {
  Values halves = values_of(open_model(golden_model("taesd_encoder.safetensors")));
  halves.merge(values_of(open_model(golden_model("taesd_decoder.safetensors"))));
  EXPECT_EQ(halves, values_of(open_model(golden_model("taesd"))));
}

// Of the processor's time, since other programs run beside the tests.
TEST(Opening, TakesMilliseconds) {
  TemporaryFolder folder;
  const fs::path path = make_sparse("sdxl-base-f16", folder.path());
  const std::clock_t start = std::clock();
  open_model(path);
  EXPECT_LT(std::clock() - start, CLOCKS_PER_SEC / 2);
}

// ---- Problems, all at once ------------------------------------------------------------------------------------------------

TEST(Binding, ReportsEveryProblemGrouped) {
  TemporaryFolder folder;
  const Model model = open_model(make_sparse("sd15-merge-f16", folder.path()));
  ModelSpec spec = model.spec();
  for (auto& level : spec.unet->down_depth) level.push_back(level.front());  // asks for blocks that the file lacks
  for (auto& level : spec.unet->up_depth) level.push_back(level.front());
  spec.unet->out_channels = 5;        // another shape
  spec.text_encoders[0].layers = 11;  // leaves a layer unclaimed
  spec.vae.reset();                   // asks for nothing of the VAE: none of its tensors is unclaimed
  WeightStore store;
  request_networks(store, spec);
  EXPECT_THAT(message_of([&] { check_weights(model, store); }),
              AllOf(HasSubstr("sd15-merge-f16.safetensors"), HasSubstr("text_encoder: 16 tensors have no place in the network"),
                    HasSubstr("tensors are missing: unet.down_blocks.0.resnets.2"), HasSubstr("and "),
                    HasSubstr("unet.conv_out.weight has the shape [4,320,3,3], expected [5,320,3,3]"), Not(HasSubstr("vae"))));
}

TEST(Binding, SaysWhichOptionGivesAMissingVae) {
  TemporaryFolder folder;
  const Model model = open_model(make_sparse("lcm-dreamshaper-v7-unet-f32", folder.path()));
  WeightStore store;
  const Autoencoder unused(store.root() / "vae", VaeSpec{});
  EXPECT_THAT(message_of([&] { check_weights(model, store); }),
              HasSubstr("vae: missing (248 tensors); pass one with --vae FILE"));
}

// ---- Bytes --------------------------------------------------------------------------------------------------------------

struct Made {
  std::string name;
  FileType type;
  std::vector<uint64_t> shape;
  std::vector<float> values;
};

// A file of tensors given as numbers, stored as F64, F32 or BF16.
fs::path write_file(const fs::path& path, const std::vector<Made>& tensors) {
  std::vector<std::vector<std::byte>> bytes;
  std::vector<TensorData> data;
  for (const Made& t : tensors) {
    std::vector<std::byte>& raw = bytes.emplace_back(t.values.size() * static_cast<size_t>(bits_of(t.type)) / 8);
    for (size_t i = 0; i < t.values.size(); i++) {
      const double wide = t.values[i];
      const auto half = static_cast<uint16_t>(std::bit_cast<uint32_t>(t.values[i]) >> 16);
      if (t.type == FileType::f64) std::memcpy(&raw[i * 8], &wide, 8);
      if (t.type == FileType::f32) std::memcpy(&raw[i * 4], &t.values[i], 4);
      if (t.type == FileType::bf16) std::memcpy(&raw[i * 2], &half, 2);
    }
    data.push_back({t.name, t.type, t.shape, raw});
  }
  write_safetensors(path, data, {}, Exists::replace);
  return path;
}

std::vector<float> counting(size_t n, float from) {
  std::vector<float> values(n);
  for (size_t i = 0; i < n; i++) values[i] = from + static_cast<float>(i);
  return values;
}

// An OpenCLIP text encoder of width 2, as SD 2.x files hold it: fused q, k, v, and a projection stored the other way round.
std::vector<Made> tiny_open_clip(FileType type) {
  const std::string root = "conditioner.embedders.0.model.", block = root + "transformer.resblocks.0.";
  return {{root + "token_embedding.weight", type, {3, 2}, counting(6, 0)},
          {root + "positional_embedding", type, {77, 2}, counting(154, 0)},
          {root + "ln_final.weight", type, {2}, {1, 2}},
          {root + "text_projection", type, {2, 3}, {1, 2, 3, 4, 5, 6}},
          {block + "mlp.c_fc.weight", type, {4, 2}, counting(8, 0)},
          {block + "ln_1.weight", type, {2}, {1, 1}},
          {block + "attn.in_proj_weight", type, {6, 2}, counting(12, 10)},
          {block + "attn.in_proj_bias", type, {6}, counting(6, 1)}};
}

TEST(Bytes, FusedMatricesAreSplitAndProjectionsTurned) {
  TemporaryFolder folder;
  for (const FileType type : {FileType::f32, FileType::bf16, FileType::f64}) {
    const Values values = values_of(open_model(write_file(folder.path() / "te.safetensors", tiny_open_clip(type))));
    const std::string layer = "text_encoder_2.text_model.encoder.layers.0.self_attn.";
    EXPECT_EQ(values.at(layer + "q_proj.weight"), counting(4, 10));
    EXPECT_EQ(values.at(layer + "k_proj.weight"), counting(4, 14));
    EXPECT_EQ(values.at(layer + "v_proj.weight"), counting(4, 18));
    EXPECT_EQ(values.at(layer + "v_proj.bias"), counting(2, 5));
    EXPECT_EQ(values.at("text_encoder_2.text_projection.weight"), (std::vector<float>{1, 4, 2, 5, 3, 6}));
  }
}

TEST(Bytes, PartsOfOneWeightMayLieApartAndHaveDifferentTypes) {
  TemporaryFolder folder;
  const std::string attention = "decoder.mid_block.attentions.0.";
  const Model model =
      open_model(write_file(folder.path() / "vae.safetensors",
                            {{attention + "to_q.weight", FileType::bf16, {2, 2, 1, 1}, {1, 2, 3, 4}},
                             {"decoder.conv_in.weight", FileType::f32, {8, 4, 1, 1}, counting(32, 0)},
                             {"decoder.conv_out.weight", FileType::f32, {3, 8, 1, 1}, counting(24, 0)},
                             {"decoder.up_blocks.0.resnets.0.conv1.weight", FileType::f32, {32, 1, 1, 1}, counting(32, 0)},
                             {attention + "to_k.weight", FileType::f64, {2, 2}, {5, 6, 7, 8}},
                             {attention + "to_v.weight", FileType::f32, {2, 2}, {9, 10, 11, 12}}}));
  const std::unique_ptr<Device> device = open_reference();
  WeightStore store;
  const Weights root = store.root() / "vae.decoder.mid_block.attentions.0";
  const Weight* joined = root.join({"to_q", "to_k", "to_v"}, "weight", Use::linear, {2, 2});
  request_all(store, model);
  int64_t last = 0, total = 0;
  const auto progress = [&](int64_t done, int64_t all) {
    EXPECT_GT(done, last);
    last = done;
    total = all;
  };
  load_weights(model, store, *device, {.progress = progress});
  EXPECT_EQ(last, total);
  const float* values = joined->data.as<float>();
  EXPECT_EQ(std::vector<float>(values, values + 12), counting(12, 1));
}

TEST(Bytes, IntegersAreNoWeights) {
  TemporaryFolder folder;
  std::vector<Made> tensors = tiny_open_clip(FileType::f32);
  const fs::path path = write_file(folder.path() / "te.safetensors", tensors);
  std::string text = read_text(path, 1 << 20);
  for (size_t at = text.find("\"F32\""); at != std::string::npos; at = text.find("\"F32\"")) text.replace(at, 5, "\"I32\"");
  folder.write("te.safetensors", text);
  EXPECT_THAT(message_of([&] { values_of(open_model(path)); }), HasSubstr("stored as I32, expected a float type"));
}

TEST(Bytes, AFileCutShortWhileLoadingIsAnError) {
  TemporaryFolder folder;
  const Model model = open_model(make_sparse("vae-original-names-f16", folder.path()));
  fs::resize_file(model.path(), 1 << 20);
  EXPECT_THAT(message_of([&] { values_of(model); }), HasSubstr("became shorter"));
}

TEST(Names, TwoTensorsOfOneMeaningAreRefused) {
  TemporaryFolder folder;
  std::vector<Made> tensors = tiny_open_clip(FileType::f32);
  tensors.push_back({"text_encoder_2.text_model.final_layer_norm.weight", FileType::f32, {2}, {1, 1}});
  const fs::path path = write_file(folder.path() / "two.safetensors", tensors);
  EXPECT_THAT(message_of([&] { open_model(path); }),
              AllOf(HasSubstr("two.safetensors"), HasSubstr("ln_final.weight"), HasSubstr("both mean")));
}

// ---- Golden models ------------------------------------------------------------------------------------------------------

fs::path golden() {
  const char* given = std::getenv("CUDREAM_GOLDEN");
  return given != nullptr ? fs::path(given) : fs::path(CUDREAM_SOURCE_DIR) / "../shared/golden";
}

class GoldenModel : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!fs::exists(golden() / "models" / GetParam())) GTEST_SKIP() << "no golden files (CUDREAM_GOLDEN)";
  }
};
INSTANTIATE_TEST_SUITE_P(Models, GoldenModel, ::testing::Values("sd1", "sd1-inpaint", "sd2", "sdxl", "sdxl-refiner"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(GoldenModel, FileAndFolderAreTheSame) {
  const Model folder = open_model(golden() / "models" / GetParam());
  const Model file = open_model(golden() / "models" / (GetParam() + ".safetensors"));
  EXPECT_EQ(file.identity().family, folder.identity().family);
  EXPECT_EQ(file.spec().unet, folder.spec().unet);
  EXPECT_EQ(file.spec().vae, folder.spec().vae);
  EXPECT_EQ(file.spec().text_encoders, folder.spec().text_encoders);
  EXPECT_EQ(file.spec().noise, folder.spec().noise);
  EXPECT_EQ(file.spec().native_size, folder.spec().native_size);
  EXPECT_TRUE(folder.spec().assumed.empty()) << folder.spec().assumed.front();
  const Values a = values_of(file), b = values_of(folder);
  EXPECT_EQ(a.size(), b.size());
  for (const auto& [name, values] : b) EXPECT_TRUE(a.at(name) == values) << name;
}

TEST(GoldenTypes, EveryStorageTypeHoldsTheSameValues) {
  const fs::path models = golden() / "models";
  if (!fs::exists(models)) GTEST_SKIP() << "no golden files (CUDREAM_GOLDEN)";
  const Values half = values_of(open_model(models / "sd1-inpaint.safetensors"));
  for (const std::string file : {"sd1-inpaint-fp32.safetensors", "sd1-inpaint-bf16.safetensors"})  // the UNet alone
    for (const auto& [name, values] : values_of(open_model(models / file)))
      EXPECT_TRUE(values == half.at(name)) << file << ' ' << name;
  const Values eighth = values_of(open_model(models / "sd1-inpaint-f8_e4m3.safetensors"));
  ASSERT_EQ(eighth.size(), half.size());
  double difference = 0, norm = 0;
  for (const auto& [name, values] : eighth)
    for (size_t i = 0; i < values.size(); i++) {
      const double d = values[i] - half.at(name)[i];
      difference += d * d;
      norm += static_cast<double>(half.at(name)[i]) * half.at(name)[i];
    }
  EXPECT_LT(std::sqrt(difference / norm), 0.04);  // three bits of mantissa
}

TEST(Demo, KnowsItselfFromItsMetadata) {
  const Model model = open_model(fs::path(CUDREAM_SOURCE_DIR) / "models/demo.safetensors");
  require_runnable(model);
  EXPECT_EQ(model.spec().family, Family::sd1);
  EXPECT_EQ(model.spec().unet->groups, 32);
  EXPECT_EQ(model.spec().vae->groups, 8);
  EXPECT_EQ(model.spec().text_encoders.at(0).heads, 4);
  EXPECT_EQ(model.spec().native_size, 128);
  WeightStore store;
  request_networks(store, model.spec());
  EXPECT_NO_THROW(check_weights(model, store));
}

}  // namespace
}  // namespace cudream
