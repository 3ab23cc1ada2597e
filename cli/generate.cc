// cudream generate: one prompt, one or more pictures.
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/preview.h"
#include "cli/produce.h"
#include "core/error.h"
#include "runtime/foreign_settings.h"
#include "runtime/picture/parameters.h"

namespace cudream {
namespace {

struct Options {
  HostOptions host;
  JobOptions job;
  PreviewOptions preview;
  std::filesystem::path output = "out/", from, noise, trace, config;
  bool overwrite = false;
  int batch = 1;
};

// The settings stored in a picture, and the names of the files that it was made from. Names are only ever looked up.
struct Stored {
  Job job;
  std::string image, mask;
  std::vector<std::string> controls;
};

// Of a picture of ours, all that it was made with; of one that A1111 or a tool like it made, what its text says.
Stored settings_of_picture(const std::filesystem::path& path, const Notice& on_notice) {
  const Metadata metadata = read_metadata(path);
  if (metadata.job.empty()) {
    const Parameters parameters = read_parameters(metadata.parameters);
    if (parameters.values.empty()) throw fail(Code::unsupported, "--from {}: holds no settings", path.string());
    Stored stored{.job = job_from_parameters(parameters, on_notice), .image = {}, .mask = {}, .controls = {}};
    if (stored.job.strength) stored.image = "that its settings do not name";
    return stored;
  }
  const auto json = nlohmann::json::parse(metadata.job, nullptr, false);
  if (json.is_discarded()) throw fail(Code::bad_file, "--from {}: its settings are not JSON", path.string());
  Stored stored{.job = job_from_json(json),
                .image = json.value("image", ""),
                .mask = json.value("mask", ""),
                .controls = json.value("control_images", std::vector<std::string>{})};
  if (const std::string given = path_among_names(stored.job); !given.empty())
    throw fail(Code::bad_file, "--from {}: \"{}\" is no model name", path.string(), printable(given));
  return stored;
}

// What was stored comes first; then what stands on the command line is set once more, over it. A picture that it was made from
// has to be given again: files that a picture names are not opened.
void take_settings(Options& options, CLI::App& app) {
  const Stored stored = settings_of_picture(options.from, [&](const std::string& text) { options.host.notice(text); });
  Job& job = options.job.job;
  job = stored.job;
  options.job.seed = job.seed;
  for (CLI::Option* given : app.get_options())
    if (given->count() > 0) given->run_callback();
  if (!stored.image.empty() && job.image.empty())
    throw fail(Code::usage, "--from {}: it was made from the picture {}; pass that one with --image", options.from.string(),
               printable(stored.image));
  if (!stored.mask.empty() && job.mask.empty())
    throw fail(Code::usage, "--from {}: it was made with the mask {}; pass that one with --mask", options.from.string(),
               printable(stored.mask));
  if (!stored.controls.empty() && job.control_images.empty())
    throw fail(Code::usage, "--from {}: its ControlNets saw {}; pass these with --control-image", options.from.string(),
               printable(fmt::format("{}", fmt::join(stored.controls, ", "))));
}

int run(Options options) {
  Progress progress(ProgressSink::of_process(options.host.json, options.host.quiet));
  set_log_sink([&](LogLevel level, std::string_view line) { progress.message(level, line); });

  RunChecks checks;
  Production production{.count = options.job.count,
                        .batch = options.batch,
                        .exists = options.overwrite ? Exists::replace : Exists::refuse,
                        .no_metadata = options.job.no_metadata};
  Job& job = production.job = options.job.job;
  if (!options.config.empty()) {
    GoldenRun golden = golden_run(options.config);
    golden.job.model = job.model;
    golden.job.vae = job.vae;
    golden.job.loras = job.loras;
    golden.job.embeddings = job.embeddings;
    golden.job.controls = job.controls;
    golden.job.refiner = job.refiner;
    golden.job.refiner_start = job.refiner_start;
    job = golden.job;
    checks.schedule = golden.schedule;
    checks.skip_positive_only = checks.sparse_mask = true;
    production.batch = production.count = golden.batch;
  }
  std::optional<FileDraws> draws;
  if (!options.noise.empty()) checks.draws = &draws.emplace(options.noise);
  Trace trace;
  if (!options.trace.empty()) checks.trace = &trace;

  const bool several = production.count > 1;
  OutputNames names(options.output, several, production.exists);
  Preview preview(options.preview, options.output, production.exists, progress);
  job.seed = options.job.seed ? *options.job.seed : random_seed();
  Session session(options.host, model_names(job), progress);
  session.name_models(job);
  session.show_previews(options.preview.every, [&](const Image& picture) { preview.show(picture); });
  complete(job, session.engine().spec(), session.notice());
  if (!options.job.seed) log(LogLevel::info, "seed: {}", job.seed);
  produce(
      session, production, [&](const NameFields& fields) { return names.next(fields); }, progress, checks);
  if (!options.trace.empty()) trace.write(options.trace, production.exists);
  return 0;
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("prompt", options->job.job.prompt, "What the picture shows");
  add_job_options(app, options->job);
  app.add_option("-o,--output", options->output, "File, or folder, or folder/pattern such as out/{index:05}-{prompt:40}.png")
      ->capture_default_str();
  app.add_flag("--overwrite", options->overwrite, "Replace files that exist");
  app.add_option("-b,--batch", options->batch, "Pictures computed together")->check(CLI::Range(1, 64))->capture_default_str();
  add_preview_options(app, options->preview);
  app.add_option("--from", options->from, "Take the settings stored in this picture; other options change them")
      ->type_name("FILE");
  app.add_option("--noise", options->noise, "For checks: take every random draw from this safetensors file")->type_name("FILE");
  app.add_option("--trace", options->trace, "For checks: write inner values to this safetensors file")->type_name("FILE");
  app.add_option("--config", options->config, "For checks: take the settings of a recorded run (JSON)")->type_name("FILE");
  add_host_options(app, options->host);
  app.footer(R"~(Examples:
  cudream generate "a red house under a full moon"
  cudream generate "a red fox, (snow:1.3)" -m my-model --steps 30 --seed 7 -o fox.png
  cudream generate "the same in winter" --image fox.png --strength 0.6
  cudream generate "a red fox" --vae taesd                             decoded by a tiny autoencoder: faster, less detail
  cudream generate --from fox.png --seed 8
  cudream generate "a hat" --image fox.png --mask hat.png              white in hat.png is made anew
  cudream generate "a hat" --image fox.png --mask hat.png --only-masked -W 512 -H 512
  cudream generate "a forest" --image fox.png --grow 25%,0,25%,0       paint on to the left and right
  cudream generate --edit "make it night" --image fox.png --image-guidance 1.5
  cudream generate "a red fox" --hires 2 --hires-strength 0.5          again at twice the size
  cudream generate "a red fox" --seed 7 --variation-strength 0.1 --count 4
  cudream generate "a castle" --control canny:0.8 --control-image edges.png
  cudream generate "a castle" --preview 5                              out/preview.png, every five steps
  cudream generate "a castle" --preview 2 --preview-as blocks          the same on the terminal
  cudream generate "pebbles" --tile xy                                 edges that meet)~");
  return [&app, options] {
    if (!options->from.empty()) take_settings(*options, app);
    return run(*options);
  };
}

}  // namespace cudream
