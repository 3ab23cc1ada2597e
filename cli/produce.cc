// Running, naming, writing.
#include "cli/produce.h"

#include <fmt/ranges.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/background.h"
#include "core/error.h"
#include "runtime/latent_file.h"
#include "runtime/picture/parameters.h"
#include "runtime/scheduler_names.h"
#include "runtime/tasks.h"

namespace cudream {
namespace {

constexpr size_t kMostUnwritten = 8;  // pictures that wait for the disk

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

// What is kept is told; that it could not be kept is told too, and the failure of the picture stays the one that is reported.
void keep_latents(const std::vector<Job>& jobs, std::span<const float> latents, const VaeSpec& vae, const PlacePicture& place) {
  const size_t size = latents.size() / jobs.size();
  for (size_t i = 0; i < jobs.size(); i++) {
    const std::span<const float> one = latents.subspan(i * size, size);
    try {
      std::optional<std::filesystem::path> file = place(i);
      if (!file) continue;
      file->replace_extension(".latent.safetensors");
      write_latent(*file, {.job = jobs[i],
                           .values = {one.begin(), one.end()},
                           .height = jobs[i].height / vae.factor(),
                           .width = jobs[i].width / vae.factor(),
                           .channels = vae.latent_channels});
      log(LogLevel::warn, "a picture was not decoded; `cudream decode {}` finishes it", printable(file->string()));
    } catch (const Error& e) {
      log(LogLevel::warn, "the latent of a picture that was not decoded is lost: {}", e.what());
    }
  }
}

}  // namespace

Metadata describe_picture(const Job& job, const Making& making) {
  ScheduleConfig config;
  set_sampler(config, job.sampler);
  if (!job.schedule.empty()) set_schedule(config, job.schedule);
  Parameters p{.prompt = job.prompt, .negative = job.negative};
  p.values = {{"Steps", number(job.steps)},
              {"Sampler", std::string(sampler_name(config).label)},
              {"Schedule type", std::string(schedule_name(config))},
              {"CFG scale", number(job.guidance)},
              {"Seed", std::to_string(job.seed)},
              {"Size", fmt::format("{}x{}", job.width, job.height)}};
  if (!making.model_hash.empty()) p.values.emplace_back("Model hash", making.model_hash);
  p.values.emplace_back("Model", job.model);
  if (!job.vae.empty()) p.values.emplace_back("VAE", job.vae);
  if (job.strength) p.values.emplace_back("Denoising strength", number(*job.strength));
  if (job.edit) p.values.emplace_back("Image CFG scale", number(job.image_guidance));
  if (!job.mask.empty()) add_mask(p, job);
  if (!job.grow.empty()) p.values.emplace_back("Outpaint", job.grow);
  if (!job.hires.empty()) add_hires(p, job);
  add_controls(p, job);
  if (!job.refiner.empty()) {
    p.values.emplace_back("Refiner", job.refiner);
    p.values.emplace_back("Refiner switch at", number(job.refiner_start));
  }
  if (job.variation_strength > 0) {
    p.values.emplace_back("Variation seed", std::to_string(job.variation_seed.value_or(job.seed + 1)));
    p.values.emplace_back("Variation seed strength", number(job.variation_strength));
  }
  if (!job.tile.empty()) p.values.emplace_back("Tiling", job.tile == "xy" ? "True" : job.tile);
  if (!job.prompt_template.empty()) p.values.emplace_back("Template", job.prompt_template);
  if (!job.negative_template.empty()) p.values.emplace_back("Negative Template", job.negative_template);
  if (job.clip_skip != 1) p.values.emplace_back("Clip skip", number(job.clip_skip));
  if (job.rng != "torch-cpu") p.values.emplace_back("RNG", job.rng);
  if (!making.libraries.empty()) p.values.emplace_back("Libraries", making.libraries);
  if (!making.redone.empty()) p.values.emplace_back("Done again in f32", fmt::format("{}", fmt::join(making.redone, ", ")));
  p.values.emplace_back("Version", "cudream " CUDREAM_VERSION);
  return {.parameters = write_parameters(p),
          .job = to_json(job).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
          .generated = true};
}

std::vector<MadePicture> make(Session& session, const std::vector<Job>& jobs, const PlacePicture& place, Progress& progress,
                              const RunChecks& checks) {
  using Clock = std::chrono::steady_clock;
  const auto begun = Clock::now();
  RunHooks hooks = session.hooks();
  if (jobs.front().image.empty() && jobs.front().hires.empty())
    hooks.on_undecoded = [&](std::span<const float> latents) {
      keep_latents(jobs, latents, *session.engine().spec().vae, place);
    };
  std::vector<Making> making(jobs.size());
  hooks.on_redone = [&](size_t i, const std::string& stage) { making[i].redone.insert(stage); };
  std::vector<Image> images = make_pictures(session.engines(), jobs, hooks, checks);
  progress.done();
  const double seconds = std::chrono::duration<double>(Clock::now() - begun).count() / static_cast<double>(jobs.size());
  std::vector<MadePicture> made;
  for (size_t i = 0; i < jobs.size(); i++) {
    making[i].model_hash = session.model_hash();
    making[i].libraries = session.engine().device().libraries_used();
    made.push_back({jobs[i], std::move(images[i]), std::move(making[i]), seconds});
  }
  return made;
}

void produce(Session& session, const Production& production, const NamePicture& name, Progress& progress,
             const RunChecks& checks) {
  const auto place = [&](const Job& job, int width, int height) {
    return name({.seed = job.seed,
                 .steps = job.steps,
                 .width = width,
                 .height = height,
                 .prompt = job.prompt,
                 .model = job.model,
                 .sampler = job.sampler});
  };
  const auto write = [&](const MadePicture& made) {
    const auto path = place(made.job, made.image.width, made.image.height);
    write_image(path, made.image, production.no_metadata ? Metadata() : describe_picture(made.job, made.making),
                production.exists);
    progress.picture(path, made.job.seed, made.seconds);
  };
  Background writer(kMostUnwritten);  // after what its tasks use
  std::vector<Job> jobs;              // of the next pass
  std::string key;
  const auto make_them = [&] {
    const std::vector<Job> now = std::exchange(jobs, {});
    if (now.empty()) return;
    const auto place_of = [&](size_t i) {
      writer.wait();  // it names files too
      return place(now[i], now[i].width, now[i].height);
    };
    for (MadePicture& made : make(session, now, place_of, progress, checks))
      writer.add([&write, made = std::move(made)] { write(made); });
  };
  Adapters in_use;
  for (int i = 0; i < production.count; i++) {
    Job job = nth_picture(production.job, static_cast<uint64_t>(i));
    session.draw_wildcards(job);
    Adapters adapters = session.adapters_of(job);
    if (adapters != in_use) make_them();
    session.use(in_use = std::move(adapters));
    std::string own = session.engines().pass_key(job);
    if (own != key || jobs.size() == static_cast<size_t>(production.batch)) make_them();
    key = std::move(own);
    jobs.push_back(std::move(job));
  }
  make_them();
  writer.finish();
}

}  // namespace cudream
