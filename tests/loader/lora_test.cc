// LoRA files: which modules they change, what they add, and that nothing stays of them.
#include "loader/lora.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/reference/reference_device.h"
#include "loader/model.h"
#include "tests/golden/tensors.h"
#include "tests/loader/errors.h"
#include "tests/loader/facts.h"
#include "tests/loader/temporary_folder.h"

namespace cudream {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

struct Fitting {
  const char *lora, *model;
  size_t keys;
};
void PrintTo(const Fitting& f, std::ostream* to) {
  *to << f.lora;
}

class RealLora : public ::testing::TestWithParam<Fitting> {};
INSTANTIATE_TEST_SUITE_P(Files, RealLora,
                         ::testing::Values(Fitting{"lora-kohya-sd15-r32-f16", "sd15-emaonly-f32", 264},
                                           Fitting{"lora-diffusers-attnprocs-sd15-r4-f32", "sd15-emaonly-f32", 128},
                                           Fitting{"lora-diffusers-peft-sd15-r4-f32", "sd15-diffusers-tree-bf16", 176},
                                           Fitting{"lora-lcm-sd15-r64-f16", "sd15-emaonly-f32", 278},
                                           Fitting{"lora-numbered-sd15-r4-f16", "sd15-emaonly-f32", 192},
                                           Fitting{"lycoris-locon-r16-c8-f16", "sd15-merge-f16", 354},
                                           Fitting{"lora-kohya-sdxl-te1-te2-r16-bf16", "sdxl-base-f16", 986},
                                           Fitting{"lora-sdxl-diffusers-block-names-r8-f16", "sdxl-diffusers-tree-f16", 794}));

TEST_P(RealLora, EveryKeyFindsItsWeight) {
  const TemporaryFolder folder;
  const Model model = open_model(make_sparse(GetParam().model, folder.path()));
  const Lora lora(make_sparse(GetParam().lora, folder.path()));
  const Lora::Fit fit = lora.fit(model.names(), model.spec());
  EXPECT_EQ(lora.size(), GetParam().keys);
  EXPECT_EQ(fit.weights.size(), lora.size());
  EXPECT_THAT(fit.unused, IsEmpty());
}

TEST(Lora, OfAnotherFamilyIsRefusedWithBothNamed) {
  const TemporaryFolder folder;
  const Model sdxl = open_model(make_sparse("sdxl-base-f16", folder.path()));
  const Lora lora(make_sparse("lora-kohya-sd15-r32-f16", folder.path()));
  EXPECT_THAT(message_of([&] { lora.fit(sdxl.names(), sdxl.spec()); }, Code::unsupported),
              AllOf(HasSubstr("does not fit the model"), HasSubstr("It is made for sd1")));
}

TEST(Lora, OtherKindsAreNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { Lora(make_sparse("lycoris-loha-r16-f16", folder.path())); }, Code::unsupported),
              HasSubstr("an adapter of the kind loha; LoRA and LoCon are supported"));
  EXPECT_THAT(message_of([&] { Lora(make_sparse("vae-diffusers-f32", folder.path())); }), HasSubstr("is no LoRA"));
}

// A module of three parts: up [2,1], mid [1,1,1,1], down [1,2,1,1], alpha 2, of a weight [2,2,1,1].
TEST(Lora, ProductsAreWrittenOut) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder.path() / "three.safetensors";
  const auto bytes = [](const std::vector<float>& v) {
    const auto raw = std::as_bytes(std::span(v));
    return std::vector<std::byte>(raw.begin(), raw.end());
  };
  const std::vector<float> up{1, 2}, down{3, 5}, mid{7}, alpha{2};
  const std::vector<std::byte> raw[] = {bytes(up), bytes(down), bytes(mid), bytes(alpha)};
  const std::string stem = "lora_unet_down_blocks_0_resnets_0_conv1.";
  write_safetensors(path,
                    {{stem + "lora_up.weight", FileType::f32, {2, 1, 1, 1}, raw[0]},
                     {stem + "lora_down.weight", FileType::f32, {1, 2, 1, 1}, raw[1]},
                     {stem + "lora_mid.weight", FileType::f32, {1, 1, 1, 1}, raw[2]},
                     {stem + "alpha", FileType::f32, {}, raw[3]}},
                    {}, Exists::refuse);
  std::vector<float> weight{1, 1, 1, 1};
  Lora(path).add(0, 0.5, weight);  // strength 0.5 times alpha / rank 2
  EXPECT_EQ(weight, (std::vector<float>{1 + 21, 1 + 35, 1 + 42, 1 + 70}));
}

// All weights of a store as they lie on the reference device.
std::vector<float> values_of(const WeightStore& store) {
  std::vector<float> values;
  for (const WeightRequest& r : store.requests()) {
    const float* data = r.weight.data.as<float>();
    values.insert(values.end(), data, data + r.weight.shape.size());
  }
  return values;
}

TEST(Lora, LeavesNothingBehind) {
  const Model model = open_model(golden_model("sd1.safetensors"));
  const std::unique_ptr<Device> device = open_reference();
  WeightStore store;
  for (const auto& [name, source] : model.names().weights) {
    Shape shape;
    for (const uint64_t n : model.names().shape(source)) shape.n[static_cast<size_t>(shape.rank++)] = static_cast<int64_t>(n);
    store.root().get(name, Use::vector, shape);
  }
  load_weights(model, store, *device);
  const std::vector<float> before = values_of(store);
  WeightChanges changes;
  const auto lora = std::make_shared<const Lora>(golden_model("lora-sd1-kohya.safetensors"));
  const Lora::Fit fit = changes.add(lora, 0.8, model.names(), model.spec());
  EXPECT_EQ(fit.weights.size(), lora->size());
  reload_weights(model, store, *device, changes.names(), changes);
  EXPECT_NE(values_of(store), before);
  reload_weights(model, store, *device, changes.names(), {});
  EXPECT_EQ(values_of(store), before);
}

}  // namespace
}  // namespace cudream
