// Option tables.
#include "cli/options.h"

#include <random>

#include "core/error.h"

namespace cudream {

DeviceOptions HostOptions::device_options() const {
  DeviceOptions options{.name = device, .threads = threads};
  if (precision == "f32") options.precision = DType::f32;
  if (precision == "bf16") options.precision = DType::bf16;
  if (precision == "f16") options.precision = DType::f16;
  return options;
}

void add_models_dir_option(CLI::App& app, HostOptions& host) {
  app.add_option("--models-dir", host.models_dirs, "Also look for models in this folder (repeatable)")
      ->type_name("FOLDER")
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
}

void add_host_options(CLI::App& app, HostOptions& host) {
  app.add_option("--device", host.device, "auto, cuda, cuda:N, cpu or reference")->capture_default_str();
  app.add_option("--precision", host.precision, "Of the networks: auto (bf16 where the processor is fast at it), f32, bf16, or f16 (CUDA)")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--threads", host.threads, "Threads of the CPU device; 0: one a processor")->check(CLI::Range(0, 1024));
  add_models_dir_option(app, host);
  app.add_flag("--json", host.json, "Events and results as JSON, one object a line, on standard output");
  app.add_flag("-q,--quiet", host.quiet, "Say nothing but warnings and errors");
}

void add_job_options(CLI::App& app, JobOptions& options) {
  Job& job = options.job;
  app.add_option("-m,--model", job.model, "Model: its name, or a unique part of it (see `cudream models`)");
  app.add_option("--vae", job.vae, "Use the autoencoder of this model or VAE file, by name");
  app.add_option("-n,--negative", job.negative, "What the picture should not show");
  app.add_option("-s,--steps", job.steps, "Denoising steps")->capture_default_str();
  app.add_option("-g,--guidance", job.guidance, "Guidance scale: how strongly the prompt is followed; 1 turns it off")
      ->capture_default_str();
  app.add_option("--guidance-rescale", job.guidance_rescale, "Rescale guided outputs, 0 to 1, against overexposure");
  app.add_option("--sampler", job.sampler, "Sampler, by our name or that of A1111, ComfyUI or diffusers")->capture_default_str();
  app.add_option("--schedule", job.schedule, "Noise schedule: normal, karras, leading, trailing, ...");
  app.add_option("--eta", job.eta, "DDIM: share of fresh noise in a step, 0 to 1");
  app.add_option("--seed", options.seed, "Seed of the first picture; picture i uses seed + i. Without it: a random one");
  app.add_option("--rng", job.rng, "Random numbers as PyTorch draws them on the CPU (torch-cpu) or on CUDA (philox)")
      ->capture_default_str();
  app.add_option("-W,--width", job.width, "Width in pixels; the model's own when left out");
  app.add_option("-H,--height", job.height, "Height in pixels");
  app.add_option("--clip-skip", job.clip_skip, "Text layer to read: 1 is the last, 2 the last but one")->capture_default_str();
  app.add_option("-i,--image", job.image, "Image to image: start from this picture (PNG or JPEG)")->type_name("FILE");
  app.add_option("--strength", job.strength, "Image to image: how much of it is redrawn, above 0 to 1")->capture_default_str();
  app.add_option("-c,--count", options.count, "How many pictures to make")->check(CLI::Range(1, 1000000))->capture_default_str();
}

uint64_t random_seed() {
  return std::random_device{}();
}

}  // namespace cudream
