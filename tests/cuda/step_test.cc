// One denoising step of SD 1.5 at 512x512 with guidance, as the network itself asks for it: how many launches it is; who serves
// each product, and the modelled time on three cards against the limit; the bytes of its GroupNorms, and of those of SDXL and of
// decoders. Modelled: counted cycles and bytes, and assumed latencies, no card has run them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "kernels/cuda/args.h"
#include "kernels/cuda/choose.h"
#include "kernels/cuda/product.h"
#include "kernels/ops.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "runtime/engine.h"

namespace cudream {
namespace {

// Computes nothing and notes every product and GroupNorm. Addresses are never read.
class Notes final : public Device {
 public:
  Notes() { info_ = {.kind = "notes", .description = "a list of products", .compute = DType::f16}; }
  std::vector<Product> products;
  std::vector<GroupNormLayer> norms;
  int calls = 0;  // of all verbs

  const DeviceInfo& info() const override { return info_; }
  void upload(View, std::span<const std::byte>) override {}
  void download(std::span<std::byte>, View) override {}
  int64_t packed_bytes(Use, DType, const Shape&) const override { return 0; }
  Weight prepack(Use, DType, const Shape&, const RawBytes&, void*) override { return {}; }
  std::unique_ptr<Replay> record(const std::function<void()>&) override { return nullptr; }
  bool has(Fused) const override { return true; }

  void linear(View, View x, const Linear& l, const Epilogue&) override { note(Product::Kind::linear, x, l); }
  void joined_linear(View out, View, View, const Linear& l, const Epilogue&) override {
    calls++;
    products.push_back({.kind = Product::Kind::conv,
                        .rows = out.shape[1] * out.shape[2],
                        .outs = out.shape[3],
                        .channels = l.w->shape[1],
                        .taps = 1});
  }
  void joined_group_norm(View out, View, View, const Norm& n, const NormArgs& a) override { group_norm(out, out, n, a); }
  void geglu(View, View x, const Linear& l) override { note(Product::Kind::geglu, x, l); }
  void conv2d(View out, View x, const Conv& c, const ConvArgs&) override {
    calls++;
    products.push_back({.kind = Product::Kind::conv,
                        .rows = out.shape[1] * out.shape[2],
                        .outs = out.shape[3],
                        .channels = x.shape[3],
                        .taps = c.w->shape[2] * c.w->shape[3]});
  }
  void attention(View, View, View, View, const AttentionArgs&) override { calls++; }
  void group_norm(View, View x, const Norm&, const NormArgs& a) override {
    calls++;
    norms.push_back({x.dtype, x.shape[1] * x.shape[2], x.shape[3], a.groups, true});
  }
  void layer_norm(View, View, const Norm&) override { calls++; }
  void act(View, View, Act) override { calls++; }
  void multiply(View, View, View) override { calls++; }
  void combine(View, std::span<const Term>) override { calls++; }
  void lerp(View, View, View, View) override { calls++; }
  void copy(View, View) override { calls++; }
  void gather(View, const Weight&, View) override {}
  void sinusoid(View, View, float, bool, float) override {}

 protected:
  void* take(int64_t) override { return this; }
  void give(void*) noexcept override {}

