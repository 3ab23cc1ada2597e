// Scanning the model folders, and looking names up.
#include "loader/catalog.h"

#include <algorithm>
#include <cstdlib>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "loader/model.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 4;  // of sub-folders that are looked into

// The value of an environment variable; empty when unset.
std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// A base folder of the XDG Base Directory Specification, which ignores relative paths.
fs::path base_folder(const char* name, const fs::path& otherwise) {
  const fs::path given = variable(name);
  return given.is_absolute() ? given : otherwise;
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
  return text;
}

// Files that hold models, those included that are refused when they are opened: a name should be found all the same.
bool is_model_file(const fs::path& path) {
  const std::string extension = lower(path.extension().string());
  return extension == ".safetensors" || extension == ".ckpt" || extension == ".gguf";
}

// What lies in a folder, hidden names apart, sorted; a folder that is absent or unreadable holds nothing.
std::vector<fs::path> children(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end; !error && at != end;
       at.increment(error))
    if (!at->path().filename().string().starts_with('.')) found.push_back(at->path());
  std::sort(found.begin(), found.end());
  return found;
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}
bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

class Scanner {
 public:
  std::vector<CatalogEntry> take() && { return std::move(entries_); }

  // A folder of models, or the root of a web interface's tree, whose other folders hold other things.
  void scan(const fs::path& folder, Origin origin) {
    bool is_tree = false;
    const auto walk_inner = [&](std::initializer_list<std::string_view> inner) {
      for (const std::string_view name : inner) {
        if (!is_folder(folder / name)) continue;
        is_tree = true;
        walk(folder / name, origin, 0);
      }
    };
    walk_inner({"models/checkpoints", "models/Stable-diffusion", "models/diffusers", "checkpoints", "Stable-diffusion"});
    if (!is_tree) return walk(folder, origin, 0);
    walk_inner({"models/controlnet", "models/ControlNet", "controlnet", "ControlNet"});
    walk_inner({"models/vae", "models/VAE", "models/vae_approx", "models/VAE-approx", "vae", "VAE", "vae_approx", "VAE-approx"});
  }

  void scan_hugging_face(const fs::path& hub) {
    for (const fs::path& repository : children(hub)) {
      std::string name = repository.filename().string();
      if (!name.starts_with("models--")) continue;
      name = name.substr(8);
      for (size_t at = name.find("--"); at != std::string::npos; at = name.find("--", at)) name.replace(at, 2, "/");
      const fs::path snapshot = snapshot_of(repository);
      if (is_network(snapshot)) {
        add(snapshot, name, Origin::hugging_face, true);
        continue;
      }
      if (is_file(snapshot / "model_index.json")) add(snapshot, name, Origin::hugging_face, true);
      for (const fs::path& file : children(snapshot))
        if (is_model_file(file)) add(file, name + "/" + file.stem().string(), Origin::hugging_face, false);
    }
  }

 private:
  // A folder that holds one network, as diffusers saves a ControlNet or a VAE.
  static bool is_network(const fs::path& folder) {
    return is_file(folder / "config.json") && (is_file(folder / "diffusion_pytorch_model.safetensors") ||
                                               is_file(folder / "diffusion_pytorch_model.fp16.safetensors"));
  }

  static fs::path snapshot_of(const fs::path& repository) {
    const std::vector<fs::path> all = children(repository / "snapshots");
    if (is_file(repository / "refs/main")) {
      fs::path named = repository / "snapshots" / fs::path(read_text(repository / "refs/main", 1000)).filename();
      if (is_folder(named)) return named;
    }
    return all.empty() ? fs::path() : all.back();
  }

  void walk(const fs::path& folder, Origin origin, int depth) {
    for (const fs::path& child : children(folder)) {
      if (is_folder(child)) {
        if (is_file(child / "model_index.json") || is_network(child)) {
          add(child, child.filename().string(), origin, true);
        } else if (depth < kMaxDepth) {
          walk(child, origin, depth + 1);
        }
      } else if (is_model_file(child)) {
        add(child, child.stem().string(), origin, false);
      }
    }
  }

