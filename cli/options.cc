// Option tables.
#include "cli/options.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <random>

#include "core/error.h"
#include "core/log.h"

namespace cudream {

DeviceOptions HostOptions::device_options() const {
  DeviceOptions options{.name = device, .threads = threads};
  if (precision == "f32") options.precision = DType::f32;
  if (precision == "bf16") options.precision = DType::bf16;
  if (precision == "f16") options.precision = DType::f16;
  const auto provider = [](const std::string& name) {
    return name == "auto" ? LibraryUse::automatic : name == "own" ? LibraryUse::never : LibraryUse::always;
  };
  options.providers = {.gemm = provider(gemm), .conv = provider(conv), .attention = provider(attention), .tune = tune};
  return options;
}

void HostOptions::notice(const std::string& text) const {
  if (strict) throw fail(Code::strict, "{} (--strict)", text);
  log(LogLevel::info, "note: {}", text);
}

void add_models_dir_option(CLI::App& app, HostOptions& host) {
  app.add_option("--models-dir", host.models_dirs, "Also look for models in this folder (repeatable)")
      ->type_name("FOLDER")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void add_strict_option(CLI::App& app, HostOptions& host) {
  app.add_flag("--strict", host.strict, "Make nothing otherwise than asked: every notice (\"note: ...\") is an error");
}

void add_host_options(CLI::App& app, HostOptions& host) {
  app.add_option("--device", host.device, "auto, cuda, cuda:N, cpu or reference")->capture_default_str();
  app.add_option("--precision", host.precision,
                 "Of the networks: auto (bf16 where the processor is fast at it), f32, bf16, or f16 (CUDA)")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--gemm", host.gemm, "Matrix products on CUDA: own kernels, cublaslt, or auto (whichever --tune found faster)")
      ->check(CLI::IsMember({"auto", "own", "cublaslt"}))
      ->capture_default_str();
  app.add_option("--conv", host.conv, "Convolutions on CUDA: own, cudnn, or auto")
      ->check(CLI::IsMember({"auto", "own", "cudnn"}))
      ->capture_default_str();
  app.add_option("--attention", host.attention, "Attention on CUDA: own, cudnn, or auto")
      ->check(CLI::IsMember({"auto", "own", "cudnn"}))
      ->capture_default_str();
  app.add_flag("--tune", host.tune, "On CUDA: time our kernels against NVIDIA's libraries, shape by shape, and keep the winners");
  app.add_option("--threads", host.threads, "Threads of the CPU device; 0: one a processor")->check(CLI::Range(0, 1024));
  app.add_flag("--offload", host.offload,
               "Keep text encoder, UNet and VAE on the device in turn: less memory, the same pictures");
  app.add_option("--loader", host.loader, "How weights are read: auto, mmap, pread, or direct (past the page cache)")
      ->check(CLI::IsMember({"auto", "mmap", "pread", "direct"}))
      ->capture_default_str();
  add_models_dir_option(app, host);
  app.add_option("--wildcards", host.wildcards, "Folder of the lists behind __name__ in prompts")->type_name("FOLDER");
  add_strict_option(app, host);
  app.add_flag("--json", host.json, "Events and results as JSON, one object a line, on standard output");
  app.add_flag("-q,--quiet", host.quiet, "Say nothing but warnings and errors");
}

namespace {

// Two whole numbers with an x between them: 1024x768.
void add_pair_option(CLI::App& app, const std::string& name, int& first, int& second, const std::string& help) {
  const auto parse = [&first, &second](const std::string& text) {
    const auto x = text.find('x');
    return x != std::string::npos && CLI::detail::lexical_cast(text.substr(0, x), first) &&
           CLI::detail::lexical_cast(text.substr(x + 1), second) && first >= 0 && second >= 0;
  };
  app.add_option(
         name, [parse](const CLI::results_t& given) { return parse(given.back()); }, help)
      ->type_name("NxN");
}

// A list, given as one text with commas or several times.
void add_list_option(CLI::App& app, const std::string& name, std::string& list, const std::string& help,
                     const std::string& type) {
  const auto join = [&list](const std::vector<std::string>& given) { list = fmt::format("{}", fmt::join(given, ",")); };
  app.add_option_function<std::vector<std::string>>(name, join, help)
      ->type_name(type)
      ->delimiter(',')
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

// What only Stable Diffusion XL reads.
void add_xl_options(CLI::App& app, Job& job) {
  app.add_option("--prompt-2", job.prompt_2, "SDXL: what the second text encoder reads instead of the prompt");
  add_pair_option(app, "--original-size", job.original_width, job.original_height,
                  "SDXL: size of the picture to imitate, WIDTHxHEIGHT; this one's when left out");
  add_pair_option(app, "--crop", job.crop_left, job.crop_top, "SDXL: where that picture was cut, LEFTxTOP");
  add_pair_option(app, "--target-size", job.target_width, job.target_height,
                  "SDXL: size of the cut; this picture's when left out");
  app.add_option("--aesthetic", job.aesthetic, "SDXL refiner: how beautiful, 0 to 10")->capture_default_str();
  app.add_option("--negative-aesthetic", job.negative_aesthetic, "SDXL refiner: the same for the negative prompt");
}

void add_control_options(CLI::App& app, Job& job) {
  add_list_option(app, "--control", job.controls,
                  "ControlNet by name, how strongly it acts, and between which shares of the steps: canny, canny:0.8 or "
                  "canny:0.8:0:0.5 (repeatable)",
                  "NAME[:STRENGTH[:START[:END]]]");
  app.add_option("--control-image", job.control_images, "What it sees, such as edges or depths; one for each --control, in order")
      ->type_name("FILE")
      ->delimiter(',')
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

// What is made from a picture.
void add_picture_options(CLI::App& app, Job& job) {
  const auto edit = [&job](const std::string& instruction) {
    job.prompt = instruction;
    job.edit = true;
  };
  app.add_option("-i,--image", job.image, "Start from this picture (PNG, JPEG or WebP)")
      ->type_name("FILE")
      ->group("From a picture");
  app.add_option("--strength", job.strength, "How much of it is redrawn, above 0 to 1; 0.75, or 1 under a mask, when left out")
      ->group("From a picture");
  app.add_option_function<std::string>("-e,--edit", edit, "Change the picture as this sentence says (models made for it)")
      ->type_name("TEXT")
      ->group("From a picture");
  app.add_option("--image-guidance", job.image_guidance, "Of an edit: how closely the picture is kept, 1 and more")
      ->capture_default_str()
      ->group("From a picture");
  app.add_option("--mask", job.mask, "Make anew only what is white in this picture; `alpha`: what is transparent in --image")
      ->type_name("FILE")
      ->group("A part of it");
  app.add_flag("--invert-mask", job.invert_mask, "Make anew what is black")->group("A part of it");
  app.add_option("--mask-blur", job.mask_blur, "Pixels inside the mask's edge over which new meets old; outside nothing changes")
      ->capture_default_str()
      ->group("A part of it");
  app.add_option("--mask-fill", job.mask_fill,
                 "What the part starts from below strength 1: original, fill (colors around), noise")
      ->capture_default_str()
      ->group("A part of it");
  app.add_option("--grow", job.grow,
                 "Paint around the picture: left,top,right,bottom or one value, pixels or percent (0,0,50%,0)")
      ->type_name("L,T,R,B")
      ->group("A part of it");
  app.add_flag("--only-masked", job.only_masked, "Work on the region around the mask, enlarged to --width and --height")
      ->group("A part of it");
  app.add_option("--mask-padding", job.mask_padding, "Pixels around the mask that are seen with --only-masked")
      ->capture_default_str()
      ->group("A part of it");
}

void add_variant_options(CLI::App& app, Job& job) {
  app.add_option("--hires", job.hires, "Make it twice, the second time larger: a scale (1.5) or a size (1024x768)")
      ->type_name("SCALE|WxH")
      ->group("More of a picture");
  app.add_option("--hires-strength", job.hires_strength, "How much the second pass redraws, above 0 to 1")
      ->capture_default_str()
      ->group("More of a picture");
  app.add_option("--hires-steps", job.hires_steps, "Steps of the second pass; 0: as many as the first")
      ->group("More of a picture");
  app.add_option("--hires-upscaler", job.hires_upscaler, "What is enlarged between: latent, or lanczos (of the pixels)")
      ->capture_default_str()
      ->group("More of a picture");
  app.add_option("--variation-strength", job.variation_strength, "Pictures near that of the seed: 0 the same, 1 another")
      ->group("More of a picture");
  app.add_option("--variation-seed", job.variation_seed,
                 "Seed of the first variation; picture i uses seed + i. Without it: --seed + 1")
      ->group("More of a picture");
  app.add_option("--refiner", job.refiner, "Another model of the same latents for the last steps, by name (SDXL's refiner)")
      ->group("More of a picture");
  app.add_option("--refiner-start", job.refiner_start, "Share of denoising after which it takes over, between 0 and 1")
      ->capture_default_str()
      ->group("More of a picture");
  app.add_option("--tile", job.tile, "Seamless: opposite edges meet, left and right (x), top and bottom (y), or both (xy)")
      ->type_name("x|y|xy")
      ->group("More of a picture");
}

}  // namespace

void add_job_options(CLI::App& app, JobOptions& options) {
  Job& job = options.job;
  app.add_option("-m,--model", job.model, "Model: its name, or a unique part of it (see `cudream models`)");
  app.add_option("--vae", job.vae, "Use the autoencoder of this model or VAE file, by name; tiny ones (TAESD) too");
  app.add_option("-n,--negative", job.negative, "What the picture should not show");
  app.add_option("-s,--steps", job.steps, "Denoising steps")->capture_default_str();
  app.add_option("-g,--guidance", job.guidance, "Guidance scale: how strongly the prompt is followed; 1 turns it off")
      ->capture_default_str();
  app.add_option("--guidance-rescale", job.guidance_rescale, "Rescale guided outputs, 0 to 1, against overexposure");
  app.add_option("--sampler", job.sampler, "Sampler, by our name or that of A1111, ComfyUI or diffusers")->capture_default_str();
  app.add_option("--schedule", job.schedule, "Noise schedule: normal, karras, leading, trailing, ...");
  app.add_option("--eta", job.eta, "Share of fresh noise in a step, 0 to 1: of ddim (0 when left out) and tcd (0.3)");
  app.add_option("--seed", options.seed, "Seed of the first picture; picture i uses seed + i. Without it: a random one");
  app.add_option("--rng", job.rng, "Random numbers as PyTorch draws them on the CPU (torch-cpu) or on CUDA (philox)")
      ->capture_default_str();
  app.add_option("-W,--width", job.width, "Width in pixels; the model's own when left out");
  app.add_option("-H,--height", job.height, "Height in pixels");
  app.add_option("--clip-skip", job.clip_skip, "Text layer to read: 1 is the last, 2 the last but one")->capture_default_str();
  app.add_option("--prediction", job.prediction,
                 "What the network's output means, if the model says it wrongly: epsilon, v or sample");
  add_list_option(app, "--lora", job.loras,
                  "LoRA by name, with its strength: film or film:0.8 (repeatable; also <lora:film:0.8> in a prompt)",
                  "NAME[:STRENGTH]");
  add_list_option(app, "--embedding", job.embeddings,
                  "Textual inversion by name: its name is a word of prompts then (repeatable)", "NAME");
  add_control_options(app, job);
  add_xl_options(app, job);
  app.add_option("-c,--count", options.count, "How many pictures to make")->check(CLI::Range(1, 1000000))->capture_default_str();
  app.add_flag("--no-metadata", options.no_metadata, "Store nothing in the picture: neither settings nor that a model made it");
  add_picture_options(app, job);
  add_variant_options(app, job);
}

uint64_t random_seed() {
  return std::random_device{}();
}

}  // namespace cudream
