// The full-size networks of the families, rehearsed without weights: parameters are those of the published ones, and a step
// finds its place in memory.
#include <gtest/gtest.h>

#include "kernels/open.h"
#include "runtime/engine.h"

namespace cudream {
namespace {

struct Published {
  const char* name;
  int64_t unet, text;  // parameters
};
void PrintTo(const Published& p, std::ostream* to) {
  *to << p.name;
}

class FamilySize : public testing::TestWithParam<Published> {};
INSTANTIATE_TEST_SUITE_P(Families, FamilySize,
                         testing::Values(Published{"sd15", 859520964, 123060480}, Published{"sd21", 865910724, 340387840},
                                         Published{"sdxl", 2567463684, 123060480 + 694659840}),
                         [](const auto& p) { return std::string(p.param.name); });

int64_t parameters(const WeightStore& store) {
  int64_t sum = 0;
  for (const WeightRequest& r : store.requests()) sum += r.weight.shape.size();
  return sum;
}

TEST_P(FamilySize, IsThatOfThePublishedNetworks) {
  const ModelSpec spec = random_spec(GetParam().name);
  WeightStore texts, store;
  for (const TextEncoderSpec& encoder : spec.text_encoders) ClipTextEncoder(texts.root(), encoder);
  EXPECT_EQ(parameters(texts), GetParam().text);
  const UNet unet(store.root(), *spec.unet);
  EXPECT_EQ(parameters(store), GetParam().unet);

  const auto device = open_device({.name = "reference"});
  Ops o(*device);
  const int64_t side = spec.native_size / 8;
  const std::vector<int32_t> lengths{77, 77};
  const Ops::Plan plan = o.rehearse([&] {
    const Tensor x = o.make(DType::f32, {2, side, side, 4}), t = o.make(DType::f32, {2}),
                 context = o.make(DType::f32, {2, 77, spec.unet->context}), pooled = o.make(DType::f32, {2, 1280}),
                 sizes = o.make(DType::f32, {12});
    const PromptState prompt = unet.read(o, {.context = context, .key_lengths = lengths, .pooled = pooled, .sizes = sizes});
    const Tensor times = unet.embed(o, t, prompt), out = o.make(DType::f32, x.shape());
    std::vector<View> reads = prompt.views();
    reads.insert(reads.end(), {x, times});
    o.stage("unet", reads, out, [&] { return unet.predict(o, x, times, prompt); });
  });
  const Ops::Stage& stage = plan.stages.at("unet");
  EXPECT_GT(stage.layout.bytes, 0);
  EXPECT_LE(static_cast<double>(stage.layout.bytes), 1.1 * static_cast<double>(stage.layout.lower_bound));
}

}  // namespace
}  // namespace cudream
