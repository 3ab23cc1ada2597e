// One call on pure noise.
#include "runtime/prediction_probe.h"

#include "runtime/conditioning.h"
#include "runtime/rng.h"

namespace cudream {

double share_of_noise(std::span<const float> x, std::span<const float> out) {
  double product = 0, square = 0;
  for (size_t i = 0; i < x.size(); i++) {
    product += static_cast<double>(x[i]) * out[i];
    square += static_cast<double>(x[i]) * x[i];
  }
  return product / square;
}

Prediction probe_prediction(Ops& o, const ModelSpec& spec, std::span<const ClipTextEncoder> encoders, const UNet& unet,
                            WeightStore& weights, const Tokenizer& tokenizer) {
  const Shape latent{1, 32, 32, spec.unet->in_channels};
  const std::vector<float> noise = TorchCpuNoise(0).normal(latent.size());
  const float t = static_cast<float>(spec.noise.train_steps - 1);
  const std::vector<PromptChunks> empty{chunk_prompts(tokenizer, std::vector<BranchText>{{}}, spec.text_encoders)};
  const NewWords none;
  TextCache cache;
  TextReader reader(encoders, empty, std::vector<int>{0}, none, cache);
  std::vector<float> out;
  const auto job = [&] {
    if (!o.rehearsing()) weights.bring("text_encoder");
    const TextStates states = reader.read(o).front();
    const Tensor exact = o.upload(DType::f32, {1, states.tokens, states.width}, std::span<const float>(states.values));
    const Tensor context = o.cast(exact, o.compute());
    if (!o.rehearsing()) weights.bring("unet");
    const PromptState prompt = unet.read(o, {.context = context, .key_lengths = states.key_lengths});
    const Tensor x = o.upload(DType::f32, latent, std::span<const float>(noise)),
                 time = o.upload(DType::f32, {1}, std::span(&t, 1));
    const Tensor y = o.make(DType::f32, latent.with(3, spec.unet->out_channels));
    const Tensor input = o.cast(x, o.compute()), times = unet.embed(o, time, prompt);
    std::vector<View> reads = prompt.views();
    reads.insert(reads.end(), {input, times});
    o.stage("unet probe", reads, y, [&] { return unet.predict(o, input, times, prompt); });
    out = o.download(y);
  };
  const Ops::Plan plan = o.rehearse(job);
  o.run(plan, job);
  return share_of_noise(noise, out) > 0.5 ? Prediction::epsilon : Prediction::v;
}

}  // namespace cudream
