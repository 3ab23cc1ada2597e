// Every job of the program with the demo model and the tiny golden ones: what is kept, what is stored, what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/canvas.h"
#include "tests/cli/program.h"
#include "tests/golden/tensors.h"
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

using testing::HasSubstr;

// By path: by name, a model made for the job would take its place.
const std::string kDemo = "-m '" CUDREAM_SOURCE_DIR "/models/demo.safetensors' ";

void write_picture(const Program& program, const char* name, const Image& image) {
  write_image(program.path() / name, image, {}, Exists::replace);
}

// White inside `white`.
Image mask_picture(int width, int height, const Rect& white) {
  Image mask{width, height, 3, std::vector<uint8_t>(static_cast<size_t>(width * height * 3))};
  paste(mask, {white.width, white.height, 3, std::vector<uint8_t>(static_cast<size_t>(white.width * white.height * 3), 255)},
        white.left, white.top);
  return mask;
}

// How many pixels inside or outside of `rect` differ.
int differing(const Image& a, const Image& b, const Rect& rect, bool inside) {
  int count = 0;
  for (int y = 0; y < a.height; y++)
    for (int x = 0; x < a.width; x++) {
      const bool in = x >= rect.left && x < rect.right() && y >= rect.top && y < rect.bottom();
      const auto at = static_cast<std::ptrdiff_t>((y * a.width + x) * 3);
      count += in == inside && !std::equal(a.pixels.begin() + at, a.pixels.begin() + at + 3, b.pixels.begin() + at);
    }
  return count;
}

const Rect kHole{20, 16, 21, 30};

class Inpaint : public testing::Test {
 protected:
  Inpaint() {
    write_picture(program, "a.png", picture);
    write_picture(program, "m.png", mask_picture(70, 61, kHole));
  }
  Image run(const std::string& options) {
    const Outcome made =
        program.run("generate house -m demo --steps 2 --seed 1 --image a.png " + options + " -o b.png --overwrite");
    EXPECT_EQ(made.status, 0) << options << made.err;
    return read_image(program.path() / "b.png");
  }
  Program program;
  Image picture =
      gradient(70, 61);  // a size that the autoencoder cannot halve: it is padded, and the result has the picture's own
};

TEST_F(Inpaint, OutsideTheMaskNothingChanges) {
  for (const std::string options : {"", "--mask-blur 0", "--strength 0.5 --mask-fill noise", "--strength 0.5 --mask-fill fill",
                                    "--only-masked --width 64 --height 64"}) {
    const Image made = run("--mask m.png " + options);
    ASSERT_EQ(made.pixels.size(), picture.pixels.size());
    EXPECT_EQ(differing(made, picture, kHole, false), 0) << options;
    EXPECT_GT(differing(made, picture, kHole, true), 500) << options;
  }
  const Image turned = run("--mask m.png --invert-mask");
  EXPECT_EQ(differing(turned, picture, kHole, true), 0);
  EXPECT_GT(differing(turned, picture, kHole, false), 3000);
}

TEST_F(Inpaint, TransparencyIsAMask) {
  Image holed{70, 61, 4, {}};
  const Mask mask = mask_of_brightness(mask_picture(70, 61, kHole));
  for (size_t i = 0; i < mask.values.size(); i++) {
    const auto at = picture.pixels.begin() + static_cast<std::ptrdiff_t>(i * 3);
    holed.pixels.insert(holed.pixels.end(), at, at + 3);
    holed.pixels.push_back(static_cast<uint8_t>(255 - mask.values[i]));
  }
  write_picture(program, "holed.png", holed);
  const Image made = run("--image holed.png --mask alpha");
  EXPECT_EQ(differing(made, picture, kHole, false), 0);
  EXPECT_EQ(program.run("generate x -m demo --image a.png --mask alpha -o c.png").status, 2);
}

TEST_F(Inpaint, IsStoredAndMadeAgain) {
  run("--mask m.png --strength 0.5 --only-masked --mask-padding 8 -W 64 -H 64");
  EXPECT_THAT(program.run("inspect b.png").out,
              HasSubstr("Denoising strength: 0.5, Mask blur: 4, Inpaint area: Only masked, Masked area padding: 8"));
  const Outcome without = program.run("generate --from b.png -o c.png");
  EXPECT_EQ(without.status, 2);
  EXPECT_THAT(without.err, HasSubstr("made from the picture a.png; pass that one with --image"));
  EXPECT_THAT(program.run("generate --from b.png --image a.png -o c.png").err, HasSubstr("made with the mask m.png"));
  ASSERT_EQ(program.run("generate --from b.png --image a.png --mask m.png -o c.png").status, 0);
  EXPECT_EQ(program.read("b.png"), program.read("c.png"));
}

