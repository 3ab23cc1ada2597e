// Opening, loading, and one stage at a time.
#include "runtime/float_copy.h"

#include "core/error.h"

namespace cudream {
namespace {

void require_room(int64_t bytes, const Device& device, const char* what) {
  if (bytes > device.free_bytes())
    throw fail(Code::out_of_memory, "{} in f32 needs {} MiB more of {}, and {} MiB are free; pass --precision f32, or {}", what,
               (bytes >> 20) + 1, device.info().kind, device.free_bytes() >> 20, "use a device with more memory");
}

}  // namespace

WeightStore& FloatCopy::store() {
  if (device_ == nullptr) {
    device_ = original_.device().in_float();
    ops_.emplace(*device_);
  }
  return *stores_.emplace_back(std::make_unique<WeightStore>());
}

void FloatCopy::load(WeightStore& store) {
  require_room(plan_weights(model_, store, *device_, false).device_bytes() + device_->packing_bytes(), *device_,
               "a copy of the network");
  load_weights(model_, store, *device_);
  if (!changes_.empty()) reload_weights(model_, store, *device_, changes_.names(), changes_);
}

void FloatCopy::run(const std::function<void(Ops&)>& job) {
  ops_->set_wrap(original_.wrap());
  const auto body = [&] { job(*ops_); };
  const Ops::Plan plan = ops_->rehearse(body);
  require_room(ops_->missing_bytes(plan), *device_, "the stage");
  ops_->run(plan, body);
}

TextStates FloatCopy::text(const PromptChunks& prompts, std::span<const int> layers_left_out, const NewWords& new_words) {
  if (text_encoders_.empty()) {
    WeightStore& weights = store();
    std::vector<ClipTextEncoder> encoders = clip_text_encoders(weights.root(), spec_.text_encoders);
    load(weights);
    text_encoders_ = std::move(encoders);
  }
  TextCache nothing;
  TextReader reader(text_encoders_, {&prompts, 1}, layers_left_out, new_words, nothing);
  std::vector<TextStates> states;
  run([&](Ops& o) { states = reader.read(o); });
  return std::move(states.front());
}

std::vector<float> FloatCopy::predict(const FloatStep& step, const Shape& latent, std::span<const float> x,
                                      std::span<const float> extra, const Guidance& guidance, Prediction prediction) {
  if (!unet_) {
    WeightStore& weights = store();
    UNet unet(weights.root() / "unet", *spec_.unet);
    load(weights);
    unet_ = std::move(unet);
  }
  controls_.prepare(control_uses_, spec_, *device_);
  controls_.load(*device_);
  std::vector<float> clean;
  run([&](Ops& o) {
    const Tensor start = o.upload(DType::f32, latent, x);
    Tensor more;
    if (!extra.empty())
      more = o.upload(DType::f32, latent.with(3, static_cast<int64_t>(extra.size()) * latent[3] / latent.size()), extra);
    const int64_t factor = spec_.vae->factor();
    std::vector<Tensor> seen;
    std::vector<ControlInput> controls;
    for (size_t i = 0; i < controls_.active().size(); i++) {
      const Tensor picture =
          o.upload(DType::f32, {1, latent[1] * factor, latent[2] * factor, 3}, std::span<const float>(step.controls[i]));
      seen.push_back(controls_.active()[i].net->see(o, picture));
    }
    for (size_t i = 0; i < seen.size(); i++) controls.push_back({controls_.active()[i], seen[i]});
    const auto t = static_cast<float>(step.level.t);
    Predictor predictor(o, *unet_, controls, {&step.states, 1}, step.sizes, latent, more, {guidance}, prediction, {&t, 1});
    predictor.use_controls(step.call, step.calls);
    const Tensor y = predictor(start, step.level);
    clean = o.download(y);
  });
  return clean;
}

const Autoencoder& FloatCopy::autoencoder() {
  if (!autoencoder_) {
    WeightStore& weights = store();
    Autoencoder vae(weights.root() / "vae", *spec_.vae);
    load(weights);
    autoencoder_ = std::move(vae);
  }
  return *autoencoder_;
}

std::vector<float> FloatCopy::decode(std::span<const float> latent, const Shape& shape) {
  const Autoencoder& vae = autoencoder();
  std::vector<float> picture;
  run([&](Ops& o) {
    const Tensor z = o.upload(DType::f32, shape, latent), y = vae.decode(o, z);
    picture = o.download(y);
  });
  return picture;
}

std::vector<float> FloatCopy::encode(std::span<const float> picture, const Shape& shape) {
  const Autoencoder& vae = autoencoder();
  std::vector<float> moments;
  run([&](Ops& o) {
    const Tensor image = o.upload(DType::f32, shape, picture), y = vae.encode(o, image);
    moments = o.download(y);
  });
  return moments;
}

}  // namespace cudream
