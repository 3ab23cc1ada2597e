// Loading a model, planning and running jobs.
#include "runtime/engine.h"

#include <cmath>

#include "core/error.h"
#include "core/half.h"
#include "runtime/picture/convert.h"
#include "runtime/prediction_probe.h"

namespace cudream {

Engine::Engine(std::unique_ptr<Device> device) : device_(std::move(device)), ops_(*device_) {}

// Constructs the networks, which note the weights they need.
void Engine::build(const ModelSpec& spec) {
  ops_.forget_recordings();
  text_encoders_.clear();
  unet_.reset();
  autoencoder_.reset();
  store_ = std::make_unique<WeightStore>();
  spec_ = spec;
  for (const TextEncoderSpec& encoder : spec_.text_encoders)
    text_encoders_.emplace_back(store_->root() / (encoder.projection > 0 ? "text_encoder_2" : "text_encoder"), encoder);
  unet_.emplace(store_->root() / "unet", *spec_.unet);
  autoencoder_.emplace(store_->root() / "vae", *spec_.vae);
}

void Engine::load(const Model& model, const LoadProgress& progress) {
  require_runnable(model);
  build(model.spec());
  load_weights(model, *store_, *device_, progress);
  if (!spec_.prediction_known) settle_prediction();
}

// The files of SD 2.1 for 768 pixels (v) and for 512 (epsilon) differ in nothing but the values of their weights.
void Engine::settle_prediction() {
  const bool v = probe_prediction(ops_, spec_, text_encoders_, *unet_, tokenizer_) == Prediction::v;
  spec_.noise.prediction = v ? Prediction::v : Prediction::epsilon;
  spec_.native_size = v ? 768 : 512;
  spec_.prediction_known = true;
  spec_.assumed.push_back(fmt::format("prediction type: {}, by what the network makes of pure noise", v ? "v" : "epsilon"));
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
  const TextEncoderSpec clip_l;
  if (name == "sd15") return {.family = Family::sd1, .text_encoders = {clip_l}, .unet = UNetSpec{}, .vae = VaeSpec{}};
  TextEncoderSpec open_clip{.width = 1024, .intermediate = 4096, .layers = 23, .heads = 16, .act = Act::gelu, .pad_token = 0};
  UNetSpec unet{.context = 1024, .heads = {5, 10, 20, 20}};
  if (name == "sd21")
    return {.family = Family::sd2,
            .noise = {.prediction = Prediction::v},
            .text_encoders = {open_clip},
            .unet = unet,
            .vae = VaeSpec{},
            .native_size = 768};
  if (name != "sdxl") throw fail(Code::usage, "no specification named {}; known: sd15, sd21, sdxl", name);
  TextEncoderSpec first = clip_l;
  open_clip = {
      .width = 1280, .intermediate = 5120, .layers = 32, .heads = 20, .act = Act::gelu, .projection = 1280, .pad_token = 0};
  for (TextEncoderSpec* encoder : {&first, &open_clip}) encoder->skip = 1, encoder->final_norm = false;
  unet = {.context = 2048,
          .channels = {320, 640, 1280},
          .down_depth = {{0, 0}, {2, 2}, {10, 10}},
          .up_depth = {{0, 0, 0}, {2, 2, 2}, {10, 10, 10}},
          .heads = {5, 10, 20},
          .mid_depth = 10,
          .pooled_embedding = 2816,
          .time_id_width = 256};
  return {.family = Family::sdxl,
          .zeros_for_empty_negative = true,
          .text_encoders = {first, open_clip},
          .unet = unet,
          .vae = VaeSpec{.scaling_factor = 0.13025f},
          .native_size = 1024};
}

Ops::Plan Engine::plan(const Job& job, int batch) {
  const RunHooks hooks;
  const RunChecks checks;
  const Networks nets{spec_, text_encoders_, *unet_, *autoencoder_};
  Painting painting(ops_, nets, tokenizer_, job, batch, hooks, checks);
  return ops_.rehearse([&] { painting.run(); });
}

std::vector<Image> Engine::run(const Job& job, int batch, const RunHooks& hooks, const RunChecks& checks) {
  const Networks nets{spec_, text_encoders_, *unet_, *autoencoder_};
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
