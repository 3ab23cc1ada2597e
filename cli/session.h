// What every command that makes pictures does first: find the model, open the device, load.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "cli/options.h"
#include "cli/progress.h"
#include "loader/catalog.h"
#include "loader/hash.h"
#include "runtime/engine.h"
#include "runtime/tasks.h"
#include "runtime/wildcards.h"

namespace cudream {

// Set by SIGINT and SIGTERM; a run looks at it before every step.
extern std::atomic<bool> stop_requested;
void catch_signals();

// For a batch: from now on the first SIGTERM sets this instead, and it ends after the picture in work.
extern std::atomic<bool> finish_requested;
void finish_on_terminate();

// The folder of the shipped demo model: beside the program's prefix when installed, in the source tree when built there.
std::filesystem::path demo_folder();
Catalog open_catalog(const HostOptions&);
Wildcards open_wildcards(const HostOptions&, const Catalog&);  // those beside the models folder, unless the options say others

// The model that `cudream models --default NAME` chose; empty: none. Kept in $XDG_CONFIG_HOME/cudream/config.json.
std::string configured_model();
void configure_model(const std::string& name);

// A model by its catalog name, or by a path given on the command line; empty: the configured one, the only one, or the demo. One
// that is chosen by name gives way to one beside it that is made for `task`; a path is taken as it is.
struct ModelChoice {
  std::string name;
  std::filesystem::path path;
};
ModelChoice choose_model(const HostOptions&, const std::string& model, Task task);

// Opens a chosen model, with the autoencoder of another where `vae` names one, and checks that it can make pictures.
Model open_chosen(const HostOptions&, const ModelChoice&, const std::string& vae);

// The ControlNets of a job, found; paths in its list become names.
std::vector<ControlUse> find_controls(const Catalog&, Job&);
// A list of names, or of paths that the command line may give, each with its strength: "film:0.8,./ink.safetensors".
std::vector<LoraUse> named_loras(const Catalog&, const std::string& list);
// The same list with names alone, for people: "film:0.8,ink:1".
std::string names_of(const std::vector<LoraUse>&);
// What a job asks to be added to its model, found.
struct Adapters {
  std::vector<LoraUse> loras;
  std::vector<ControlUse> controls;
  std::vector<std::filesystem::path> inversions;
  bool operator==(const Adapters&) const = default;
};
// Its ControlNets, and the adapters of its lists and of the tags in its prompts; paths in the lists become names. A prompt may
// only name what the catalog lists.
Adapters find_adapters(const Catalog&, Job&);

// What stands for a name in a job that came from elsewhere, and is a path: only the command line may give those. Empty: nothing.
std::string path_among_names(const Job&);

// What a session is opened for: names as a job has them.
struct ModelNames {
  std::string model, vae, refiner;
  Task task = Task::generate;  // an inpainting model may lie beside the one that is named
  bool operator==(const ModelNames&) const = default;
};
ModelNames model_names(const Job&);

// The models of a job, opened, and what they are called.
struct OpenModels {
  std::string name, refiner_name;
  Model model;
  std::optional<Model> refiner;
};
// Names are those of the catalog, or paths given on the command line; each may be empty; see choose_model.
// Throws Error(unsupported) for a model that cannot do the task, or a refiner that cannot take over from it.
OpenModels open_models(const HostOptions&, const ModelNames&);

// Loaded engines, and the names of what they hold.
class Session {
 public:
  // Opens and loads the models. The options must outlive it. Throws as open_models and Engine::load do.
  Session(const HostOptions&, const ModelNames&, Progress&);

  Engine& engine() { return *engine_; }
  Engines engines() { return {*engine_, refiner_.get()}; }
  // The names of what is loaded take the place of those that the job was given.
  void name_models(Job&) const;
  // Of the file of the model, as A1111 writes it; empty for a folder. Waits for the first who reads the file.
  std::string model_hash() const { return hash_ ? short_hash(hash_->get()) : ""; }
  RunHooks hooks() const;
  // From now on, every so many steps what the picture is going to be, small: decoded by a TAESD of the catalog, if there is one.
  void show_previews(int every, std::function<void(const Image&)> show);
  Notice notice() const {
    return [this](const std::string& text) { host_.notice(text); };
  }
  Adapters adapters_of(Job& job) const { return find_adapters(catalog_, job); }
  // Gives back the memory of passes, but not the weights.
  void release_memory();
  void use(const Adapters&);  // from now on, in place of those before; says what was used
  // Draws the wildcards of a job's prompts from its seed, keeping the templates.
  void draw_wildcards(Job&) const;
  // Called after every step of every job from now on.
  void on_step(std::function<void()> beside) { beside_step_ = std::move(beside); }

 private:
  void load(Engine&, const Model&, LoadOptions);  // shown, and as the host wants it

  const HostOptions& host_;
  Catalog catalog_;
  Progress& progress_;
  std::unique_ptr<Engine> engine_, refiner_;
  std::string model_name_, refiner_name_;
  std::unique_ptr<HashBeside> hash_;  // while the first picture is made
  Wildcards wildcards_;
  std::function<void()> beside_step_ = [] {};
  int preview_every_ = 0;
  std::function<void(const Image&)> show_preview_;
};

}  // namespace cudream
