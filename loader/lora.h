// LoRA and LoCon files: low-rank changes of a model's weights ("LoRA", Hu et al. 2021).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec.h"
#include "loader/names.h"
#include "loader/safetensors.h"

namespace cudream {

// An opened file. Understood are the names of kohya's trainer ("lora_unet_...", UNet blocks in diffusers' or the original
// naming), of PEFT and diffusers ("unet....lora_A.weight", "...processor.to_q_lora.down.weight"), and the numbered modules
// of cloneofsimo/lora ("unet:0:up").
class Lora {
 public:
  // Throws Error(unsupported) for adapters of other kinds, Error(bad_file) for a file that is none or lacks a half.
  explicit Lora(const std::filesystem::path&);

  const std::filesystem::path& path() const { return file_->path(); }
  size_t size() const { return modules_.size(); }  // changed modules ("keys")

  // Which module changes which weight of a model, by canonical name; and the modules that change none.
  struct Fit {
    std::map<std::string, size_t> weights;
    std::vector<std::string> unused;
  };
  // Throws Error(unsupported) when no module fits, or one has another shape: it is for another kind of model.
  Fit fit(const NameTable&, const ModelSpec&) const;

  // weight += strength * scale * up * down: what module `i` changes, row-major as the weight is stored.
  void add(size_t i, double strength, std::span<float> weight) const;

 private:
  struct Module {
    std::string name;  // as the file has it
    const TensorInfo *down = nullptr, *up = nullptr, *mid = nullptr, *alpha = nullptr;
  };
  bool fits(const Module&, std::vector<uint64_t> shape) const;

  std::shared_ptr<const SafetensorsFile> file_;
  std::string family_;
  std::vector<Module> modules_;
};

// Changes that go onto weights while they are loaded: by canonical name, in the order in which they are added.
class WeightChanges {
 public:
  // Throws as Lora::fit does. Returns how many modules of the file are used.
  Lora::Fit add(const std::shared_ptr<const Lora>&, double strength, const NameTable&, const ModelSpec&);
  bool touches(std::string_view name) const { return changes_.find(name) != changes_.end(); }
  void apply(std::string_view name, std::span<float> weight) const;
  bool empty() const { return changes_.empty(); }
  std::set<std::string> names() const;  // of the weights that are changed

 private:
  struct Change {
    std::shared_ptr<const Lora> lora;
    size_t module = 0;
    double strength = 1;
  };
  std::map<std::string, std::vector<Change>, std::less<>> changes_;
};

}  // namespace cudream
