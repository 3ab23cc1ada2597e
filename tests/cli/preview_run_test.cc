// Pictures on the way, with the demo model: that they show what comes, and change nothing of it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/open.h"
#include "runtime/engine.h"
#include "runtime/picture/convert.h"
#include "tests/cli/program.h"
#include "tests/golden/tensors.h"

namespace cudream {
namespace {

// Pearson's, over all values of two pictures of one size.
double correlation(const Image& a, const Image& b) {
  double mean_a = 0, mean_b = 0, ab = 0, aa = 0, bb = 0;
  const auto count = static_cast<double>(a.pixels.size());
  for (size_t i = 0; i < a.pixels.size(); i++) mean_a += a.pixels[i] / count, mean_b += b.pixels[i] / count;
  for (size_t i = 0; i < a.pixels.size(); i++) {
    const double x = a.pixels[i] - mean_a, y = b.pixels[i] - mean_b;
    ab += x * y, aa += x * x, bb += y * y;
  }
  return ab / std::sqrt(aa * bb);
}

struct Seen {
  Image picture;
  std::vector<Image> previews;
};

class Previews : public testing::Test {
 protected:
  Previews() : engine(open_device({.name = "cpu", .precision = DType::f32})) {
    engine.load(open_model(CUDREAM_SOURCE_DIR "/models/demo.safetensors"));
  }
  Seen run(int side, uint64_t seed, int every = 4) {
    Job job{.prompt = "a red house under a full moon", .seed = seed, .width = side, .height = side, .steps = 12};
    complete(job, engine.spec());
    Seen seen;
    const RunHooks hooks{.preview_every = every, .on_preview = [&](const Image& small) { seen.previews.push_back(small); }};
    seen.picture = engine.run({&job, 1}, {}, hooks).images.front();
    return seen;
  }
  Engine engine;
};

TEST_F(Previews, ShowThePictureThatComes) {
  for (const uint64_t seed : {4, 9}) {
    const Seen seen = run(128, seed);
    ASSERT_EQ(seen.previews.size(), 2u);                          // after 4 and 8 of 12 steps
    EXPECT_GT(correlation(seen.previews[0], seen.picture), 0.6);  // much is open yet
    EXPECT_GT(correlation(seen.previews[1], seen.picture), 0.95);
  }
}

// Decoded from means of latent pixels: 48 along a side become 24. After 11 steps the estimate is the picture but for little.
TEST_F(Previews, OfLargerPicturesAreSmaller) {
  const Seen seen = run(384, 4, 11);
  ASSERT_EQ(seen.previews.size(), 1u);
  const Image& last = seen.previews[0];
  EXPECT_EQ(last.width, 192);
  EXPECT_GT(correlation(last, resize(seen.picture, last.width, last.height)), 0.7);
}

// The golden one is random: it shows what it makes of the latents, as it does in the autoencoder's place.
TEST_F(Previews, AreDecodedByATinyAutoencoderWhereOneIsGiven) {
  const Seen own = run(128, 4);
  engine.use_previews(golden_model("taesd"));
  const Seen tiny = run(128, 4);
  EXPECT_EQ(tiny.picture, own.picture);
  Model model = open_model(CUDREAM_SOURCE_DIR "/models/demo.safetensors");
  model.replace_vae(golden_model("taesd"));
  engine.load(model);
  const Seen replaced = run(128, 4);
  ASSERT_EQ(tiny.previews.size(), replaced.previews.size());
  for (size_t i = 0; i < tiny.previews.size(); i++) {
    EXPECT_GT(correlation(tiny.previews[i], replaced.previews[i]), 0.999);
    EXPECT_LT(correlation(tiny.previews[i], own.previews[i]), 0.9);
  }
}

// The demo model's autoencoder is its own: a TAESD among the models knows nothing of its latents.
TEST(PreviewRun, TakesNoTinyAutoencoderOfOtherLatents) {
  const Program program;
  const std::filesystem::path models = program.path() / ".local/share/cudream/models";
  std::filesystem::create_directories(models);
  std::filesystem::copy_file(golden_model("taesd_decoder.safetensors"), models / "taesd_decoder.safetensors");
  const Outcome o = program.run("generate house " + kQuick + "--preview 1 -o a.png");
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_THAT(o.err, testing::Not(testing::HasSubstr("previews:")));
}

TEST(PreviewRun, ChangesNoByteAndLeavesNothing) {
  const Program program;
  for (const std::string options : {"-o a.png", "-o b.png --preview 1", "-o c.png --preview 1 --offload"}) {
    const Outcome o = program.run("generate house " + kQuick + options);
    EXPECT_EQ(o.status, 0) << o.err;
  }
  EXPECT_EQ(program.read("a.png"), program.read("b.png"));
  EXPECT_EQ(program.read("a.png"), program.read("c.png"));
  EXPECT_FALSE(program.has("b.preview.png"));
}

TEST(PreviewRun, IsRefusedWhereItCannotBeSeen) {
  const Program program;
  const Outcome pipe = program.run("generate house " + kQuick + "-o a.png --preview 1 --preview-as blocks");
  EXPECT_EQ(pipe.status, 2) << pipe.err;
  EXPECT_THAT(pipe.err, testing::HasSubstr("is no terminal that shows pictures"));
  program.write("a.preview.png", "mine");
  const Outcome taken = program.run("generate house " + kQuick + "-o a.png --preview 1");
  EXPECT_EQ(taken.status, 7) << taken.err;
  EXPECT_EQ(program.read("a.preview.png"), "mine");
}

}  // namespace
}  // namespace cudream
