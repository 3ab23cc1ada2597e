// The unchanged program on a GPU: golden runs in float, half precision as a sanity check; on the virtual one faults as exit
// statuses too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/cli/golden_list.h"
#include "tests/cli/running.h"
#include "tests/cuda/nvidia_libraries.h"
#include "tests/picture/pictures.h"

namespace cudream {
namespace {

bool is_full() {
  return std::getenv("CUDREAM_FULL") != nullptr;
}

// One of each kind; all that there are with --full.
std::set<std::string> gpu_runs() {
  if (is_full()) return golden_runs();
  return {"sd1/txt2img_ddim5",  "sd1/txt2img_euler_a",       "sd1/img2img_s060",          "sd1/txt2img_oddsize",
          "sd1/inpaint4_s075",  "sd1-inpaint/inpaint9_s080", "sd1-instruct/edit_euler_a", "sd2/txt2img_v_zsnr",
          "sdxl/txt2img_sizes", "sdxl/txt2img_lightning",    "lcm/txt2img_4step",         "lcm/txt2img_tcd"};
}

class GpuRun : public testing::TestWithParam<std::string> {};

TEST_P(GpuRun, FollowsTheReference) {
  check_golden_run(GetParam(), "--device cuda --precision f32", kFloat);
}

INSTANTIATE_TEST_SUITE_P(Float, GpuRun, testing::ValuesIn(gpu_runs()), [](const auto& run) { return name_of_run(run.param); });

// With --full all of these too; else one LoRA, a ControlNet for some of the steps, a network without a middle, and one that has
// one block there and levels of uneven depth.
TEST(GpuAdapter, FollowsTheReference) {
  for (const std::string run : {"sd1/lora_kohya", "sd1/controlnet_window"})
    check_adapter_run(*std::ranges::find(kAdapterRuns, run, &AdapterRun::run), "cuda");
}

TEST(GpuDistilled, FollowsTheReference) {
  for (const size_t i : {2, 3}) check_distilled_run(kDistilled[i], "cuda");
}

TEST(GpuAll, FollowTheReference) {
  if (!is_full()) GTEST_SKIP() << "these are for --full";
  for (const AdapterRun& adapter : kAdapterRuns) check_adapter_run(adapter, "cuda");
  for (const Distilled& net : kDistilled) check_distilled_run(net, "cuda");
  for (const char* run : kDerivedRuns) check_derived_run(run, "cuda");
}

TEST(GpuTinyAutoencoder, FollowsTheReference) {
  check_golden_run("sd1/txt2img_taesd", "--device cuda --precision f32 --vae '" + golden_model("taesd").string() + "'", kFloat);
}

// float16 keeps more digits than bfloat16; the golden set's limits for each: text, network, latents, image.
constexpr Limits kF16{2e-3, 5e-3, 8e-3, 4e-3};

TEST(GpuHalf, StaysNear) {
  check_golden_run("sd1/txt2img_ddim5", "--device cuda --precision f16", kF16);
  check_golden_run("sd1/txt2img_ddim5", "--device cuda --precision bf16", kBf16);
}

// The same with every product that cuBLASLt, or its double, takes.
TEST(GpuLibraries, FollowTheReference) {
  if (const std::string absent = why_no_blas(); !absent.empty()) GTEST_SKIP() << absent;
  check_golden_run("sd1/txt2img_ddim5", "--device cuda --precision f32 --gemm cublaslt", kFloat);
}

TEST(GpuLibraries, StayNearInHalfPrecision) {
  for (const std::string& absent : {why_no_blas(), why_no_dnn()})
    if (!absent.empty()) GTEST_SKIP() << absent;
  const std::string options = "--device cuda --gemm cublaslt --conv cudnn --attention cudnn --precision ";
  check_golden_run("sd1/txt2img_ddim5", options + "f16", kF16);
  check_golden_run("sd1/txt2img_ddim5", options + "bf16", kBf16);
}

const std::string kTiny = "generate house -m '" + (golden() / "models" / "sd1.safetensors").string() +
                          "' --device cuda --precision f32 --steps 1 --width 64 --height 64 --seed 1 -o a.png ";

class GpuProgram : public VirtualGpuTest {};
class GpuBatch : public VirtualGpuTest {};

// The tensor-core kernels are what runs, not only what passes.
TEST_F(GpuProgram, RunsOnTensorCores) {
  const Program program;
  const Outcome o = program.run("generate house -m '" + (golden() / "models" / "sd1.safetensors").string() +
                                    "' --device cuda --precision f16 --steps 1 --width 64 --height 64 --seed 1 -o a.png ",
                                "CUDREAM_VGPU_REPORT='" + (program.path() / "report").string() + "'");
  ASSERT_EQ(o.status, 0) << o.err;
  const std::string report = program.read("report");
  EXPECT_THAT(report, testing::ContainsRegex("\"linear_[0-9]+x[0-9]+_f16\""));
  EXPECT_THAT(report, testing::ContainsRegex("\"geglu_[0-9]+x[0-9]+_f16\""));
  EXPECT_THAT(report, testing::ContainsRegex("\"conv_[0-9]+x[0-9]+_f16\""));
}

TEST(GpuLibraries, ArePartOfThePicturesText) {
  if (const std::string absent = why_no_blas(); !absent.empty()) GTEST_SKIP() << absent;
  const Program program;
  const Outcome made = program.run(kTiny + "--gemm cublaslt");
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_THAT(program.run("inspect a.png").out, testing::ContainsRegex("cuBLASLt [0-9]+\\.[0-9]+\\.[0-9]+"));
}

// Jobs of several passes, with the tiny model: the card's picture is the processor's, but for rounding.
class GpuJob : public testing::TestWithParam<std::string> {};

TEST_P(GpuJob, MakesTheSamePicture) {
  const Program program;
  write_image(program.path() / "p.png", gradient(40, 36), {}, Exists::refuse);
  Image mask = gradient(40, 36);
  for (size_t i = 0; i < mask.pixels.size(); i++) mask.pixels[i] = i / 3 % 40 < 20 ? 255 : 0;
  write_image(program.path() / "m.png", mask, {}, Exists::refuse);
  const std::string job = "generate house -m '" + (golden() / "models" / "sd1.safetensors").string() +
                          "' --precision f32 --steps 1 --seed 1 " + GetParam();
  for (const std::string device : {"cuda", "cpu"}) {
    const Outcome o = program.run(job + " --device " + device + " -o " + device + ".png");
    ASSERT_EQ(o.status, 0) << o.err;
  }
  const Image gpu = read_image(program.path() / "cuda.png"), cpu = read_image(program.path() / "cpu.png");
  ASSERT_EQ(gpu.pixels.size(), cpu.pixels.size());
  int most = 0;
  for (size_t i = 0; i < gpu.pixels.size(); i++) most = std::max(most, std::abs(gpu.pixels[i] - cpu.pixels[i]));
  EXPECT_LE(most, 1);
}

INSTANTIATE_TEST_SUITE_P(Float, GpuJob,
                         testing::Values("--image p.png --mask m.png --only-masked -W 32 -H 32", "--image p.png --grow 0,0,8,0",
                                         "-W 32 -H 32 --hires 1.5 --hires-steps 2", "-W 64 -H 64 --tile xy",
                                         "-W 32 -H 32 --variation-seed 2 --variation-strength 0.2",
                                         "-W 32 -H 32 --steps 2 --refiner-start 0.5 "
                                         "--refiner '" +
                                             golden_model("sd1.safetensors").string() + "'"),
                         [](const auto& job) { return "Job" + std::to_string(job.index); });

TEST_F(GpuProgram, OutOfMemoryIsOneLineAndAStatus) {
  const Program program;
  const Outcome o = program.run(kTiny, "CUDREAM_VGPU_FAIL_ALLOC=3");
  EXPECT_EQ(o.status, 5) << o.err;
  EXPECT_THAT(o.err, testing::HasSubstr("error: "));
  EXPECT_FALSE(program.has("a.png"));
}

TEST_F(GpuProgram, AJobThatDoesNotFitIsRefusedWithWhatWould) {
  const Program program;
  const std::string large = kTiny + "--width 1024 --height 1024 ";
  const Outcome o = program.run(large, "CUDREAM_VGPU_MEMORY=96");
  EXPECT_EQ(o.status, 5) << o.err;
  EXPECT_THAT(o.err, testing::HasSubstr("it would fit with --width"));
  EXPECT_FALSE(program.has("a.png"));
}

TEST_F(GpuProgram, AnItemThatDoesNotFitFailsAlone) {
  const Program program;
  program.write("b.txt", "a house --steps 1 -W 64 -H 64\na house --steps 1 -W 1024 -H 1024\na boat --steps 1 -W 64 -H 64\n");
  const std::string batch = "batch b.txt -o out --device cuda --precision f32 --seed 1 -m '" +
                            (golden() / "models" / "sd1.safetensors").string() + "' ";
  const Outcome o = program.run(batch, "CUDREAM_VGPU_MEMORY=96");
  EXPECT_EQ(o.status, 9) << o.err;
  EXPECT_THAT(o.err, testing::AllOf(testing::HasSubstr("it would fit with --width"),
                                    testing::HasSubstr("2 of 3 pictures done, 1 failed")));
  EXPECT_EQ(program.files_in("out"), 2u);
}

TEST_F(GpuProgram, AFailedLaunchIsOneLineAndAStatus) {
  const Program program;
  const Outcome o = program.run(kTiny, "CUDREAM_VGPU_FAIL_LAUNCH=200");
  EXPECT_EQ(o.status, 6) << o.err;
  EXPECT_FALSE(program.has("a.png"));
}

// Two cards share a batch; when one of them is lost, the other makes all that is left. The files are those of one card.
TEST_F(GpuBatch, IsSharedByDevices) {
  const Program program;
  program.write("p.txt", "house --seed 1..4\n");
  const std::string command = "batch p.txt -m '" + (golden() / "models" / "sd1.safetensors").string() +
                              "' --precision f32 --steps 1 --width 64 --height 64 --batch 1 ";
  ASSERT_EQ(program.run(command + "--device cuda -o one").status, 0);
  const auto one = pictures(program, "one");
  ASSERT_EQ(one.size(), 4u);
  const std::string cards = "CUDREAM_VGPU_DEVICES=a100,a100 ";
  const Outcome both = program.run(command + "--devices 0,1 -o two", cards);
  EXPECT_EQ(both.status, 0) << both.err;
  EXPECT_TRUE(pictures(program, "two") == one);
  const Outcome lost = program.run(command + "--devices 0,1 -o three", cards + "CUDREAM_VGPU_FAIL_LAUNCH=900");
  EXPECT_EQ(lost.status, 0) << lost.err;
  EXPECT_THAT(lost.err, testing::ContainsRegex("cuda:[01] is lost, and what it has not made goes to the others"));
  EXPECT_TRUE(pictures(program, "three") == one);
  const Outcome unlike = program.run(command + "--devices 0,1 -o four", "CUDREAM_VGPU_DEVICES=a100,4090");
  EXPECT_EQ(unlike.status, 2) << unlike.err;
  EXPECT_THAT(unlike.err, testing::HasSubstr("cuda:1 is not the same as cuda:0"));
  EXPECT_EQ(program.run(command + "--devices 0,0 -o four", cards).status, 2);
}

// As many in a pass as fill the card, or fit.
TEST_F(GpuBatch, APassHasAsManyAsFit) {
  const Program program;
  const std::string model =
      "-m '" + (golden() / "models" / "sd1.safetensors").string() + "' --device cuda --precision f32 --steps 1 ";
  const Outcome plan = program.run("plan house -W 512 -H 512 " + model, "CUDREAM_VGPU_MEMORY=128");
  EXPECT_THAT(plan.out,
              testing::ContainsRegex("passes of [2-9] pictures: [3-9] need [0-9]+ MiB of cuda:0, and [0-9]+ MiB are free"));
  program.write("p.txt", "house --seed 1..3\n");
  const std::string command = "batch p.txt -W 32 -H 32 " + model;
  const Outcome together = program.run(command + "-o together", "CUDREAM_VGPU_DEVICES=a100");
  EXPECT_EQ(together.status, 0) << together.err;
  EXPECT_THAT(together.err, testing::HasSubstr("passes of 64 pictures: they fill the 108 multiprocessors of cuda:0"));
  const Outcome alone = program.run(command + "-o alone --batch 1");
  EXPECT_THAT(alone.err, testing::HasSubstr("passes of 1 picture: no more are asked for"));
  EXPECT_TRUE(pictures(program, "together") == pictures(program, "alone"));
}

// What a machine may lack: one line each, the same status, no picture.
TEST_F(GpuProgram, SaysWhatTheMachineLacks) {
  const std::pair<const char*, const char*> cases[] = {{"CUDREAM_VGPU_DEVICES=none", "finds no GPU"},
                                                       {"CUDREAM_VGPU_DEVICES=2080", "is too old: compute capability 8.0"},
                                                       {"CUDREAM_VGPU_VERSION=12040", "driver is too old: it supports CUDA 12.4"},
                                                       {"CUDREAM_VGPU_FAIL_IMAGE=1", "this program has no kernels in"}};
  for (const auto& [environment, says] : cases) {
    const Program program;
    const Outcome o = program.run(kTiny, environment);
    EXPECT_EQ(o.status, 6) << environment << ": " << o.err;
    EXPECT_THAT(o.err, testing::HasSubstr(says)) << environment;
    EXPECT_EQ(std::count(o.err.begin(), o.err.end(), '\n'), 1) << o.err;
    EXPECT_FALSE(program.has("a.png")) << environment;
  }
}

}  // namespace
}  // namespace cudream
