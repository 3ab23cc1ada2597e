// Finding models, opening devices, loading.
#include "cli/session.h"

#include <fmt/ranges.h>

#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/error.h"
#include "core/file.h"
#include "kernels/open.h"
#include "loader/model.h"
#include "runtime/prompt_schedule.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

extern "C" void on_signal(int) {
  if (stop_requested.exchange(true)) std::_Exit(static_cast<int>(Code::cancelled));  // asked twice: at once
}

extern "C" void on_terminate(int signal) {
  if (finish_requested.exchange(true)) on_signal(signal);
}

fs::path config_file() {
  const char* base = std::getenv("XDG_CONFIG_HOME");
  if (base != nullptr && *base != '\0') return fs::path(base) / "cudream" / "config.json";
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : ".") / ".config" / "cudream" / "config.json";
}

// Which models could do it.
std::string suggestion(const HostOptions& host, Task task) {
  const Catalog catalog = open_catalog(host);
  std::vector<std::string> names;
  for (const CatalogEntry* e : catalog.made_for(task)) names.push_back(printable(e->name));
  return names.empty() ? "" : fmt::format(". Made for it: -m {}", fmt::join(names, ", -m "));
}

}  // namespace

std::atomic<bool> stop_requested = false, finish_requested = false;

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
}

void finish_on_terminate() {
  struct sigaction action {};
  action.sa_handler = on_terminate;
  sigaction(SIGTERM, &action, nullptr);
}

fs::path demo_folder() {
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  fs::path installed = program.parent_path().parent_path() / "share" / "cudream" / "models";
  if (fs::is_directory(installed, ignored)) return installed;
  return program.parent_path().parent_path().parent_path().parent_path() / "models";
}

Catalog open_catalog(const HostOptions& host) {
  return Catalog(model_places(host.models_dirs, demo_folder()));
}

Wildcards open_wildcards(const HostOptions& host, const Catalog& catalog) {
  return Wildcards(host.wildcards.empty() ? catalog.places().models.parent_path() / "wildcards" : host.wildcards);
}

std::string configured_model() {
  const fs::path file = config_file();
  if (!fs::exists(file)) return "";
  const auto config = nlohmann::json::parse(read_text(file, 1 << 20), nullptr, false);
  if (!config.is_object() || (config.contains("model") && !config["model"].is_string()))
    throw fail(Code::bad_file, "{}: expected {{\"model\": \"NAME\"}}; delete it or run `cudream models --default NAME`",
               file.string());
  return config.value("model", "");
}

void configure_model(const std::string& name) {
  const fs::path file = config_file();
  fs::create_directories(file.parent_path());
  AtomicFile out(file, Exists::replace);
  out.write(nlohmann::json{{"model", name}}.dump(1) + "\n");
  out.commit();
}

ModelChoice choose_model(const HostOptions& host, const std::string& model, Task task) {
  if (model.find('/') != std::string::npos) return {fs::path(model).stem().string(), model};
  const Catalog catalog = open_catalog(host);
  if (model.empty()) {
    const CatalogEntry& chosen = catalog.choose(configured_model(), task);
    log(LogLevel::info, "model: {} ({})", printable(chosen.name), describe(chosen.origin));
    return {chosen.name, chosen.path};
  }
  const CatalogEntry& named = catalog.find(model);
  const bool fits = task == Task::generate || purpose(named) == task;
  const CatalogEntry* better = fits ? nullptr : catalog.beside(named, task);
  if (better == nullptr) return {named.path.stem().string(), named.path};
  host.notice(fmt::format("{} is made for this, and used in place of {}; give a path to have that one", printable(better->name),
                          printable(named.name)));
  return {better->path.stem().string(), better->path};
}

Model open_chosen(const HostOptions& host, const ModelChoice& choice, const std::string& vae) {
  Model model = open_model(choice.path);
  if (!vae.empty()) model.replace_vae(choose_model(host, vae, Task::generate).path);
  require_runnable(model);
  return model;
}

