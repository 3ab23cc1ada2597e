// Running, naming, writing.
#include "cli/produce.h"

#include <chrono>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "runtime/picture/parameters.h"
#include "runtime/scheduler_names.h"

namespace cudream {
namespace {

std::string number(double value) {
  return fmt::format("{:g}", value);
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
  if (!job.image.empty()) p.values.emplace_back("Denoising strength", number(job.strength));
  if (job.clip_skip != 1) p.values.emplace_back("Clip skip", number(job.clip_skip));
  if (job.rng != "torch-cpu") p.values.emplace_back("RNG", job.rng);
  if (!libraries.empty()) p.values.emplace_back("Libraries", libraries);
  p.values.emplace_back("Version", "cudream " CUDREAM_VERSION);
  return {.parameters = write_parameters(p), .job = to_json(job).dump()};
}

std::vector<std::filesystem::path> produce(Session& session, const Production& production, const NamePicture& name,
                                           Progress& progress, const RunChecks& checks) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::filesystem::path> written;
  for (int first = 0; first < production.count; first += production.batch) {
    const int batch = std::min(production.batch, production.count - first);
    Job job = production.job;
    job.seed += static_cast<uint64_t>(first);
    const auto begun = Clock::now();
    const std::vector<Image> images = session.engine().run(job, batch, session.hooks(), checks);
    progress.done();
    const std::string libraries = session.engine().device().libraries_used();
    const double seconds = std::chrono::duration<double>(Clock::now() - begun).count();
    for (const Image& image : images) {
      const auto path = name({.seed = job.seed,
                              .steps = job.steps,
                              .width = job.width,
                              .height = job.height,
                              .prompt = job.prompt,
                              .model = job.model,
                              .sampler = job.sampler});
      write_image(path, image, describe_picture(job, libraries), production.exists);
      written.push_back(path);
      progress.picture(path, job.seed, seconds / batch);
      job.seed++;
    }
  }
  return written;
}

}  // namespace cudream