 private:
  void note(Product::Kind kind, const View& x, const Linear& l) {
    calls++;
    products.push_back({.kind = kind, .rows = x.shape.rows() / x.shape[0], .outs = l.w->shape[0], .channels = l.w->shape[1]});
  }
  DeviceInfo info_;
};

struct Step {
  std::vector<Product> products;
  std::vector<GroupNormLayer> norms;
  int calls = 0;
};

// Runs `job` for nobody: it ends with the work to be noted, before which it calls begin().
Step notes_of(const std::function<void(Ops&, const std::function<void()>& begin)>& job) {
  Notes device;
  Ops o(device);
  const auto body = [&] { job(o, [&] { device.products.clear(), device.norms.clear(), device.calls = 0; }); };
  const Ops::Plan plan = o.rehearse(body);
  o.run(plan, body);
  return {device.products, device.norms, device.calls};
}

// One of a picture of `size` pixels, with guidance.
Step step_of(const UNetSpec& spec, int64_t size) {
  WeightStore store;
  const UNet unet(store.root() / "unet", spec);
  return notes_of([&](Ops& o, const std::function<void()>& begin) {
    const Tensor x = o.make(DType::f16, {kBranches, size / 8, size / 8, 4}),
                 t = o.make(DType::f32, {spec.pooled_embedding > 0 ? kBranches : 1}),
                 context = o.make(DType::f16, {kBranches, 77, spec.context});
    const std::vector<int32_t> lengths{77, 77};
    Conditions conditions{.context = context, .key_lengths = lengths};
    Tensor pooled, sizes;
    if (spec.pooled_embedding > 0) {
      conditions.pooled = pooled = o.make(DType::f32, {kBranches, 1280});
      conditions.sizes = sizes = o.make(DType::f32, {kBranches * 6});
    }
    const PromptState prompt = unet.read(o, conditions);
    const Tensor times = unet.embed(o, t, prompt);
    begin();  // so far what is made once a picture
    const Tensor out = unet.predict(o, x, times, prompt);
  });
}

Step decoding_of(int64_t size) {
  WeightStore store;
  const Autoencoder vae(store.root() / "vae", VaeSpec{});
  return notes_of([&](Ops& o, const std::function<void()>& begin) {
    const Tensor latent = o.make(DType::f32, {1, size / 8, size / 8, 4});
    begin();
    const Tensor image = vae.decode(o, latent);
  });
}

Step step() {
  return step_of(UNetSpec{}, 512);
}

TEST(ModelledStep, TilesServeAllButTheFirstConvolution) {
  int tiles = 0;
  for (const Product& p : step().products) {
    if (provider_of(p) == Provider::tiles)
      tiles++;
    else
      EXPECT_EQ(p.channels, 4) << fmt::format("{} rows, {} -> {}", p.rows, p.channels, p.outs);
  }
  EXPECT_EQ(tiles, 51 + 14 + 16 * 8) << "convolutions, shortcuts, and each transformer's";
}

struct Modelled {
  const char* name;
  Card card;
  double clock;       // MHz
  double most;        // times the limit
  double most_bytes;  // of GroupNorms, times those that must move
};
const Modelled kModelled[] = {{"RTX 4090", card_of(89, 128, 102400, 2520000, 10501000, 384), 2520, 1.09, 1.07},
                              {"A100", card_of(80, 108, 167936, 1410000, 1593000, 5120), 1410, 1.44, 1.06},
                              {"H200", card_of(90, 132, 233472, 1980000, 3201000, 6144), 1980, 1.49, 1.06}};

// A call is a launch, but for a product whose workspace is too small for it. Concatenations are none.
TEST(Step, Is335Launches) {
  const Step s = step();
  EXPECT_EQ(s.calls, 335);
  EXPECT_EQ(s.norms.size(), 61u);
  for (const Modelled& m : kModelled) {
    for (const GroupNormLayer& layer : s.norms) EXPECT_TRUE(choose_slices(layer, m.card)) << m.name;
    for (const Product& p : s.products) {
      if (provider_of(p) != Provider::tiles) continue;
      const auto [tile, splits, cycles] = choose_tile(p, m.card);
      const int64_t shares = kBranches * (p.rows + tile.shape.rows) * (p.outs + tile.shape.cols) * splits * 4;
      EXPECT_TRUE(splits == 1 || shares <= kSharesBytes) << m.name << fmt::format(": {} rows, {} outs", p.rows, p.outs);
    }
  }
}

// What the slices of a GroupNorm move of one picture: x and out; x again where there was no room for it; moments, a sector each
// when they are written; gains and biases.
double moved_bytes(const GroupNormLayer& l, const Card& card) {
  const Slices s = *choose_slices(l, card);
  const int64_t x = l.pixels * l.channels * size_of(l.type);
  const int64_t again = s.again * s.count * l.channels * size_of(l.type);
  return static_cast<double>(2 * x + again + s.count * l.groups * (32 + s.count * SliceParams::kMomentBytes) +
                             s.count * l.channels * 8);
}

// Each of them, and together `most_bytes` times the least.
void expect_few_bytes(const char* network, const std::vector<GroupNormLayer>& norms, const Modelled& m) {
  double moved = 0, least = 0;
  for (const GroupNormLayer& l : norms) {
    const auto must = static_cast<double>(2 * l.pixels * l.channels * size_of(l.type));
    EXPECT_LE(moved_bytes(l, m.card) / must, 1.1) << m.name << fmt::format(": {} pixels, {} channels", l.pixels, l.channels);
    moved += moved_bytes(l, m.card);
    least += must;
  }
  fmt::print("counted, not measured: the GroupNorms of {} on {} move {:.1f} MB a picture, {:.3f} of what they must\n", network,
             m.name, moved / 1e6, moved / least);
  EXPECT_LE(moved / least, m.most_bytes) << network << " on " << m.name;
}

TEST(ModelledStep, GroupNormsMoveLittleMoreThanTheyMust) {
  for (const Modelled& m : kModelled) {
    expect_few_bytes("a SD 1.5 step at 512", step().norms, m);
    expect_few_bytes("a SDXL step at 1024", step_of(*random_spec("sdxl").unet, 1024).norms, m);
    expect_few_bytes("decoding 512x512", decoding_of(512).norms, m);
    expect_few_bytes("decoding 1024x1024", decoding_of(1024).norms, m);
  }
}

TEST(ModelledStep, IsNearTheLimit) {
  const std::vector<Product> all = step().products;
  for (const Modelled& m : kModelled) {
    double chosen = 0, least = 0;
    for (const Product& p : all)
      if (provider_of(p) == Provider::tiles) {
        chosen += choose_tile(p, m.card).cycles;
        least += least_cycles(p, m.card);
      }
    fmt::print("modelled, not measured: the products of a SD 1.5 step on {}: {:.2f} ms, {:.2f} times the limit of {:.2f} ms\n",
               m.name, chosen / m.clock / 1e3, chosen / least, least / m.clock / 1e3);
    EXPECT_LE(chosen / least, m.most) << m.name;
  }
}

}  // namespace
}  // namespace cudream
