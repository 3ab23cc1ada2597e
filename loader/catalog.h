// The catalog: where models lie on this machine, and finding one by name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec.h"

namespace cudream {

enum class Origin { models_folder, option, environment, web_ui, hugging_face, demo };
std::string_view describe(Origin);  // for people: "models folder", "--models-dir", ...

struct CatalogEntry {
  std::string name;  // the stem of a file, the name of a folder, "org/name" in the Hugging Face cache
  std::filesystem::path path;
  Origin origin = Origin::models_folder;
  uint64_t bytes = 0;
  bool folder = false;
};

// Where to look. `models` is THE folder, which every message about a missing model names.
struct ModelPlaces {
  std::filesystem::path models;
  std::vector<std::filesystem::path> options;      // --models-dir
  std::vector<std::filesystem::path> environment;  // CUDREAM_MODELS, separated by ':'
  std::vector<std::filesystem::path> web_uis;      // roots of ComfyUI's and A1111's trees
  std::filesystem::path hugging_face;              // the cache's "hub" folder
  std::filesystem::path demo;                      // the folder the demo model ships in
};

// A folder of `options` or `environment` may be a plain folder of models or the root of such a tree.
// From XDG_DATA_HOME, CUDREAM_MODELS, HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME and HOME. Nothing is created.
ModelPlaces model_places(std::vector<std::filesystem::path> options, std::filesystem::path demo);

// What a model makes pictures for; nothing: it makes none as it is. Reads headers only.
std::optional<Task> purpose(const CatalogEntry&);

class Catalog {
 public:
  explicit Catalog(ModelPlaces);  // scans; folders that are absent or unreadable hold nothing

  const ModelPlaces& places() const { return places_; }
  const std::vector<CatalogEntry>& list() const { return entries_; }  // by origin, then name
  // By whole name, with or without .safetensors, else by a part of the name that only one model has (letter case ignored).
  // Throws Error(not_found) with the nearest names and THE folder, or Error(usage) listing the candidates.
  const CatalogEntry& find(std::string_view name) const;
  // The model of a command without -m, for what is to be done: `configured` (a name; may be empty) or one beside it that is
  // made for the task, else the only one made for it that is not a demo, else the demo. Any model can fill in a mask: for that,
  // one that makes pictures from words is the next choice. Throws Error(not_found) when there is none, Error(usage) with the
  // list when there are several.
  const CatalogEntry& choose(std::string_view configured, Task task) const;
  // A model made for `task` whose name goes on where that of `entry` ends ("sd15" and "sd15-inpainting"); null: none.
  const CatalogEntry* beside(const CatalogEntry& entry, Task task) const;
  std::vector<const CatalogEntry*> made_for(Task task) const;
  // A tiny autoencoder (TAESD) that decodes the latents of a model with its family's own autoencoder; null: none. What it holds
  // does not tell the one for SDXL from the other: its name does.
  const CatalogEntry* tiny_decoder(const ModelSpec& of) const;

 private:
  std::string nearest(std::string_view name) const;  // a sentence; empty when there is no model at all

  ModelPlaces places_;
  std::vector<CatalogEntry> entries_;
};

}  // namespace cudream
