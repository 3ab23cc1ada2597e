// cudream plan: the memory that `cudream generate` with the same options takes, to the byte, without loading or running.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/preview.h"
#include "cli/session.h"
#include "core/error.h"
#include "runtime/pass_size.h"
#include "runtime/tasks.h"

namespace cudream {
namespace {

struct Options {
  HostOptions host;
  JobOptions job;
  PreviewOptions preview;
  int batch = 1;
};

nlohmann::json json_of(const MemoryPlan& plan) {
  nlohmann::json stages = nlohmann::json::object();
  for (const auto& [key, stage] : plan.job.stages) stages[key] = stage.layout.bytes;
  return {{"weights", plan.weights.parts},           {"weight_bytes", plan.weights.device_bytes()},
          {"controlnet_bytes", plan.controls},       {"preview_bytes", plan.previews},
          {"host_bytes", plan.weights.host_bytes()}, {"stages", stages},
          {"stage_bytes", plan.job.stage_bytes},     {"session_bytes", plan.job.session.bytes}};
}

void print_json(const JobMemory& plan, const PassSize& together, const Device& device, bool fits) {
  nlohmann::json json = json_of(plan.base);
  if (plan.refiner) json["refiner"] = json_of(*plan.refiner);
  json.update({{"device", device.info().kind},
               {"packing_bytes", plan.base.packing},
               {"total_bytes", plan.device_bytes()},
               {"most_bytes", plan.most_bytes()},
               {"free_bytes", device.free_bytes()},
               {"batch_pictures", together.pictures},
               {"batch_bound", together.why},
               {"fits", fits}});
  fmt::print("{}\n", json.dump());
}

void print_line(std::string_view kind, std::string_view name, int64_t bytes) {
  fmt::print("{:<9} {:<34} {:>15} bytes\n", kind, name, bytes);
}

// `of` stands before the names: "refiner: ", or nothing.
void print_model(const MemoryPlan& plan, std::string_view of) {
  const auto line = [&](std::string_view kind, std::string_view name, int64_t bytes) {
    print_line(kind, fmt::format("{}{}", of, name), bytes);
  };
  for (const auto& [part, bytes] : plan.weights.parts) line("weights", part, bytes);
  if (plan.controls > 0) line("weights", "controlnet", plan.controls);
  if (plan.previews > 0) line("weights", "decoder of previews", plan.previews);
  if (plan.weights.in_turn) line("", "in turn: the largest", plan.weights.device_bytes());
  for (const auto& [key, stage] : plan.job.stages) line("stage", key, stage.layout.bytes);
  line("stages", "one after another: the largest", plan.job.stage_bytes);
  line("session", "what outlives a stage", plan.job.session.bytes);
}

void print(const JobMemory& plan, const PassSize& together, const Device& device, bool fits) {
  print_model(plan.base, "");
  if (plan.refiner) print_model(*plan.refiner, "refiner: ");
  print_line("total", "on " + device.info().kind, plan.device_bytes());
  if (plan.most_bytes() > plan.device_bytes()) print_line("", "at most, while weights are loaded", plan.most_bytes());
  const int64_t aside = plan.base.weights.host_bytes() + (plan.refiner ? plan.refiner->weights.host_bytes() : 0);
  if (plan.base.weights.in_turn) print_line("", "weights in the host's memory", aside);
  print_line("free", "on " + device.info().kind, device.free_bytes());
  fmt::print("{}\n", fits ? "it fits" : "it does not fit");
  fmt::print("`cudream batch` makes {}\n", describe(together));
}

// Of `cudream batch`, before anything is loaded.
PassSize size_of_pass(const Engines& engines, const Job& job) {
  const auto need = [&](size_t pictures) {
    return plan_pictures(engines, first_pictures(job, static_cast<int>(pictures))).most_bytes();
  };
  const Device& device = engines.base.device();
  return pass_size(job, engines.base.spec(), {.device = device.info(), .free_bytes = device.free_bytes(), .need = need});
}

int run(Options options) {
  Job& job = options.job.job;
  const Catalog catalog = open_catalog(options.host);
  const OpenModels models = open_models(options.host, model_names(job));
  Engine engine(open_device(options.host.device_options()));
  std::optional<Engine> refiner;
  engine.prepare(models.model, options.host.offload);
  if (models.refiner) refiner.emplace(engine.shared_device()).prepare(*models.refiner, options.host.offload);
  complete(job, engine.spec(), [&](const std::string& text) { options.host.notice(text); });
  engine.prepare_controls(find_controls(catalog, job));
  if (const CatalogEntry* tiny = options.preview.every > 0 ? catalog.tiny_decoder(engine.spec()) : nullptr) {
    engine.prepare_previews(tiny->path);
    if (refiner) refiner->prepare_previews(tiny->path);
  }
  const Engines engines{engine, refiner ? &*refiner : nullptr};
  const JobMemory plan = plan_pictures(engines, first_pictures(job, options.batch), {.preview_every = options.preview.every});
  const bool fits = plan.most_bytes() <= engine.device().free_bytes();
  (options.host.json ? print_json : print)(plan, size_of_pass(engines, job), engine.device(), fits);
  return fits ? 0 : static_cast<int>(Code::out_of_memory);
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("prompt", options->job.job.prompt, "As for generate: long prompts take more memory");
  add_job_options(app, options->job);
  app.add_option("-b,--batch", options->batch, "Pictures computed together")->check(CLI::Range(1, 64))->capture_default_str();
  add_preview_options(app, options->preview);
  add_host_options(app, options->host);
  app.footer(R"(Examples:
  cudream plan "a red fox" -m my-model --width 768 --height 768 --batch 2
  cudream plan "a red fox" -m my-model --hires 2                       every stage of both passes
  cudream plan "a red fox" -m sdxl-base --refiner sdxl-refiner --preview 5

The exit status is 5 when it does not fit.)");
  return [options] { return run(*options); };
}

}  // namespace cudream
