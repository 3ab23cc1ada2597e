// The engine: owns a device, one model on it and its memory, and runs one job at a time.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "kernels/ops.h"
#include "loader/model.h"
#include "nets/clip.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "runtime/controls.h"
#include "runtime/float_copy.h"
#include "runtime/job.h"
#include "runtime/painting.h"
#include "runtime/pass_key.h"
#include "runtime/picture/image.h"
#include "runtime/preview_decoder.h"
#include "runtime/tokenizer.h"

namespace cudream {

// What a job takes of a device's memory, to the byte: known before anything is loaded.
struct MemoryPlan {
  WeightLayout weights;
  int64_t controls = 0;  // weights of ControlNets
  int64_t previews = 0;  // and of the tiny autoencoder that decodes previews
  int64_t packing = 0;   // while weights are loaded, and then given back
  Ops::Plan job;
  int64_t weight_bytes() const { return weights.device_bytes() + controls + previews; }
  int64_t device_bytes() const { return weight_bytes() + job.bytes(); }
};

// A LoRA file and how strongly it acts.
struct LoraUse {
  std::filesystem::path path;
  double strength = 1;
  bool operator==(const LoraUse&) const = default;
};

// What these do to a model's weights. Logs how many keys of each are used; keys without a place are a notice. Throws as Lora and
// Lora::fit do.
WeightChanges changes_of(const std::vector<LoraUse>&, const Model&, const Notice& on_notice);

class Engine {
 public:
  explicit Engine(std::shared_ptr<Device> device);  // several engines may share one, each in its turn

  Device& device() { return *device_; }
  const std::shared_ptr<Device>& shared_device() const { return device_; }
  const ModelSpec& spec() const { return spec_; }
  int64_t weight_bytes() const { return layout_.device_bytes(); }
  // Constructs the networks and lays out their weights; enough for plan() and memory(). Replaces the model held before.
  // Throws as require_runnable and plan_weights do.
  void prepare(const Model& model, bool in_turn);
  // Prepares, then loads. Throws Error(out_of_memory) before anything is read if the weights do not fit.
  LoadReport load(const Model& model, const LoadOptions& options = {});

  // The LoRAs that act from now on, in place of those before; without any, every weight is bit for bit the file's. Logs,
  // notifies and throws as changes_of does.
  void use_loras(const std::vector<LoraUse>& uses, const Notice& on_notice = unheard);
  // The ControlNets that act from now on, in place of those before; Pass::controls has a picture for each. Throws as
  // Controls::prepare and load do. Prepared ones are enough for plan() and memory().
  void prepare_controls(const std::vector<ControlUse>& uses);
  void use_controls(const std::vector<ControlUse>& uses);
  // Decodes previews with this tiny autoencoder from now on. Throws as PreviewDecoder does. A prepared one is enough for plan()
  // and memory().
  void prepare_previews(const std::filesystem::path& tiny) { preview_decoder_.emplace(tiny, spec_, *device_); }
  void use_previews(const std::filesystem::path& tiny) {
    prepare_previews(tiny);
    preview_decoder_->load(*device_);
  }
  // The textual inversions whose words prompts may hold. Throws as read_textual_inversion does.
  void use_words(const std::vector<std::filesystem::path>& inversions);

  // The networks of `spec` with random weights, each scaled by its fan-in: for measuring, no file needed.
  void load_random(const ModelSpec& spec);

  // Makes the pictures of completed jobs that may share a pass (see pass_key), one each. Throws Error; Error(out_of_memory)
  // before it starts, with what would fit, if they do not.
  struct Made {
    std::vector<Image> images;   // empty when the pass does not decode
    std::vector<float> latents;  // [batch,h,w,C], scaled
  };
  Made run(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks = {}, const RunChecks& checks = {});
  // What run() would need and do, without doing it; of the hooks only preview_every matters.
  Ops::Plan plan(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks = {});
  MemoryPlan memory(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks = {});

  // Of jobs that run() may make together: see runtime/pass_key.h.
  std::string pass_key(const Job& job) const { return cudream::pass_key(job, spec_, tokenizer_, new_words_); }

  // Gives back the memory of passes, but not the weights.
  void release_memory() { ops_.release(); }
  // Texts that were encoded before are encoded anew.
  void forget_texts() { texts_.clear(); }

  // The parts, for benchmarks and tests.
  Ops& ops() { return ops_; }
  WeightStore& weights() { return *store_; }
  std::span<const ClipTextEncoder> text_encoders() const { return text_encoders_; }
  const UNet& unet() const { return *unet_; }
  const Autoencoder& autoencoder() const { return *autoencoder_; }

 private:
  void build(const ModelSpec& spec);
  Networks networks();
  void settle_prediction();
  void require_room(const Ops::Plan& plan, std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks);
  std::vector<std::string> what_would_fit(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks, int64_t room);

  std::shared_ptr<Device> device_;
  Ops ops_;
  Tokenizer tokenizer_;
  ModelSpec spec_;
  std::optional<Model> model_;  // none: random weights
  std::vector<LoraUse> loras_;
  WeightChanges changes_;          // what they change
  std::set<std::string> changed_;  // canonical names of the weights that are not the file's
  NewWords new_words_;
  std::vector<ControlUse> control_uses_;
  Controls controls_;
  std::vector<std::filesystem::path> inversions_;  // where those are from
  TextCache texts_;
  std::unique_ptr<WeightStore> store_;
  WeightLayout layout_;
  std::vector<ClipTextEncoder> text_encoders_;
  std::optional<UNet> unet_;
  std::optional<Autoencoder> autoencoder_;
  std::optional<PreviewDecoder> preview_decoder_;
  std::optional<FloatCopy> in_float_;  // of the model as it is changed now
};

// The full-size specification of a public family, by name: sd15, sd21, sdxl. Throws Error(usage).
ModelSpec random_spec(const std::string& name);

}  // namespace cudream