  // A model that is reached by two ways is one.
  void add(const fs::path& path, std::string name, Origin origin, bool folder) {
    std::error_code ignored;
    const fs::path real = fs::weakly_canonical(path, ignored);
    if (!seen_.insert(real).second) return;
    uint64_t bytes = 0;
    if (folder) {
      for (fs::recursive_directory_iterator at(path, fs::directory_options::skip_permission_denied, ignored), end;
           !ignored && at != end; at.increment(ignored))
        if (is_model_file(at->path()) && at->is_regular_file(ignored)) bytes += at->file_size(ignored);
    } else {
      bytes = fs::file_size(path, ignored);
    }
    entries_.push_back({std::move(name), path, origin, ignored ? 0 : bytes, folder});
  }

  std::vector<CatalogEntry> entries_;
  std::set<fs::path> seen_;
};

// Insertions, deletions and substitutions that make one text of the other.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) row[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); j++)
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)}));
  }
  return row[b.size()];
}

std::string listing(const std::vector<const CatalogEntry*>& entries) {
  std::string text;
  for (const CatalogEntry* e : entries) text += fmt::format("\n  {}  ({})", printable(e->name), printable(e->path.string()));
  return text;
}

}  // namespace

std::string_view describe(Origin origin) {
  switch (origin) {
    case Origin::models_folder: return "models folder";
    case Origin::option: return "--models-dir";
    case Origin::environment: return "CUDREAM_MODELS";
    case Origin::web_ui: return "web interface";
    case Origin::hugging_face: return "Hugging Face cache";
    case Origin::demo: return "demo";
  }
  return "";
}

ModelPlaces model_places(std::vector<fs::path> options, fs::path demo) {
  ModelPlaces places;
  const fs::path home = variable("HOME");
  places.models = base_folder("XDG_DATA_HOME", home / ".local/share") / "cudream/models";
  places.options = std::move(options);
  const std::string list = variable("CUDREAM_MODELS");
  for (size_t at = 0; at < list.size();) {
    const size_t end = std::min(list.find(':', at), list.size());
    if (end > at) places.environment.emplace_back(list.substr(at, end - at));
    at = end + 1;
  }
  for (const std::string_view name : {"ComfyUI", "stable-diffusion-webui", "stable-diffusion-webui-forge"})
    if (!home.empty()) places.web_uis.push_back(home / name);
  const fs::path hugging_face = base_folder("HF_HOME", base_folder("XDG_CACHE_HOME", home / ".cache") / "huggingface");
  places.hugging_face = base_folder("HF_HUB_CACHE", hugging_face / "hub");
  places.demo = std::move(demo);
  return places;
}

Catalog::Catalog(ModelPlaces places) : places_(std::move(places)) {
  Scanner scanner;
  // The demo first: it is never counted as the user's own, even where a listed folder holds it.
  scanner.scan(places_.demo, Origin::demo);
  scanner.scan(places_.models, Origin::models_folder);
  for (const fs::path& folder : places_.options) scanner.scan(folder, Origin::option);
  for (const fs::path& folder : places_.environment) scanner.scan(folder, Origin::environment);
  for (const fs::path& folder : places_.web_uis) scanner.scan(folder, Origin::web_ui);
  scanner.scan_hugging_face(places_.hugging_face);
  entries_ = std::move(scanner).take();
  std::stable_sort(entries_.begin(), entries_.end(),
                   [](const CatalogEntry& a, const CatalogEntry& b) { return a.origin < b.origin; });
}

const CatalogEntry& Catalog::find(std::string_view name) const {
  const std::string wanted = lower(std::string(name));
  const std::string stem = wanted.ends_with(".safetensors") ? wanted.substr(0, wanted.size() - 12) : wanted;
  std::vector<const CatalogEntry*> same, holding;
  for (const CatalogEntry& e : entries_) {
    const std::string own = lower(e.name);
    if (own == stem || lower(e.path.filename().string()) == wanted) same.push_back(&e);
    if (own.find(stem) != std::string::npos) holding.push_back(&e);
  }
  const std::vector<const CatalogEntry*>& matches = same.empty() ? holding : same;
  if (!name.empty() && matches.size() == 1) return *matches.front();
  if (!name.empty() && matches.size() > 1)
    throw fail(Code::usage, "\"{}\" fits {} models; name one of them, or give its path:{}", printable(name), matches.size(),
               listing(matches));
  throw fail(Code::not_found, "no model is named \"{}\".{} Put model files into {}; `cudream models` lists what is found.",
             printable(name), nearest(stem), places_.models.string());
}