ModelNames model_names(const Job& job) {
  return {job.model, job.vae, job.refiner, task_of(job)};
}

namespace {

// Why a model cannot go on with the latents of another, a sentence; empty: it can.
std::string cannot_take_over(const ModelSpec& refiner, const ModelSpec& base) {
  if (refiner.task != Task::generate) return "its UNet reads more than a picture";
  const VaeSpec &mine = *refiner.vae, &its = *base.vae;
  if (mine.latent_channels != its.latent_channels || mine.factor() != its.factor() || mine.scaling_factor != its.scaling_factor)
    return "its latents are not those of the model";
  return "";
}

}  // namespace

OpenModels open_models(const HostOptions& host, const ModelNames& names) {
  const ModelChoice choice = choose_model(host, names.model, names.task);
  OpenModels models{.name = choice.name, .refiner_name = "", .model = open_chosen(host, choice, names.vae), .refiner = {}};
  if (const std::string why = mismatch(names.task, models.model.spec()); !why.empty())
    throw fail(Code::unsupported, "{} cannot do this: {}{}", printable(models.name), why, suggestion(host, names.task));
  if (names.refiner.empty()) return models;
  const ModelChoice chosen = choose_model(host, names.refiner, Task::generate);
  models.refiner_name = chosen.name;
  models.refiner = open_chosen(host, chosen, names.vae);
  if (const std::string why = cannot_take_over(models.refiner->spec(), models.model.spec()); !why.empty())
    throw fail(Code::unsupported, "--refiner {} cannot take over from {}: {}", printable(chosen.name), printable(models.name),
               why);
  return models;
}

Session::Session(const HostOptions& host, const ModelNames& names, Progress& progress)
    : host_(host), catalog_(open_catalog(host)), progress_(progress), wildcards_(open_wildcards(host, catalog_)) {
  const OpenModels models = open_models(host, names);
  model_name_ = models.name;
  refiner_name_ = models.refiner_name;
  engine_ = std::make_unique<Engine>(open_device(host.device_options()));
  const DeviceInfo& device = engine_->device().info();
  log(LogLevel::info, "device: {} ({}, {})", device.kind, device.description, name_of(device.compute));
  load(*engine_, models.model, {.hash = true});
  if (fs::is_regular_file(models.model.path())) hash_ = std::make_unique<HashBeside>(models.model.path());
  if (!models.refiner) return;
  refiner_ = std::make_unique<Engine>(engine_->shared_device());
  load(*refiner_, *models.refiner, {});
}

void Session::load(Engine& engine, const Model& model, LoadOptions options) {
  progress_.start("load", 100, "%");
  int percent = 0;
  options.progress = [&](int64_t done, int64_t total) {
    if (stop_requested) throw fail(Code::cancelled, "cancelled");
    const int now = static_cast<int>(total == 0 ? 100 : 100 * done / total);
    if (std::exchange(percent, now) != now) progress_.step(now);
  };
  options.in_turn = host_.offload;
  options.reading = reading_named(host_.loader);
  const LoadReport report = engine.load(model, options);
  progress_.done();
  for (const std::string& assumed : engine.spec().assumed) log(LogLevel::info, "assumed: {}", assumed);
  const double gigabytes = static_cast<double>(report.bytes) / 1e9;
  log(LogLevel::info, "weights: {:.2f} GB in {:.2f} s ({:.2f} GB/s, {}{})", gigabytes, report.seconds, gigabytes / report.seconds,
      name_of(report.reading), report.hashed ? ", with the file's SHA-256" : "");
}

void Session::name_models(Job& job) const {
  job.model = model_name_;
  job.refiner = refiner_name_;
}

