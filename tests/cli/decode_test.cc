// cudream decode: a latent that was kept becomes the picture that it would have been.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "loader/safetensors.h"
#include "runtime/latent_file.h"
#include "runtime/picture/image.h"
#include "tests/cli/program.h"

namespace cudream {
namespace {

using testing::HasSubstr;

TEST(Decode, FinishesTheSamePicture) {
  const Program program;
  ASSERT_EQ(program.run("generate 'a red house' " + kQuick + "-o whole.png --trace trace.safetensors").status, 0);
  const SafetensorsFile trace(program.path() / "trace.safetensors");
  const TensorInfo& latents = trace.at("latents");  // [steps,1,4,8,8]
  ASSERT_EQ(latents.shape, (std::vector<uint64_t>{2, 1, 4, 8, 8}));
  const std::vector<float> all = trace.floats(latents);
  KeptLatent kept{.job = job_from_json(nlohmann::json::parse(read_metadata(program.path() / "whole.png").job)),
                  .values = {},
                  .height = 8,
                  .width = 8,
                  .channels = 4};
  for (size_t pixel = 0; pixel < 64; pixel++)
    for (size_t channel = 0; channel < 4; channel++) kept.values.push_back(all[256 + channel * 64 + pixel]);
  write_latent(program.path() / "a.latent.safetensors", kept);

  const Outcome o = program.run("decode a.latent.safetensors");
  ASSERT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(program.read("a.png"), program.read("whole.png"));
  EXPECT_EQ(program.run("decode a.latent.safetensors").status, 7) << "nothing is overwritten unasked";

  kept.job.refiner = "../other";
  write_latent(program.path() / "c.latent.safetensors", kept);
  EXPECT_THAT(program.run("decode c.latent.safetensors").err, HasSubstr("\"../other\" is no model name"));
  kept.job.refiner = "";

  kept.job.width = 128;
  write_latent(program.path() / "b.latent.safetensors", kept);
  EXPECT_THAT(program.run("decode b.latent.safetensors").err, HasSubstr("no picture of 128 x 64 pixels"));
  const Outcome other = program.run("decode trace.safetensors");
  EXPECT_EQ(other.status, 3);
  EXPECT_THAT(other.err, HasSubstr("trace.safetensors is no latent that cudream kept"));
}

}  // namespace
}  // namespace cudream