std::string Catalog::nearest(std::string_view name) const {
  constexpr size_t kShown = 3;
  std::vector<std::pair<size_t, std::string>> near;
  for (const CatalogEntry& e : entries_) near.emplace_back(edit_distance(name, lower(e.name)), printable(e.name));
  std::sort(near.begin(), near.end());
  std::vector<std::string> names;
  for (size_t i = 0; i < std::min(near.size(), kShown); i++) names.push_back(near[i].second);
  return names.empty() ? "" : fmt::format(" The nearest: {}.", fmt::join(names, ", "));
}

std::optional<Task> purpose(const CatalogEntry& e) {
  try {
    const Model model = open_model(e.path);
    require_runnable(model);
    return model.spec().task;
  } catch (const Error&) {
    return {};
  }
}

std::vector<const CatalogEntry*> Catalog::made_for(Task task) const {
  std::vector<const CatalogEntry*> all;
  for (const CatalogEntry& e : entries_)
    if (purpose(e) == task) all.push_back(&e);
  return all;
}

const CatalogEntry* Catalog::tiny_decoder(const ModelSpec& of) const {
  constexpr uint64_t kMostBytes = uint64_t{64} << 20;  // larger files are not opened
  // It imitates the autoencoders of the public families; latents of one with another structure mean something else.
  if (!of.vae || of.vae->channels != VaeSpec{}.channels) return nullptr;
  const bool xl = of.family == Family::sdxl || of.family == Family::sdxl_refiner;
  for (const CatalogEntry& e : entries_) {
    if (e.bytes > kMostBytes || xl != (lower(e.name).find("xl") != std::string::npos)) continue;
    try {
      const Model model = open_model(e.path);
      const std::optional<VaeSpec>& vae = model.spec().vae;
      if (model.identity().verdict == Verdict::part && vae && vae->tiny && vae->decoder &&
          vae->latent_channels == of.vae->latent_channels)
        return &e;
    } catch (const Error&) {  // not one, whatever it is
    }
  }
  return nullptr;
}

const CatalogEntry* Catalog::beside(const CatalogEntry& entry, Task task) const {
  const std::string name = lower(entry.name);
  for (const CatalogEntry& e : entries_)
    if (&e != &entry && lower(e.name).starts_with(name) && purpose(e) == task) return &e;
  return nullptr;
}

const CatalogEntry& Catalog::choose(std::string_view configured, Task task) const {
  if (!configured.empty()) {
    const CatalogEntry& entry = find(configured);
    const CatalogEntry* better = purpose(entry) == task ? nullptr : beside(entry, task);
    return better != nullptr ? *better : entry;
  }
  std::vector<const CatalogEntry*> own, demos;
  for (const CatalogEntry& e : entries_) (e.origin == Origin::demo ? demos : own).push_back(&e);
  if (own.empty() && demos.empty())
    throw fail(Code::not_found, "there is no model. Put a Stable Diffusion model (.safetensors) into {}",
               places_.models.string());
  // VAEs and adapters may lie among the models. A single one is taken for what was meant, and what is wrong with it is said.
  if (own.size() == 1 && !purpose(*own.front())) return *own.front();
  std::vector<Task> choices{task};
  if (task == Task::inpaint) choices.push_back(Task::generate);
  for (const auto* from : {&own, &demos})
    for (const Task wanted : choices) {
      std::vector<const CatalogEntry*> fit = *from;
      std::erase_if(fit, [&](const CatalogEntry* e) { return purpose(*e) != wanted; });
      if (fit.size() == 1 || (from == &demos && !fit.empty())) return *fit.front();
      if (fit.size() > 1) throw fail(Code::usage, "there are {} models; choose one with -m NAME:{}", fit.size(), listing(fit));
    }
  if (own.size() + demos.size() == 1) return own.empty() ? *demos.front() : *own.front();
  static constexpr std::string_view kWhat[] = {"makes pictures from words", "fills in masks", "edits by instruction"};
  throw fail(Code::not_found, "there is no model that {}. Put one (.safetensors) into {}", kWhat[static_cast<size_t>(task)],
             places_.models.string());
}

}  // namespace cudream
