// Which pictures may share a pass.
#include "runtime/pass_key.h"

#include <gtest/gtest.h>

#include <functional>

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
}

}  // namespace
}  // namespace cudream
