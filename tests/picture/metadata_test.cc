// The texts stored with pictures: every format, both ways, and files that other programs wrote.
#include "runtime/picture/parameters.h"
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

constexpr std::string_view kSample =
    "a caf\u00e9, (red:1.2) \U0001F319\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 8x8";

std::string without(std::string text, std::string_view part, std::string_view instead = "") {
  return text.replace(text.find(part), part.size(), instead);
}

TEST(Metadata, BothTextsComeBackFromEveryFormat) {
  const std::string texts[] = {
      "plain ASCII",       std::string(kSample),   "Latin-1 only: \u00e9\u00ff", "looks like UTF-8 twice: \u00c3\u00a9",
      "many\n\n lines \t", std::string(20000, 'x')};
  for (const std::string& text : texts) {
    const Metadata metadata{.parameters = text, .job = "{\"prompt\":\"" + text + "\"}"};
    for (const Bytes& file :
         {encode_png(gradient(8, 8), metadata), encode_jpeg(gradient(8, 8), metadata), encode_webp(gradient(8, 8), metadata)}) {
      const Metadata back = decode_metadata(file, "a");
      EXPECT_EQ(back.parameters, metadata.parameters);
      EXPECT_EQ(back.job, metadata.job);
      EXPECT_FALSE(back.comfyui);
      EXPECT_EQ(decode_image(file, "a").width, 8);
    }
  }
}

TEST(Metadata, NoneIsNone) {
  for (const Bytes& file : {encode_png(gradient(8, 8), {}), encode_jpeg(gradient(8, 8), {}), encode_webp(gradient(8, 8), {})}) {
    const Metadata back = decode_metadata(file, "a");
    EXPECT_EQ(back.parameters + back.job, "");
  }
}

TEST(Metadata, PicturesOfOtherPrograms) {
  const auto read = [](std::string_view name) { return read_metadata(std::string(kData) + std::string(name)); };
  EXPECT_EQ(read("pillow_itxt.png").parameters, kSample);
  EXPECT_EQ(read("piexif.jpg").parameters, kSample);
  const std::string latin1 = without(std::string(kSample), " \U0001F319");
  EXPECT_EQ(read("pillow_text_latin1.png").parameters, latin1);
  EXPECT_TRUE(read("pillow_text_latin1.png").comfyui);
  EXPECT_EQ(read("pillow_ztxt.png").parameters, without(latin1, "\u00e9", "e"));
  EXPECT_FALSE(read("pillow_ztxt.png").comfyui);
}

TEST(Metadata, HostilePromptsStayInTheirPlace) {
  const std::string prompts[] = {"a\nSteps: 1, Sampler: x, Seed: 2, Size: 1x1",
                                 "x\nNegative prompt: forged",
                                 "quote \" and \\ slash",
                                 "tab\tand\rreturn",
                                 "\x1b[31mred\x1b[0m",
                                 std::string("nul\0inside", 10)};
  for (const std::string& prompt : prompts) {
    const Parameters parameters{
        .prompt = prompt, .negative = prompt, .values = {{"Steps", "20"}, {"Seed", "1"}, {"Size", "8x8"}}};
    const Metadata metadata{.parameters = write_parameters(parameters)};
    for (const Bytes& file :
         {encode_png(gradient(8, 8), metadata), encode_jpeg(gradient(8, 8), metadata), encode_webp(gradient(8, 8), metadata)})
      EXPECT_EQ(read_parameters(decode_metadata(file, "a").parameters), parameters) << prompt;
  }
}

}  // namespace
}  // namespace cudream