namespace {

// A name is looked up; what looks like a path is one. Only the command line may name paths: see settings_of_picture in
// generate.cc.
fs::path resolve(const Catalog& catalog, const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  return catalog.find(name).path;
}

std::vector<std::string> split_list(const std::string& list) {
  std::vector<std::string> parts;
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    if (end > at) parts.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

}  // namespace

std::vector<ControlUse> find_controls(const Catalog& catalog, Job& job) {
  std::vector<ControlUse> uses;
  std::vector<std::string> names;
  for (ControlText control : parse_controls(job.controls)) {
    uses.push_back({resolve(catalog, control.name), control.window});
    control.name = uses.back().path.stem().string();
    names.push_back(control.str());
  }
  job.controls = fmt::format("{}", fmt::join(names, ","));
  return uses;
}

std::vector<LoraUse> named_loras(const Catalog& catalog, const std::string& list) {
  std::vector<LoraUse> uses;
  for (const std::string& given : split_list(list)) {
    const LoraTag tag = parse_lora(given);
    uses.push_back({resolve(catalog, tag.name), tag.strength});
  }
  return uses;
}

std::string names_of(const std::vector<LoraUse>& uses) {
  std::vector<std::string> names;
  names.reserve(uses.size());
  for (const LoraUse& use : uses) names.push_back(fmt::format("{}:{:g}", use.path.stem().string(), use.strength));
  return fmt::format("{}", fmt::join(names, ","));
}

Adapters find_adapters(const Catalog& catalog, Job& job) {
  Adapters found{.loras = named_loras(catalog, job.loras), .controls = {}, .inversions = {}};
  job.loras = names_of(found.loras);
  for (const std::string* text : {&job.prompt, &job.negative, &job.prompt_2})
    for (const LoraTag& tag : take_tags(*text).loras) found.loras.push_back({catalog.find(tag.name).path, tag.strength});
  found.controls = find_controls(catalog, job);

  std::vector<std::string> names;
  for (const std::string& name : split_list(job.embeddings)) {
    found.inversions.push_back(resolve(catalog, name));
    names.push_back(found.inversions.back().stem().string());
  }
  job.embeddings = fmt::format("{}", fmt::join(names, ","));
  return found;
}

std::string path_among_names(const Job& job) {
  for (const std::string* name : {&job.model, &job.vae, &job.loras, &job.embeddings, &job.controls, &job.refiner})
    if (name->find('/') != std::string::npos) return *name;
  return "";
}

void Session::use(const Adapters& adapters) {
  engine_->use_loras(adapters.loras, notice());
  engine_->use_controls(adapters.controls);
  engine_->use_words(adapters.inversions);
}

void Session::release_memory() {
  for (Engine* engine : {engine_.get(), refiner_.get()})
    if (engine != nullptr) engine->release_memory();
}

void Session::draw_wildcards(Job& job) const {
  const auto draw = [&](std::string& text, std::string& kept) {
    if (!has_wildcards(text)) return;
    kept = text;
    text = wildcards_.expand(text, job.seed);
  };
  draw(job.prompt, job.prompt_template);
  draw(job.negative, job.negative_template);
}

void Session::show_previews(int every, std::function<void(const Image&)> show) {
  preview_every_ = every;
  show_preview_ = std::move(show);
  const CatalogEntry* tiny = every > 0 ? catalog_.tiny_decoder(engine_->spec()) : nullptr;
  if (tiny == nullptr) return;
  log(LogLevel::info, "previews: decoded by {}", printable(tiny->name));
  for (Engine* engine : {engine_.get(), refiner_.get()})
    if (engine != nullptr) engine->use_previews(tiny->path);
}

RunHooks Session::hooks() const {
  return {.on_stage =
              [this](const std::string& stage, int steps) {
                progress_.done();
                progress_.start(stage, steps);
              },
          .on_step =
              [this](int done) {
                progress_.step(done);
                beside_step_();
              },
          .preview_every = preview_every_,
          .on_preview = show_preview_,
          .on_notice = notice(),
          .cancel = &stop_requested};
}

}  // namespace cudream
