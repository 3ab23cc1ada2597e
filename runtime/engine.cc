// Loading a model, planning and running jobs.
#include "runtime/engine.h"

#include <cmath>

#include "core/error.h"
#include "core/half.h"
#include "runtime/picture/convert.h"

namespace cudream {

Engine::Engine(std::unique_ptr<Device> device) : device_(std::move(device)), ops_(*device_) {}

// Constructs the networks, which note the weights they need.
void Engine::build(const ModelSpec& spec) {
  ops_.forget_recordings();
  text_encoder_.reset();
  unet_.reset();
  autoencoder_.reset();
  store_ = std::make_unique<WeightStore>();
  spec_ = spec;
  text_encoder_.emplace(store_->root() / "text_encoder", spec_.text_encoders.front());
  unet_.emplace(store_->root() / "unet", *spec_.unet);
  autoencoder_.emplace(store_->root() / "vae", *spec_.vae);
}

void Engine::load(const Model& model, const LoadProgress& progress) {
  require_runnable(model);
  build(model.spec());
  load_weights(model, *store_, *device_, progress);
}

void Engine::load_random(const ModelSpec& spec) {
  build(spec);
  uint32_t state = 1;
  std::vector<bf16> values;
  for (size_t i = 0; i < store_->requests().size(); i++) {
    const Weight& w = store_->requests()[i].weight;
    // Uniform with unit variance over the square root of the fan-in keeps activations of order one; vectors are near 1.
    const double fan_in = w.shape.rank > 1 ? static_cast<double>(w.shape.size() / w.shape[0]) : 1;
    const auto spread = static_cast<float>(std::sqrt(12.0 / fan_in) * (w.shape.rank > 1 ? 1 : 0.01));
    const float center = w.shape.rank > 1 ? 0.f : 1.f;
    values.resize(static_cast<size_t>(w.shape.size()));
    for (bf16& v : values) {
      state = state * 1664525u + 1013904223u;
      v = bf16(center + spread * (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f));
    }
    store_->fill(i, *device_, DType::bf16, std::as_bytes(std::span<const bf16>(values)));
  }
}

ModelSpec random_spec(const std::string& name) {
  if (name != "sd15") throw fail(Code::usage, "no specification named {}; known: sd15", name);
  return {.family = Family::sd1, .text_encoders = {TextEncoderSpec{}}, .unet = UNetSpec{}, .vae = VaeSpec{}};
}

Ops::Plan Engine::plan(const Job& job, int batch) {
  const RunHooks hooks;
  const RunChecks checks;
  const Networks nets{spec_, *text_encoder_, *unet_, *autoencoder_};
  Painting painting(ops_, nets, tokenizer_, job, batch, hooks, checks);
  return ops_.rehearse([&] { painting.run(); });
}

std::vector<Image> Engine::run(const Job& job, int batch, const RunHooks& hooks, const RunChecks& checks) {
  const Networks nets{spec_, *text_encoder_, *unet_, *autoencoder_};
  Painting painting(ops_, nets, tokenizer_, job, batch, hooks, checks);
  const Ops::Plan plan = ops_.rehearse([&] { painting.run(); });
  ops_.run(plan, [&] { painting.run(); });

  std::vector<Image> images;
  const size_t size = painting.pixels().size() / static_cast<size_t>(batch);
  for (size_t i = 0; i < static_cast<size_t>(batch); i++)
    images.push_back(
        to_image(std::span(painting.pixels()).subspan(i * size, size), job.width, job.height, Layout::hwc, Range::minus_one_one));
  return images;
}

}  // namespace cudream