TEST_F(Inpaint, PicturesOfABatchAreThoseMadeAlone) {
  const std::string quick = "generate house -m demo --steps 2 --image a.png --mask m.png ";
  ASSERT_EQ(program.run(quick + "--seed 1 --count 2 --batch 2 -o many/").status, 0);
  ASSERT_EQ(program.run(quick + "--seed 2 -o alone.png").status, 0);
  EXPECT_EQ(program.read("many/00002-2.png"), program.read("alone.png"));
}

struct BadJob {
  const char* name;
  std::string arguments;
  int status;
  const char* message;
};
class BadJobs : public testing::TestWithParam<BadJob> {};

TEST_P(BadJobs, AreOneClearLine) {
  const Program program;
  write_picture(program, "p.png", gradient(64, 64));
  write_picture(program, "m.png", mask_picture(64, 64, {8, 8, 16, 16}));
  write_picture(program, "small.png", mask_picture(32, 64, {8, 8, 16, 16}));
  write_picture(program, "black.png", mask_picture(64, 64, {}));
  const Outcome o = program.run("generate " + GetParam().arguments + " --steps 1 -o a.png");
  EXPECT_EQ(o.status, GetParam().status) << o.err;
  EXPECT_THAT(o.err, HasSubstr("error: "));
  EXPECT_THAT(o.err, HasSubstr(GetParam().message));
  EXPECT_FALSE(program.has("a.png"));
}

const std::string kInpaintModel = "-m '" + (golden() / "models" / "sd1-inpaint").string() + "' ",
                  kEditModel = "-m '" + golden_model("sd1-instruct").string() + "' ";

INSTANTIATE_TEST_SUITE_P(
    Program, BadJobs,
    testing::Values(
        BadJob{"MaskAlone", "x -m demo --mask m.png", 2, "--image"},
        BadJob{"MaskOfAnotherSize", "x -m demo --image p.png --mask small.png", 2, "32 x 64 pixels, but p.png is 64 x 64"},
        BadJob{"EmptyMask", "x -m demo --image p.png --mask black.png", 2, "--invert-mask"},
        BadJob{"NoMaskFile", "x -m demo --image p.png --mask nowhere.png", 8, "nowhere.png"},
        BadJob{"MaskFill", "x -m demo --image p.png --mask m.png --mask-fill blue", 2, "original, fill"},
        BadJob{"MaskBlur", "x -m demo --image p.png --mask m.png --mask-blur -1", 2, "--mask-blur -1"},
        BadJob{"OnlyMasked", "x -m demo --image p.png --only-masked", 2, "--mask"},
        BadJob{"InvertMask", "x -m demo --image p.png --invert-mask", 2, "--mask"},
        BadJob{"EditAlone", kEditModel + "--edit night", 2, "--image"},
        BadJob{"EditWithMask", kEditModel + "--edit night --image p.png --mask m.png", 2, "--mask"},
        BadJob{"EditModel", kDemo + "--edit night --image p.png", 4, "reads 4 channels"},
        BadJob{"WordsToInpaintModel", "x " + kInpaintModel, 4, "--mask"},
        BadJob{"WordsToEditModel", "x " + kEditModel + "--image p.png", 4, "--edit"},
        BadJob{"ImageGuidance", kEditModel + "--edit night --image p.png --image-guidance 0.5", 2, "--image-guidance 0.5"},
        BadJob{"GrowAlone", "x -m demo --grow 8", 2, "--image"},
        BadJob{"GrowNothing", "x -m demo --image p.png --grow 0", 2, "nothing grows"},
        BadJob{"GrowWords", "x -m demo --image p.png --grow left", 2, "left,top,right,bottom"},
        BadJob{"GrowWithMask", "x -m demo --image p.png --grow 8 --mask m.png", 2, "--mask"},
        BadJob{"HiresSmaller", "x -m demo --hires 0.5", 2, "a scale above 1"},
        BadJob{"HiresOdd", "x -m demo --hires 100x128", 2, "the nearest is 104"},
        BadJob{"HiresHuge", "x -m demo --hires 1e9", 2, "16384"},
        BadJob{"HiresSteps", "x -m demo --hires 2", 2, "more --hires-steps"},
        BadJob{"HiresOfAPicture", "x -m demo --image p.png --hires 2", 2, "--image"},
        BadJob{"HiresUpscaler", "x -m demo --hires 2 --hires-upscaler magic", 2, "latent or lanczos"},
        BadJob{"VariationAlone", "x -m demo --variation-seed 4", 2, "--variation-strength"},
        BadJob{"VariationStrength", "x -m demo --variation-strength 2", 2, "--variation-strength 2"},
        BadJob{"TileWord", "x -m demo --tile z", 2, "x, y or xy"},
        BadJob{"TileSize", "x -m demo --tile x -W 96 -H 72", 2, "multiple of 64; the nearest is 128"},
        BadJob{"NotUtf8", "\"$(printf 'caf\\351')\" -m demo", 2, "UTF-8: \"caf\\xe9\""}),
    [](const auto& bad) { return std::string(bad.param.name); });

