// The stages of a run.
#include "runtime/painting.h"

#include <cmath>
#include <set>

#include "core/error.h"
#include "runtime/picture/convert.h"
#include "runtime/picture/image.h"
#include "runtime/samplers.h"

namespace cudream {
namespace {

// [N,h,w,C] to and from [N,C,h,w], on the host.
std::vector<float> to_nchw(std::span<const float> x, const Shape& nhwc) {
  const int64_t pixels = nhwc[1] * nhwc[2], channels = nhwc[3];
  std::vector<float> y(x.size());
  for (int64_t n = 0; n < nhwc[0]; n++)
    for (int64_t p = 0; p < pixels; p++)
      for (int64_t c = 0; c < channels; c++)
        y[static_cast<size_t>((n * channels + c) * pixels + p)] = x[static_cast<size_t>((n * pixels + p) * channels + c)];
  return y;
}

std::vector<float> to_nhwc(std::span<const float> x, const Shape& nhwc) {
  const int64_t pixels = nhwc[1] * nhwc[2], channels = nhwc[3];
  std::vector<float> y(x.size());
  for (int64_t n = 0; n < nhwc[0]; n++)
    for (int64_t p = 0; p < pixels; p++)
      for (int64_t c = 0; c < channels; c++)
        y[static_cast<size_t>((n * pixels + p) * channels + c)] = x[static_cast<size_t>((n * channels + c) * pixels + p)];
  return y;
}

// The timesteps at which a sampler calls the network, in rising order: it runs once over latents that nobody computes.
std::vector<float> asked_timesteps(Device& device, const ScheduleConfig& config, const Schedule& schedule) {
  const Shape any{1, 1, 1, 1};
  std::set<float> asked;
  Ops ops(device);
  const SamplerContext context{.ops = ops,
                               .denoise =
                                   [&](View, const Level& level) {
                                     asked.insert(static_cast<float>(level.t));
                                     return ops.make(DType::f32, any);
                                   },
                               .noise = [&] { return ops.make(DType::f32, any); },
                               .on_step = {}};
  ops.rehearse([&] { sample(context, config, schedule, ops.make(DType::f32, any)); });
  return {asked.begin(), asked.end()};
}

Shape nchw(const Shape& nhwc) {
  return {nhwc[0], nhwc[3], nhwc[1], nhwc[2]};
}

std::vector<uint64_t> dims(const Shape& s) {
  return {s.n.begin(), s.n.begin() + s.rank};
}

}  // namespace

Painting::Painting(Ops& o, const Networks& nets, const Tokenizer& tokenizer, const Job& job, int batch, const RunHooks& hooks,
                   const RunChecks& checks)
    : ops_(o),
      nets_(nets),
      job_(job),
      batch_(batch),
      hooks_(hooks),
      checks_(checks),
      guidance_{.scale = job.guidance, .rescale = job.guidance_rescale, .embedded = nets.spec.unet->guidance_embedding > 0},
      config_(checks.schedule ? *checks.schedule : schedule_config(job, nets.spec)),
      schedule_(make_schedule(config_)) {
  std::vector<BranchText> texts{{.prompt = job.prompt, .second = job.prompt_2}};
  if (guidance_.branches() == 2)
    texts.insert(texts.begin(), {.prompt = job.negative, .zeros = nets.spec.zeros_for_empty_negative && job.negative.empty()});
  prompts_ = chunk_prompts(tokenizer, texts, nets.spec.text_encoders);
  const int factor = nets.spec.vae->factor();
  latent_ = {batch, job.height / factor, job.width / factor, nets.spec.vae->latent_channels};
  if (!job.image.empty()) {
    Image picture = over_white(read_image(job.image));
    if (picture.width != job.width || picture.height != job.height) picture = resize(picture, job.width, job.height);
    image_ = to_floats(picture, Layout::hwc, Range::minus_one_one);
    schedule_ = tail(std::move(schedule_), job.strength);
  }
  timesteps_ = asked_timesteps(o.device(), config_, schedule_);
  if (checks.draws == nullptr) draws_ = std::make_unique<SeededDraws>(job.rng, job.seed, batch);
}

void Painting::run() {
  const TextStates states = read_prompts();
  Tensor x = start();
  x = denoise(states, std::move(x));
  decode(x);
}

void Painting::tell(const std::string& stage, int steps) const {
  if (!real()) return;
  stop_if_cancelled();
  if (hooks_.on_stage) hooks_.on_stage(stage, steps);
}

void Painting::stop_if_cancelled() const {
  if (hooks_.cancel != nullptr && *hooks_.cancel) throw fail(Code::cancelled, "cancelled");
}

std::vector<float> Painting::draw() {
  if (!real()) return std::vector<float>(static_cast<size_t>(latent_.size()));
  Draws& draws = checks_.draws != nullptr ? *checks_.draws : *draws_;
  return to_nhwc(draws.draw(nchw(latent_)), latent_);
}

void Painting::trace(const char* name, View x, bool append) {
  if (checks_.trace == nullptr || !real()) return;
  const std::vector<float> values = to_nchw(ops_.download(x), x.shape);
  if (append)
    checks_.trace->append(name, dims(nchw(x.shape)), values);
  else
    checks_.trace->add(name, dims(nchw(x.shape)), std::span<const float>(values));
}

TextStates Painting::read_prompts() {
  tell("text");
  if (real()) nets_.weights.bring("text_encoder");
  if (real() && hooks_.on_notice)
    for (const std::string& notice : prompts_.notices) hooks_.on_notice(notice);
  std::vector<int> left_out(prompts_.branches.size(), job_.clip_skip - 1);
  if (checks_.skip_positive_only && left_out.size() == 2) left_out.front() = 0;
  TextStates states = encode_text(ops_, nets_.text_encoders, prompts_, left_out);
  if (checks_.trace != nullptr && real()) trace_text(states);
  return states;
}

// Ids once a prompt; states once a picture, as the reference repeats them.
void Painting::trace_text(const TextStates& states) const {
  for (size_t b = 0; b < prompts_.branches.size(); b++) {
    const bool negative = b + 1 < prompts_.branches.size();
    const BranchChunks& branch = prompts_.branches[b];
    const uint64_t count = branch.count(), positions = Tokenizer::kPositions, pictures = static_cast<uint64_t>(batch_);
    for (size_t e = 0; e < branch.encoders.size(); e++) {
      std::vector<int32_t> ids;
      for (const Chunk& c : branch.encoders[e]) ids.insert(ids.end(), c.ids.begin(), c.ids.end());
      const bool second = nets_.spec.text_encoders[e].projection > 0;
      checks_.trace->add(fmt::format("ids.tokenizer{}.{}", second ? "_2" : "", negative ? "negative" : "prompt"),
                         {count, positions}, std::span<const int32_t>(ids));
    }
    std::vector<float> repeated;
    for (int i = 0; i < batch_; i++) repeated.insert(repeated.end(), states.branch(b).begin(), states.branch(b).end());
    checks_.trace->add(negative ? "negative_prompt_embeds" : "prompt_embeds",
                       {pictures, count * positions, static_cast<uint64_t>(states.width)}, std::span<const float>(repeated));
    if (states.pooled_width == 0) continue;
    const auto width = static_cast<size_t>(states.pooled_width);
    std::vector<float> pooled;
    for (int i = 0; i < batch_; i++) pooled.insert(pooled.end(), &states.pooled[b * width], &states.pooled[b * width] + width);
    checks_.trace->add(negative ? "negative_pooled_prompt_embeds" : "pooled_prompt_embeds", {pictures, width},
                       std::span<const float>(pooled));
  }
}

Tensor Painting::encode_image() {
  tell("encode");
  if (real()) nets_.weights.bring("vae");
  const Shape picture{1, job_.height, job_.width, 3};
  const Tensor image = ops_.upload(DType::f32, picture, std::span<const float>(image_));
  const int64_t channels = latent_[3];
  const Tensor moments = ops_.make(DType::f32, {1, latent_[1], latent_[2], 2 * channels});
  const View input = image;
  ops_.stage(fmt::format("encode {}", picture.str()), {&input, 1}, moments,
             [&] { return nets_.autoencoder.encode(ops_, image); });

  // A sample of the posterior for each picture of the batch: mean + deviation * noise, then the latents' own scale.
  const std::vector<float> m = ops_.download(moments), noise = draw();
  std::vector<float> latent(noise.size());
  const size_t c = static_cast<size_t>(channels), pixels = m.size() / (2 * c);
  for (size_t i = 0; i < latent.size(); i++) {
    const size_t pixel = i / c % pixels, channel = i % c;
    const float mean = m[pixel * 2 * c + channel], log_variance = std::clamp(m[pixel * 2 * c + c + channel], -30.f, 20.f);
    latent[i] = (mean + std::exp(0.5f * log_variance) * noise[i]) * nets_.spec.vae->scaling_factor;
  }
  return ops_.upload(DType::f32, latent_, std::span<const float>(latent));
}

Tensor Painting::start() {
  if (image_.empty()) {
    const std::vector<float> noise = draw();
    const Tensor n = ops_.upload(DType::f32, latent_, std::span<const float>(noise));
    return ops_.combine({{static_cast<float>(schedule_.initial_scale), n}});
  }
  const Tensor latent = encode_image();
  const std::vector<float> noise = draw();
  const Tensor n = ops_.upload(DType::f32, latent_, std::span<const float>(noise));
  const Level& level = schedule_.first();
  return ops_.combine({{static_cast<float>(level.alpha), latent}, {static_cast<float>(level.sigma), n}});
}

Tensor Painting::denoise(const TextStates& states, Tensor x) {
  if (real()) nets_.weights.bring("unet");
  const int64_t size_count = nets_.spec.unet->size_count(states.pooled_width);
  std::vector<float> sizes;
  for (size_t b = 0; b < guidance_.branches(); b++) {
    const std::vector<float> mine = size_numbers(job_, size_count, b + 1 < guidance_.branches());
    sizes.insert(sizes.end(), mine.begin(), mine.end());
  }
  Predictor predictor(ops_, nets_.unet, states, sizes, latent_, guidance_, config_.noise.prediction, timesteps_);
  bool first = true;
  predictor.set_observer([&](View outputs) {
    if (std::exchange(first, false)) trace("unet_out.first", outputs);
  });
  if (checks_.trace != nullptr && real()) {
    const std::vector<float> t(schedule_.timesteps.begin(), schedule_.timesteps.end());
    const std::vector<float> sigmas(schedule_.sigmas.begin(), schedule_.sigmas.end());
    checks_.trace->add("timesteps", {t.size()}, std::span<const float>(t));
    checks_.trace->add("sigmas", {sigmas.size()}, std::span<const float>(sigmas));
  }
  tell("denoise", calls_);
  const SamplerContext context{
      .ops = ops_,
      .denoise =
          [&](View latent, const Level& level) {
            if (real()) stop_if_cancelled();
            return predictor(latent, level);
          },
      .noise =
          [&] {
            const std::vector<float> fresh = draw();
            return ops_.upload(DType::f32, latent_, std::span<const float>(fresh));
          },
      .on_step =
          [&](const StepInfo& step) {
            calls_ = static_cast<int>(step.count);  // known from the rehearsal on
            if (!real()) return;
            trace("latents", step.x, true);
            if (hooks_.on_step) hooks_.on_step(static_cast<int>(step.index) + 1);
          },
  };
  return sample(context, config_, schedule_, std::move(x));
}

void Painting::decode(View latent) {
  tell("decode");
  if (real()) nets_.weights.bring("vae");
  const Shape one{1, job_.height, job_.width, 3};
  const Tensor picture = ops_.make(DType::f32, one);
  pixels_.clear();
  for (int i = 0; i < batch_; i++) {  // one after the other: the decoder's memory is the largest of a run
    const Tensor scaled = ops_.combine({{1 / nets_.spec.vae->scaling_factor, latent.slice(0, i, i + 1)}});
    const View input = scaled;
    ops_.stage(fmt::format("decode {}", one.str()), {&input, 1}, picture, [&] { return nets_.autoencoder.decode(ops_, scaled); });
    const std::vector<float> values = ops_.download(picture);
    pixels_.insert(pixels_.end(), values.begin(), values.end());
  }
  if (checks_.trace == nullptr || !real()) return;
  const Shape all = one.with(0, batch_);
  std::vector<float> shown = to_nchw(pixels_, all);
  for (float& v : shown) v = std::clamp(v / 2 + 0.5f, 0.f, 1.f);
  checks_.trace->add("final_image", dims(nchw(all)), std::span<const float>(shown));
}

}  // namespace cudream
