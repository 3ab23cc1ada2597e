// Running, naming, writing.
#include "cli/produce.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "runtime/picture/parameters.h"
#include "runtime/scheduler_names.h"
#include "runtime/tasks.h"
#include "runtime/wildcards.h"

namespace cudream {
namespace {

std::string number(double value) {
  return fmt::format("{:g}", value);
}

void add_mask(Parameters& p, const Job& job) {
  if (job.mask_blur > 0) p.values.emplace_back("Mask blur", number(job.mask_blur));
  if (job.invert_mask) p.values.emplace_back("Mask mode", "Inpaint not masked");
  if (job.mask_fill != "original") p.values.emplace_back("Masked content", job.mask_fill == "noise" ? "latent noise" : "fill");
  if (!job.only_masked) return;
  p.values.emplace_back("Inpaint area", "Only masked");
  p.values.emplace_back("Masked area padding", number(job.mask_padding));
}

// As the ControlNet extension of A1111 writes them.
void add_controls(Parameters& p, const Job& job) {
  for (int i = 0; const ControlText& control : parse_controls(job.controls)) {
    const ControlWindow& w = control.window;
    p.values.emplace_back(fmt::format("ControlNet {}", i++),
                          fmt::format("Module: none, Model: {}, Weight: {:g}, Guidance Start: {:g}, Guidance End: {:g}",
                                      control.name, w.strength, w.start, w.end));
  }
}

void add_hires(Parameters& p, const Job& job) {
  p.values.emplace_back("Denoising strength", number(job.hires_strength));
  p.values.emplace_back(job.hires.find('x') == std::string::npos ? "Hires upscale" : "Hires resize", job.hires);
  if (job.hires_steps > 0) p.values.emplace_back("Hires steps", number(job.hires_steps));
  p.values.emplace_back("Hires upscaler", job.hires_upscaler == "latent" ? "Latent" : "Lanczos");
}

}  // namespace

Metadata describe_picture(const Job& job, const std::string& libraries) {
  ScheduleConfig config;
  set_sampler(config, job.sampler);
  if (!job.schedule.empty()) set_schedule(config, job.schedule);
  Parameters p{.prompt = job.prompt, .negative = job.negative};
  p.values = {{"Steps", number(job.steps)},
              {"Sampler", std::string(sampler_name(config).label)},
              {"Schedule type", std::string(schedule_name(config))},
              {"CFG scale", number(job.guidance)},
              {"Seed", std::to_string(job.seed)},
              {"Size", fmt::format("{}x{}", job.width, job.height)},
              {"Model", job.model}};
  if (!job.vae.empty()) p.values.emplace_back("VAE", job.vae);
  if (job.strength) p.values.emplace_back("Denoising strength", number(*job.strength));
  if (job.edit) p.values.emplace_back("Image CFG scale", number(job.image_guidance));
  if (!job.mask.empty()) add_mask(p, job);
  if (!job.grow.empty()) p.values.emplace_back("Outpaint", job.grow);
  if (!job.hires.empty()) add_hires(p, job);
  add_controls(p, job);
  if (job.variation_strength > 0) {
    p.values.emplace_back("Variation seed", std::to_string(job.variation_seed.value_or(job.seed + 1)));
    p.values.emplace_back("Variation seed strength", number(job.variation_strength));
  }
  if (!job.tile.empty()) p.values.emplace_back("Tiling", job.tile == "xy" ? "True" : job.tile);
  if (!job.prompt_template.empty()) p.values.emplace_back("Template", job.prompt_template);
  if (!job.negative_template.empty()) p.values.emplace_back("Negative Template", job.negative_template);
  if (job.clip_skip != 1) p.values.emplace_back("Clip skip", number(job.clip_skip));
  if (job.rng != "torch-cpu") p.values.emplace_back("RNG", job.rng);
  if (!libraries.empty()) p.values.emplace_back("Libraries", libraries);
  p.values.emplace_back("Version", "cudream " CUDREAM_VERSION);
  return {.parameters = write_parameters(p), .job = to_json(job).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)};
}

std::vector<std::filesystem::path> produce(Session& session, const Production& production, const NamePicture& name,
                                           Progress& progress, const RunChecks& checks) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::filesystem::path> written;
  // With wildcards every picture has a prompt of its own.
  const int most = has_wildcards(production.job.prompt) || has_wildcards(production.job.negative) ? 1 : production.batch;
  for (int first = 0; first < production.count; first += most) {
    const int batch = std::min(most, production.count - first);
    Job job = nth_picture(production.job, static_cast<uint64_t>(first));
    session.draw_wildcards(job);
    session.use_adapters(job);
    const auto begun = Clock::now();
    const std::vector<Image> images = make_pictures(session.engine(), job, batch, session.hooks(), checks);
    progress.done();
    const std::string libraries = session.engine().device().libraries_used();
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    for (const Image& image : images) {
      const auto path = name({.seed = job.seed,
                              .steps = job.steps,
                              .width = image.width,
                              .height = image.height,
                              .prompt = job.prompt,
                              .model = job.model,
                              .sampler = job.sampler});
      write_image(path, image, describe_picture(job, libraries), production.exists);
      written.push_back(path);
      progress.picture(path, job.seed, seconds / batch);
      job = nth_picture(job, 1);
    }
  }
  return written;
}

}  // namespace cudream