// The mean difference between neighbors, across one line of pixels: columns x-1 and x, or rows.
double step_across(const Image& image, int at, bool rows) {
  double sum = 0;
  const int length = rows ? image.width : image.height, wrap = rows ? image.height : image.width;
  for (int i = 0; i < length; i++)
    for (int c = 0; c < 3; c++) {
      const auto value = [&](int line) {
        return static_cast<int>(
            image.pixels[static_cast<size_t>((rows ? line * image.width + i : i * image.width + line) * 3 + c)]);
      };
      sum += std::abs(value(at) - value((at + wrap - 1) % wrap));
    }
  return sum / (3 * length);
}

TEST(Grow, KeepsThePictureAndShowsNoSeam) {
  const Program program;
  const Outcome base =
      program.run("generate 'a red house in green hills during the day' -m demo -g 5 --steps 12 --seed 4 -o a.png");
  ASSERT_EQ(base.status, 0) << base.err;
  const Outcome made = program.run("generate 'green hills during the day' " + kDemo +
                                   "-g 5 --steps 12 --seed 1 --image a.png --grow 0,0,50%,24 -o "
                                   "b.png");
  ASSERT_EQ(made.status, 0) << made.err;
  const Image a = read_image(program.path() / "a.png"), b = read_image(program.path() / "b.png");
  ASSERT_EQ(b.width, 192);
  ASSERT_EQ(b.height, 152);
  EXPECT_EQ(crop(b, {0, 0, 126, 126}), crop(a, {0, 0, 126, 126}));  // two pixels along the edges that grow are made anew
  // Across the seam colors change no more than they do elsewhere in the new part.
  const Image right = crop(b, {96, 0, 96, 128});
  double most = 0;
  for (int x = 33; x < 96; x++) most = std::max(most, step_across(right, x, false));
  for (const int x : {30, 31, 32}) EXPECT_LE(step_across(right, x, false), most) << x;
  EXPECT_THAT(program.run("inspect b.png").out, HasSubstr("Outpaint: \"0,0,50%,24\""));
}

TEST(Hires, MakesALargerPictureOfTheSame) {
  const Program program;
  for (const std::string options :
       {"--hires 1.5", "--hires 96x96 --hires-upscaler lanczos --hires-steps 3 --hires-strength 0.5"}) {
    const Outcome made = program.run("generate house " + kQuick + options + " -o a.png --overwrite");
    ASSERT_EQ(made.status, 0) << made.err;
    EXPECT_EQ(read_image(program.path() / "a.png").width, 96);
  }
  EXPECT_THAT(program.run("inspect a.png").out,
              HasSubstr("Denoising strength: 0.5, Hires resize: 96x96, Hires steps: 3, Hires upscaler: Lanczos"));
  ASSERT_EQ(program.run("generate --from a.png -o b.png").status, 0);
  EXPECT_EQ(program.read("a.png"), program.read("b.png"));
}

TEST(Variations, StayNearTheSeed) {
  const Program program;
  const std::string quick = "generate house " + kQuick;
  ASSERT_EQ(program.run(quick + "-o a.png").status, 0);
  ASSERT_EQ(program.run(quick + "--variation-seed 5 --variation-strength 0.05 --count 2 -o near/").status, 0);
  ASSERT_EQ(program.run(quick + "--variation-seed 6 --variation-strength 0.05 -o alone.png").status, 0);
  ASSERT_EQ(program.run(quick + "--variation-seed 5 --variation-strength 1 -o far.png").status, 0);
  ASSERT_EQ(program.run("generate house -m demo --steps 2 -W 64 -H 64 --seed 5 -o five.png").status, 0);
  EXPECT_EQ(program.read("near/00002-1.png"), program.read("alone.png"));
  const auto pixels = [&](const char* name) { return read_image(program.path() / name).pixels; };
  EXPECT_EQ(pixels("far.png"), pixels("five.png"));
  EXPECT_NE(pixels("near/00001-1.png"), pixels("a.png"));
  EXPECT_THAT(program.run("inspect alone.png").out, HasSubstr("Variation seed: 6, Variation seed strength: 0.05"));
}

