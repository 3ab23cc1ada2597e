// An opened model: files found and checked, tensors named, the spec known; then its weights streamed onto a device.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "kernels/weight.h"
#include "loader/identify.h"
#include "loader/lora.h"
#include "loader/names.h"
#include "loader/reading.h"
#include "loader/safetensors.h"

namespace cudream {

// What becomes of a PyTorch checkpoint: it is refused, with how to convert it; or read (loader/checkpoint.h), to be converted.
enum class Checkpoints : uint8_t { refused, read };

class Model {
 public:
  const std::filesystem::path& path() const { return path_; }
  const Identity& identity() const { return identity_; }
  const ModelSpec& spec() const { return identity_.spec; }
  const NameTable& names() const { return names_; }
  const std::vector<std::shared_ptr<const SafetensorsFile>>& files() const { return files_; }
  const std::vector<std::filesystem::path>& configs() const { return configs_; }  // the files beside it that were read
  const Configs& config_texts() const { return config_texts_; }
  // The model's own tokenizer folder, when it has one with a vocabulary ("tokenizer/vocab.json" and "merges.txt").
  const std::filesystem::path& tokenizer() const { return tokenizer_; }

  // Uses the VAE of another file or folder, which may be a tiny one. Throws Error(bad_file) when it holds none, only the encoder
  // of one, or one for other latents.
  void replace_vae(const std::filesystem::path&);

 private:
  friend Model open_model(const std::filesystem::path&, Checkpoints);
  std::filesystem::path path_, tokenizer_;
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  std::vector<std::filesystem::path> configs_;
  Configs config_texts_;
  NameTable names_;
  Identity identity_;
};

// Opens a single file or a diffusers folder. Reads headers and configurations only, so it takes milliseconds. Opens what
// it can identify, adapters and unknown files too (inspect needs them): see require_runnable.
// Throws Error(not_found | io | bad_file | unsupported).
Model open_model(const std::filesystem::path&, Checkpoints = Checkpoints::refused);

// Throws Error(unsupported) unless the model can make pictures: says what it is, which parts are missing and what to pass.
void require_runnable(const Model&);

// Called with the bytes of weights done and in all; what it throws ends the load.
using LoadProgress = std::function<void(int64_t done, int64_t total)>;

// Compares every request of the store with the names and shapes of the model, and looks, in every part that the store asks
// anything of, for tensors that nobody asked for: all problems are thrown as one Error(bad_file), grouped. Shapes may differ
// in trailing 1s (1x1 convolution or linear). Nothing is read.
void check_weights(const Model&, const WeightStore&);

// Where the weights would lie and what they would take, from the headers alone. Throws as check_weights does.
WeightLayout plan_weights(const Model&, const WeightStore&, const Device&, bool in_turn);

struct LoadOptions {
  LoadProgress progress;
  bool in_turn = false;  // see WeightLayout
  Reading reading = Reading::automatic;
  // Direct reads of a model that is one file also make its SHA-256, unless the user's cache knows it, and leave it there: nothing
  // that reads the file later would find it in the page cache. (Other reads leave it to HashBeside, which does.)
  bool hash = false;
};
struct LoadReport {
  int64_t bytes = 0;  // read
  double seconds = 0;
  Reading reading = Reading::automatic;  // how
  bool hashed = false;                   // see LoadOptions
};

// Checks the weights, makes room for them, then fills every request of the store in the order in which they lie in the files.
// Throws Error(bad_file) also when a file shrinks meanwhile.
LoadReport load_weights(const Model&, WeightStore&, Device&, const LoadOptions& = {});

// Fills the requests that any of these canonical weights are a part of once more, from the files, with the changes added:
// in float32, rounded once. Without changes they are bit for bit what load_weights made.
void reload_weights(const Model&, WeightStore&, Device&, const std::set<std::string>& names, const WeightChanges&);

}  // namespace cudream
