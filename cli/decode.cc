// cudream decode: the picture of a latent that was kept because its decoding failed.
#include <CLI/CLI.hpp>
#include <memory>

#include "cli/commands.h"
#include "cli/produce.h"
#include "core/error.h"
#include "runtime/latent_file.h"

namespace cudream {
namespace {

struct Options {
  HostOptions host;
  std::filesystem::path latent, output;
  std::string model;
  bool overwrite = false;
};

int run(const Options& options) {
  Progress progress(ProgressSink::of_process(options.host.json, options.host.quiet));
  set_log_sink([&](LogLevel level, std::string_view line) { progress.message(level, line); });
  KeptLatent kept = read_latent(options.latent);
  Job& job = kept.job;
  for (const std::string* name : {&job.model, &job.vae, &job.refiner})
    if (name->find('/') != std::string::npos)
      throw fail(Code::bad_file, "{}: \"{}\" is no model name", options.latent.string(), printable(*name));
  ModelNames names{.model = job.model, .vae = job.vae, .task = task_of(job)};
  if (!options.model.empty())
    names.model = options.model;
  else if (job.vae.empty())
    names.vae = job.refiner;  // which would have decoded
  Session session(options.host, names, progress);
  Engine& engine = session.engine();
  Job checked = job;
  checked.controls = "";  // their pictures are not here, nor needed
  complete(checked, engine.spec(), session.notice());
  const VaeSpec& vae = *engine.spec().vae;
  if (kept.height * vae.factor() != job.height || kept.width * vae.factor() != job.width || kept.channels != vae.latent_channels)
    throw fail(Code::bad_file, "{} holds [{},{},{}], which is no picture of {} x {} pixels of this model",
               options.latent.string(), kept.height, kept.width, kept.channels, job.width, job.height);

  Making making;
  RunHooks hooks = session.hooks();
  hooks.on_redone = [&](size_t, const std::string& stage) { making.redone.insert(stage); };
  const auto picture = engine.run({&job, 1}, {.latents = kept.values, .denoise = false}, hooks).images.front();
  progress.done();
  making.model_hash = session.model_hash();
  making.libraries = engine.device().libraries_used();
  std::filesystem::path output = options.output;
  if (output.empty()) output = std::filesystem::path(options.latent).replace_extension().replace_extension(".png");
  write_image(output, picture, describe_picture(job, making), options.overwrite ? Exists::replace : Exists::refuse);
  log(LogLevel::info, "wrote {}", output.string());
  return 0;
}

}  // namespace

Command add_decode(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("latent", options->latent, "NAME.latent.safetensors, as it was left beside where the picture would be")
      ->required();
  app.add_option("-o,--output", options->output, "The picture; NAME.png beside the latent when left out")->type_name("FILE");
  app.add_option("-m,--model", options->model, "Model whose autoencoder decodes; the latent's own when left out");
  app.add_flag("--overwrite", options->overwrite, "Replace a file that exists");
  add_host_options(app, options->host);
  app.footer(R"(Example, after a picture ran out of memory in its last stage:
  cudream decode out/00001-7.latent.safetensors --device cpu)");
  return [options] { return run(*options); };
}

}  // namespace cudream