TEST(Tile, OppositeEdgesMeet) {
  const Program program;
  const std::string hills = "generate 'a red house in green hills' -m demo -g 5 --steps 8 --seed 3 ";
  ASSERT_EQ(program.run(hills + "-o plain.png").status, 0);
  ASSERT_EQ(program.run(hills + "--tile xy -o tile.png").status, 0);
  const Image plain = read_image(program.path() / "plain.png"), tile = read_image(program.path() / "tile.png");
  for (const bool rows : {false, true}) EXPECT_LT(step_across(tile, 0, rows), 0.5 * step_across(plain, 0, rows)) << rows;
  EXPECT_THAT(program.run("inspect tile.png").out, HasSubstr("Tiling: True"));
}

TEST(Models, TheOneMadeForTheJobIsFound) {
  const Program program;
  write_picture(program, "p.png", gradient(64, 64));
  write_picture(program, "m.png", mask_picture(64, 64, {8, 8, 32, 32}));
  std::filesystem::create_directories(program.path() / "models");
  for (const auto& [from, to] : {std::pair{"sd1-inpaint", "demo-one"}, {"sd1-instruct", "demo-two"}})
    std::filesystem::create_directory_symlink(golden_model(from), program.path() / "models" / to);
  const std::string end = " --models-dir models --image p.png --steps 1 -o a.png --overwrite";
  const Outcome named = program.run("generate x -m demo.safetensors --mask m.png" + end);
  EXPECT_EQ(named.status, 0) << named.err;
  EXPECT_THAT(named.err, HasSubstr("demo-one is made for this, and used in place of demo"));
  const Outcome unnamed = program.run("generate --edit x" + end);
  EXPECT_EQ(unnamed.status, 0) << unnamed.err;
  EXPECT_THAT(unnamed.err, HasSubstr("model: demo-two"));
  const Outcome wrong = program.run("generate --edit x -m demo-one" + end);
  EXPECT_EQ(wrong.status, 4);
  EXPECT_THAT(wrong.err, testing::AllOf(HasSubstr("demo-one cannot do this"), HasSubstr("Made for it: -m demo-two")));
}

TEST(Batch, LinesTakeEveryOption) {
  const Program program;
  write_picture(program, "p.png", gradient(64, 64));
  write_picture(program, "m.png", mask_picture(64, 64, {8, 8, 32, 32}));
  program.write("lines.txt",
                "a house --image p.png --mask m.png --mask-blur 2\na house --image p.png --grow 8\na house --hires 2\n"
                "a house --tile xy\na house --variation-strength 0.1\n--edit b --image p.png\n");
  const Outcome o = program.run("batch lines.txt " + kDemo + "--steps 2 --width 64 --height 64 --seed 9 -o out");
  EXPECT_EQ(o.status, 9) << o.err;
  EXPECT_THAT(o.err, HasSubstr("line 6: demo cannot do this: its UNet reads 4 channels"));
  EXPECT_EQ(program.files_in("out"), 5u);
}

TEST(Edit, IsMadeAndStored) {
  const Program program;
  write_picture(program, "p.png", gradient(70, 61));
  const std::string edit =
      "generate --edit 'make it night' --image p.png " + kEditModel + "--steps 2 --seed 1 --image-guidance 2 ";
  const Outcome made = program.run(edit + "-o a.png");
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(read_image(program.path() / "a.png").width, 70);
  const Outcome shown = program.run("inspect a.png");
  EXPECT_THAT(shown.out, testing::StartsWith("make it night\n"));
  EXPECT_THAT(shown.out, HasSubstr("Image CFG scale: 2"));
  ASSERT_EQ(program.run("generate --from a.png --image p.png " + kEditModel + "-o b.png").status, 0);
  EXPECT_EQ(program.read("a.png"), program.read("b.png"));
}

}  // namespace
}  // namespace cudream
