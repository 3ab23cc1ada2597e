// Loading a model, planning and running jobs.
#include "runtime/engine.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/half.h"
#include "runtime/picture/convert.h"
#include "runtime/prediction_probe.h"

namespace cudream {

namespace {

int64_t mebibytes(int64_t bytes) {
  return (bytes + (1 << 20) - 1) >> 20;
}

}  // namespace

Engine::Engine(std::shared_ptr<Device> device) : device_(std::move(device)), ops_(*device_) {}

// Constructs the networks, which note the weights they need.
void Engine::build(const ModelSpec& spec) {
  ops_.forget_recordings();
  in_float_.reset();
  text_encoders_.clear();
  unet_.reset();
  autoencoder_.reset();
  preview_decoder_.reset();
  model_.reset();
  loras_.clear();
  changes_ = {};
  changed_.clear();
  new_words_ = {};
  control_uses_.clear();
  controls_ = {};
  inversions_.clear();
  texts_.clear();
  store_.reset();
  store_ = std::make_unique<WeightStore>();
  spec_ = spec;
  text_encoders_ = clip_text_encoders(store_->root(), spec_.text_encoders);
  unet_.emplace(store_->root() / "unet", *spec_.unet);
  autoencoder_.emplace(store_->root() / "vae", *spec_.vae);
}

void Engine::prepare(const Model& model, bool in_turn) {
  require_runnable(model);
  build(model.spec());
  layout_ = plan_weights(model, *store_, *device_, in_turn);
}

LoadReport Engine::load(const Model& model, const LoadOptions& options) {
  prepare(model, options.in_turn);
  const int64_t need = layout_.device_bytes() + device_->packing_bytes(), free = device_->free_bytes();
  if (need > free) {
    const WeightLayout in_turn = plan_weights(model, *store_, *device_, true);
    const int64_t less = in_turn.device_bytes() + device_->packing_bytes();
    throw fail(Code::out_of_memory, "the weights need {} MiB of {}, and {} MiB are free; {}", mebibytes(need),
               device_->info().kind, free >> 20,
               less <= free && !options.in_turn        ? fmt::format("--offload needs {} MiB", mebibytes(less))
               : device_->info().compute == DType::f32 ? "--precision f16 or bf16 halves them, or use another device"
                                                       : "use another device");
  }
  model_ = model;
  in_float_.emplace(ops_, *model_, spec_, changes_, control_uses_);
  const LoadReport report = load_weights(model, *store_, *device_, options);
  if (!spec_.prediction_known) settle_prediction();
  return report;
}

// The files of SD 2.1 for 768 pixels (v) and for 512 (epsilon) differ in nothing but the values of their weights.
void Engine::settle_prediction() {
  const bool v = probe_prediction(ops_, spec_, text_encoders_, *unet_, *store_, tokenizer_) == Prediction::v;
  spec_.noise.prediction = v ? Prediction::v : Prediction::epsilon;
  spec_.native_size = v ? 768 : 512;
  spec_.prediction_known = true;
  spec_.assumed.push_back(fmt::format("prediction type: {}, by what the network makes of pure noise", v ? "v" : "epsilon"));
}

void Engine::load_random(const ModelSpec& spec) {
  build(spec);
  std::vector<StoredWeight> order;
  for (size_t i = 0; i < store_->requests().size(); i++) order.push_back({i, DType::bf16});
  layout_ = store_->lay_out(*device_, order, false);
  store_->reserve(*device_, layout_);
  uint32_t state = 1;
  std::vector<bf16> values;
  for (size_t i = 0; i < store_->requests().size(); i++) {
    const Weight& w = store_->requests()[i].weight;
    // Uniform with unit variance over the square root of the fan-in keeps activations of order one; vectors are near 1.
    const int64_t fan_in = w.shape.rank > 1 ? w.shape.size() / w.shape[0] : 1;
    const auto spread = static_cast<float>(std::sqrt(12.0 / static_cast<double>(fan_in)) * (w.shape.rank > 1 ? 1 : 0.01));
    const float center = w.shape.rank > 1 ? 0.f : 1.f;
    values.resize(static_cast<size_t>(w.shape.size()));
    for (bf16& v : values) {
      state = state * 1664525u + 1013904223u;
      v = bf16(center + spread * (static_cast<float>(state >> 8) * 0x1p-24f - 0.5f));
    }
    const std::span<const std::byte> raw = std::as_bytes(std::span<const bf16>(values));
    store_->fill(i, DType::bf16, [&](std::span<std::byte> to, int64_t offset) {
      std::ranges::copy(raw.subspan(static_cast<size_t>(offset), to.size()), to.begin());
    });
  }
  device_->end_packing();
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

Networks Engine::networks() {
  return {spec_,
          text_encoders_,
          *unet_,
          *autoencoder_,
          *store_,
          new_words_,
          texts_,
          controls_.active(),
          in_float_ ? &*in_float_ : nullptr,
          preview_decoder_ ? &preview_decoder_->autoencoder() : nullptr};
}

Ops::Plan Engine::plan(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks) {
  const RunChecks checks;
  const Networks nets = networks();
  Painting painting(ops_, nets, tokenizer_, jobs, pass, hooks, checks);
  return ops_.rehearse([&] { painting.run(); });
}

MemoryPlan Engine::memory(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks) {
  return {.weights = layout_,
          .controls = controls_.weight_bytes(),
          .previews = preview_decoder_ ? preview_decoder_->weight_bytes() : 0,
          .packing = device_->packing_bytes(),
          .job = plan(jobs, pass, hooks)};
}

void Engine::require_room(const Ops::Plan& plan, std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks) {
  const int64_t missing = ops_.missing_bytes(plan), free = device_->free_bytes();
  if (missing <= free) return;
  const std::vector<std::string> remedies = what_would_fit(jobs, pass, hooks, plan.bytes() - missing + free);
  throw fail(Code::out_of_memory, "the job needs {} MiB of {} beside the weights, and {} MiB are free; {}", mebibytes(missing),
             device_->info().kind, free >> 20,
             remedies.empty() ? "nothing near it would fit: use another device"
                              : fmt::format("it would fit with {}", fmt::join(remedies, ", or ")));
}

// Options with which the job fits into `room` bytes beside the weights.
std::vector<std::string> Engine::what_would_fit(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks,
                                                int64_t room) {
  std::vector<std::string> remedies;
  const auto fits = [&](std::span<const Job> j, const Pass& p, int64_t bytes) { return plan(j, p, hooks).bytes() <= bytes; };
  for (size_t batch = jobs.size() / 2; batch >= 1; batch /= 2)
    if (fits(jobs.first(batch), pass, room)) {
      remedies.push_back(fmt::format("--batch {}", batch));
      break;
    }
  for (int eighths = 7; eighths >= 2; eighths--) {
    std::vector<Job> smaller(jobs.begin(), jobs.end());
    const int width = jobs.front().width * eighths / 8 / 64 * 64, height = jobs.front().height * eighths / 8 / 64 * 64;
    for (Job& job : smaller) job.width = width, job.height = height;
    if (width == 0 || height == 0 || !fits(smaller, {}, room)) continue;
    remedies.push_back(fmt::format("--width {} --height {}", width, height));
    break;
  }
  WeightLayout in_turn = layout_;
  in_turn.in_turn = true;
  if (fits(jobs, pass, room + layout_.device_bytes() - in_turn.device_bytes())) remedies.emplace_back("--offload");
  if (device_->info().compute == DType::f32 && plan(jobs, pass, hooks).bytes() / 2 <= room + layout_.device_bytes() / 2)
    remedies.emplace_back("--precision bf16");
  return remedies;
}

Engine::Made Engine::run(std::span<const Job> jobs, const Pass& pass, const RunHooks& hooks, const RunChecks& checks) {
  const Networks nets = networks();
  Painting painting(ops_, nets, tokenizer_, jobs, pass, hooks, checks);
  const Ops::Plan plan = ops_.rehearse([&] { painting.run(); });
  require_room(plan, jobs, pass, hooks);
  try {
    ops_.run(plan, [&] { painting.run(); });
  } catch (const Error&) {
    if (hooks.on_undecoded && !painting.latents().empty()) hooks.on_undecoded(painting.latents());
    throw;
  }

  Made made{.images = {}, .latents = painting.latents()};
  const size_t size = painting.pixels().size() / jobs.size();
  for (size_t from = 0; from < painting.pixels().size(); from += size)
    made.images.push_back(to_image(std::span(painting.pixels()).subspan(from, size), jobs.front().width, jobs.front().height,
                                   Layout::hwc, Range::minus_one_one));
  return made;
}

}  // namespace cudream
