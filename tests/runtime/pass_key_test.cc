// Which pictures may share a pass.
#include "runtime/pass_key.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/error.h"
#include "runtime/engine.h"

namespace cudream {
namespace {

// What must not be made together.
TEST(PassKey, TellsApartWhatChangesAPicture) {
  const ModelSpec spec = random_spec("sd15");
  const Tokenizer tokenizer;
  const auto key = [&](const std::function<void(Job&)>& change) {
    Job job{.prompt = "a house", .negative = "rain", .width = 64, .height = 64};
    change(job);
    return pass_key(job, spec, tokenizer, {});
  };
  const std::string plain = key([](Job&) {});
  EXPECT_EQ(key([](Job& j) { j.prompt = "a boat on the sea"; }), plain);
  EXPECT_EQ(key([](Job& j) { j.seed = 7, j.negative = "", j.guidance = 3; }), plain);
  EXPECT_NE(key([](Job& j) { j.guidance = 1; }), plain) << "one branch";
  EXPECT_NE(key([](Job& j) { j.prompt = "a house BREAK a boat"; }), plain) << "two chunks";
  EXPECT_NE(key([](Job& j) { j.negative = "rain BREAK fog"; }), plain) << "two chunks";
  EXPECT_EQ(key([](Job& j) { j.guidance = 1, j.negative = "rain BREAK fog"; }), key([](Job& j) { j.guidance = 1; }));
  EXPECT_NE(key([](Job& j) { j.steps = 21; }), plain);
  EXPECT_NE(key([](Job& j) { j.width = 128; }), plain);
  EXPECT_NE(key([](Job& j) { j.sampler = "euler"; }), plain);
  EXPECT_NE(key([](Job& j) { j.clip_skip = 2; }), plain);
  EXPECT_NE(key([](Job& j) { j.prompt = "a house <lora:film:0.5>"; }), plain);
  EXPECT_EQ(key([](Job& j) { j.prompt = "x <lora:film:0.5>"; }), key([](Job& j) { j.prompt = "y<lora:film:0.5>"; }));
  EXPECT_NE(key([](Job& j) { j.image = "one/a.png"; }), key([](Job& j) { j.image = "two/a.png"; }));
  const std::string changing = key([](Job& j) { j.prompt = "a [cat:dog:0.5]"; });
  EXPECT_NE(changing, key([](Job& j) { j.prompt = "a [cat:fox:0.5]"; }));
  EXPECT_EQ(changing, key([](Job& j) { j.prompt = "a [cat:dog:0.5]", j.seed = 3; }));
  EXPECT_EQ(key([](Job& j) { j.prompt = "a [quiet] house"; }), plain) << "only a weight";
  EXPECT_NE(key([](Job& j) { j.refiner = "one"; }), key([](Job& j) { j.refiner = "two"; }));
  EXPECT_NE(key([](Job& j) { j.refiner = "one"; }), key([](Job& j) { j.refiner = "one", j.refiner_start = 0.5; }));
}

TEST(PassKey, OfPromptsJoinedByAndTellsNumberAndWeights) {
  const ModelSpec spec = random_spec("sd15");
  const Tokenizer tokenizer;
  const auto key = [&](const std::string& prompt, const std::string& negative = "", double guidance = 7) {
    return pass_key({.prompt = prompt, .negative = negative, .width = 64, .height = 64, .guidance = guidance}, spec, tokenizer,
                    {});
  };
  const std::string two = key("a cat AND fog");
  EXPECT_EQ(key("a boat AND rain", "blurry", 3), two);
  EXPECT_NE(key("a cat and fog"), two);
  EXPECT_NE(key("a cat AND fog AND rain"), two);
  EXPECT_NE(key("a cat AND fog:0.5"), two);
  EXPECT_NE(key("a cat AND fog BREAK rain"), two) << "two chunks";
  EXPECT_NE(key("a cat AND fog", "rain BREAK snow", 1), two) << "the negative prompt is read without guidance too";
  EXPECT_NE(key("[cat:dog:0.5] AND fog"), key("[cat:fox:0.5] AND fog"));
  EXPECT_THROW(key("a AND b AND c AND d AND e AND f AND g"), Error);
}

TEST(PassKey, CountsNoPromptThatIsNotRead) {
  ModelSpec spec = random_spec("sd15");
  const Tokenizer tokenizer;
  spec.unet->guidance_embedding = 256;  // LCM reads no negative prompt
  const auto key = [&](const std::string& prompt) {
    return pass_key({.prompt = prompt, .negative = "rain BREAK fog", .width = 64, .height = 64}, spec, tokenizer, {});
  };
  EXPECT_NE(key("a house BREAK a boat"), key("a house"));
}

}  // namespace
}  // namespace cudream
