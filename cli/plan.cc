// cudream plan: the memory that `cudream generate` with the same options takes, to the byte, without loading or running.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"
#include "runtime/tasks.h"

namespace cudream {
namespace {

struct Options {
  HostOptions host;
  JobOptions job;
  int batch = 1;
};

void print_json(const MemoryPlan& plan, const Device& device, bool fits) {
  nlohmann::json stages = nlohmann::json::object();
  for (const auto& [key, stage] : plan.job.stages) stages[key] = stage.layout.bytes;
  fmt::print("{}\n", nlohmann::json{{"device", device.info().kind},
                                    {"weights", plan.weights.parts},
                                    {"weight_bytes", plan.weights.device_bytes()},
                                    {"controlnet_bytes", plan.controls},
                                    {"host_bytes", plan.weights.host_bytes()},
                                    {"packing_bytes", plan.packing},
                                    {"stages", stages},
                                    {"stage_bytes", plan.job.stage_bytes},
                                    {"session_bytes", plan.job.session.bytes},
                                    {"total_bytes", plan.device_bytes()},
                                    {"most_bytes", plan.most_bytes()},
                                    {"free_bytes", device.free_bytes()},
                                    {"fits", fits}}
                         .dump());
}

void print(const MemoryPlan& plan, const Device& device, bool fits) {
  const auto line = [](std::string_view kind, std::string_view name, int64_t bytes) {
    fmt::print("{:<9} {:<34} {:>15} bytes\n", kind, name, bytes);
  };
  for (const auto& [part, bytes] : plan.weights.parts) line("weights", part, bytes);
  if (plan.controls > 0) line("weights", "controlnet", plan.controls);
  if (plan.weights.in_turn) line("", "in turn: the largest", plan.weights.device_bytes());
  for (const auto& [key, stage] : plan.job.stages) line("stage", key, stage.layout.bytes);
  line("stages", "one after another: the largest", plan.job.stage_bytes);
  line("session", "what outlives a stage", plan.job.session.bytes);
  line("total", "on " + device.info().kind, plan.device_bytes());
  if (plan.most_bytes() > plan.device_bytes()) line("", "at most, while weights are loaded", plan.most_bytes());
  if (plan.weights.in_turn) line("", "weights in the host's memory", plan.weights.host_bytes());
  line("free", "on " + device.info().kind, device.free_bytes());
  fmt::print("{}\n", fits ? "it fits" : "it does not fit");
}

int run(Options options) {
  Job& job = options.job.job;
  const Model model = open_chosen(options.host, choose_model(options.host, job.model, task_of(job)), job.vae);
  Engine engine(open_device(options.host.device_options()));
  engine.prepare(model, options.host.offload);
  complete(job, engine.spec(), [&](const std::string& text) { options.host.notice(text); });
  engine.prepare_controls(find_controls(open_catalog(options.host), job));
  if (!job.refiner.empty())
    throw fail(Code::unsupported, "plan foresees one model; leave out --refiner, or plan that one by itself");
  const MemoryPlan plan = plan_pictures(engine, first_pictures(job, options.batch));
  const bool fits = plan.most_bytes() <= engine.device().free_bytes();
  (options.host.json ? print_json : print)(plan, engine.device(), fits);
  return fits ? 0 : static_cast<int>(Code::out_of_memory);
}

}  // namespace

Command add_plan(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("prompt", options->job.job.prompt, "As for generate: long prompts take more memory");
  add_job_options(app, options->job);
  app.add_option("-b,--batch", options->batch, "Pictures computed together")->check(CLI::Range(1, 64))->capture_default_str();
  add_host_options(app, options->host);
  app.footer(R"(Examples:
  cudream plan "a red fox" -m my-model --width 768 --height 768 --batch 2
  cudream plan "a red fox" -m my-model --hires 2                       every stage of both passes

The exit status is 5 when it does not fit.)");
  return [options] { return run(*options); };
}

}  // namespace cudream
