// The engine: owns a device, one model on it and its memory, and runs one job at a time.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "kernels/ops.h"
#include "loader/model.h"
#include "nets/clip.h"
#include "nets/unet.h"
#include "nets/vae.h"
#include "runtime/job.h"
#include "runtime/painting.h"
#include "runtime/picture/image.h"
#include "runtime/tokenizer.h"

namespace cudream {

class Engine {
 public:
  explicit Engine(std::unique_ptr<Device> device);

  Device& device() { return *device_; }
  const ModelSpec& spec() const { return spec_; }
  int64_t weight_bytes() const { return store_ ? store_->bytes() : 0; }
  // Throws as open_model, require_runnable and load_weights do. Replaces the model held before.
  void load(const Model& model, const LoadProgress& progress = {});

  // The networks of `spec` with random weights, each scaled by its fan-in: for measuring, no file needed.
  void load_random(const ModelSpec& spec);

  // Makes `batch` pictures of one completed job; picture i has seed + i. Throws Error.
  std::vector<Image> run(const Job& job, int batch, const RunHooks& hooks = {}, const RunChecks& checks = {});
  // What run() would need and do, without doing it.
  Ops::Plan plan(const Job& job, int batch);

  // The parts, for benchmarks and tests.
  Ops& ops() { return ops_; }
  std::span<const ClipTextEncoder> text_encoders() const { return text_encoders_; }
  const UNet& unet() const { return *unet_; }
  const Autoencoder& autoencoder() const { return *autoencoder_; }

 private:
  void build(const ModelSpec& spec);
  void settle_prediction();

  std::unique_ptr<Device> device_;
  Ops ops_;
  Tokenizer tokenizer_;
  ModelSpec spec_;
  std::unique_ptr<WeightStore> store_;
  std::vector<ClipTextEncoder> text_encoders_;
  std::optional<UNet> unet_;
  std::optional<Autoencoder> autoencoder_;
};

// The full-size specification of a public family, by name: sd15, sd21, sdxl. Throws Error(usage).
ModelSpec random_spec(const std::string& name);

}  // namespace cudream
