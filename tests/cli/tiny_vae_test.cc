// Pictures decoded, and encoded, with a tiny autoencoder.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/golden_run.h"
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using testing::HasSubstr;

std::string vae(const char* name) {
  return " --vae '" + golden_model(name).string() + "' ";
}

class TinyAutoencoderRun : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Devices, TinyAutoencoderRun, testing::Values("reference", "cpu"),
                         [](const auto& device) { return device.param; });

TEST_P(TinyAutoencoderRun, FollowsTheReference) {
  const std::string options = std::string("--precision f32 --device ") + GetParam();
  check_golden_run("sd1/txt2img_taesd", options + vae("taesd"), kFloat);
  check_golden_run("sd1/txt2img_taesd", options + vae("taesd_decoder.safetensors"), kFloat);
}

// Both halves of the golden one are random: what they make of a picture has a size, a place in the program, and no more.
TEST(TinyAutoencoder, EncodesWhereItHasTheHalfForIt) {
  const Program program;
  write_image(program.path() / "a.png", gradient(64, 64), {}, Exists::refuse);
  const std::string job = "generate house " + kQuick;
  for (const std::string options : {"--image a.png -o b.png", "--hires 1.5 --hires-upscaler lanczos -o c.png"}) {
    const Outcome o = program.run(job + options + vae("taesd"));
    EXPECT_EQ(o.status, 0) << o.err;
    const Outcome refused = program.run(job + options + " --overwrite" + vae("taesd_decoder.safetensors"));
    EXPECT_EQ(refused.status, 4) << refused.err;
    EXPECT_THAT(refused.err, HasSubstr("needs an autoencoder that encodes, and this one (TAESD) only decodes"));
  }
  EXPECT_EQ(read_image(program.path() / "b.png").width, 64);
  EXPECT_EQ(program.run(job + "--hires 1.5 --hires-upscaler latent -o d.png" + vae("taesd_decoder.safetensors")).status, 0);
  const Outcome half = program.run(job + "-o e.png" + vae("taesd_encoder.safetensors"));
  EXPECT_EQ(half.status, 3) << half.err;
  EXPECT_THAT(half.err, HasSubstr("only the encoder"));
}

TEST(TinyAutoencoder, IsAPartThatInspectAndConvertKnow) {
  const Program program;
  const auto inspected = [&](const std::string& path) { return program.run("inspect '" + path + "'").out; };
  EXPECT_THAT(inspected(golden_model("taesd").string()), HasSubstr("family      taesd\n  task        vae"));
  EXPECT_THAT(inspected(golden_model("taesd_decoder.safetensors").string()), HasSubstr("missing     vae encoder"));
  const Outcome alone = program.run("convert '" + golden_model("taesd_decoder.safetensors").string() + "' -o own.safetensors");
  EXPECT_EQ(alone.status, 0) << alone.err;
  check_golden_run("sd1/txt2img_taesd",
                   "--precision f32 --device cpu --vae '" + (program.path() / "own.safetensors").string() + "'", kFloat);
  const Outcome whole = program.run("convert demo -o whole.safetensors" + vae("taesd"));
  EXPECT_EQ(whole.status, 4) << whole.err;
  EXPECT_THAT(whole.err, HasSubstr("its autoencoder is a tiny one"));
}

}  // namespace
}  // namespace cudream
