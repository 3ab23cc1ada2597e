// The stages of a run.
#include "runtime/painting.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "runtime/composition.h"
#include "runtime/float_copy.h"
#include "runtime/prompt_schedule.h"

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

size_t calls_between(const ScheduleConfig& config, const Schedule& schedule, size_t from, size_t to) {
  size_t calls = 0;
  for (size_t i = from; i < to; i++) calls += static_cast<size_t>(calls_of_step(config, schedule, i));
  return calls;
}

Shape nchw(const Shape& nhwc) {
  return {nhwc[0], nhwc[3], nhwc[1], nhwc[2]};
}

std::vector<uint64_t> dims(const Shape& s) {
  return {s.n.begin(), s.n.begin() + s.rank};
}

}  // namespace

Painting::Painting(Ops& o, const Networks& nets, const Tokenizer& tokenizer, std::span<const Job> jobs, const Pass& pass,
                   const RunHooks& hooks, const RunChecks& checks)
    : ops_(o),
      nets_(nets),
      jobs_(jobs),
      job_(jobs.front()),
      pass_(pass),
      hooks_(hooks),
      checks_(checks),
      config_(checks.schedule ? *checks.schedule : schedule_config(job_, nets.spec)),
      schedule_(make_schedule(config_)) {
  for (const Job& job : jobs) guidance_.push_back(guidance_of(job, *nets.spec.unet));
  const int factor = nets.spec.vae->factor();
  latent_ = {static_cast<int64_t>(batch()), job_.height / factor, job_.width / factor, nets.spec.vae->latent_channels};
  if (!pass.mask.empty()) latent_mask_ = shrunk_mask();
  if (pass.denoise && redraws_picture()) schedule_ = tail(std::move(schedule_), *job_.strength);
  if (pass.part != Pass::Part::all) take_part();
  chunk_texts(tokenizer);
  reader_.emplace(nets.text_encoders, prompts_, layers_left_out(), nets.new_words, nets.texts);
  timesteps_ = asked_timesteps(o.device(), config_, schedule_);
  if (checks.draws == nullptr) draws_ = std::make_unique<SeededDraws>(job_.rng, seeds(false));
}

void Painting::take_part() {
  const size_t step = handover_step(schedule_, job_.refiner_start, config_.noise.train_steps);
  if (!takes_over()) return schedule_.steps.resize(step);
  calls_before_ = calls_between(config_, schedule_, 0, step);
  schedule_.begin = step;
}

// The prompts that are read during the run, each once: of all pictures together.
void Painting::chunk_texts(const Tokenizer& tokenizer) {
  struct Scheduled {
    std::vector<PromptSchedule> parts;  // of the prompt
    PromptSchedule second, negative;
  };
  const int calls = static_cast<int>(schedule_.timesteps.size());
  const auto schedule = [&](const std::string& text) { return schedule_prompt(take_tags(text).text, calls); };
  std::vector<Scheduled> pictures;
  for (const Job& job : jobs_) {
    pictures.push_back({.parts = {}, .second = schedule(job.prompt_2), .negative = schedule(job.negative)});
    for (const auto& [text, weight] : composed_prompts(job)) pictures.back().parts.push_back(schedule_prompt(text, calls));
  }
  std::vector<std::vector<size_t>> known;  // which texts a prompt is made of
  for (size_t call = 0; call < static_cast<size_t>(calls); call++) {
    std::vector<size_t> now;
    for (const Scheduled& s : pictures) {
      now.insert(now.end(), {s.second.at_step[call], s.negative.at_step[call]});
      for (const PromptSchedule& part : s.parts) now.push_back(part.at_step[call]);
    }
    const auto at = std::find(known.begin(), known.end(), now);
    prompt_at_.push_back(static_cast<size_t>(at - known.begin()));
    if (at != known.end()) continue;
    known.push_back(std::move(now));
    const auto read_now = [&](const PromptSchedule& s) -> const std::string& { return s.texts[s.at_step[call]]; };
    std::vector<BranchText> texts;
    for (const Scheduled& s : pictures) {
      std::vector<BranchText> own;
      for (const PromptSchedule& part : s.parts) own.push_back({.prompt = read_now(part), .second = read_now(s.second)});
      const std::string& against = read_now(s.negative);
      if (guidance().negative)
        own.insert(own.begin() + static_cast<std::ptrdiff_t>(*guidance().negative),
                   {.prompt = against, .zeros = nets_.spec.zeros_for_empty_negative && against.empty()});
      texts.insert(texts.end(), own.begin(), own.end());
    }
    prompts_.push_back(chunk_prompts(tokenizer, texts, nets_.spec.text_encoders, nets_.new_words));
  }
}

std::vector<int> Painting::layers_left_out() const {
  std::vector<int> left_out(prompts_.front().branches.size(), job_.clip_skip - 1);
  for (size_t i = 0; checks_.skip_positive_only && i < left_out.size(); i++)
    if (is_negative(i % texts_each())) left_out[i] = 0;
  return left_out;
}

void Painting::run() {
  ops_.set_wrap({.x = job_.tile.find('x') != std::string::npos, .y = job_.tile.find('y') != std::string::npos});
  latents_.clear();
  const Tensor x = pass_.denoise ? made_latent() : ops_.upload(DType::f32, latent_, std::span<const float>(pass_.latents));
  latents_ = ops_.download(x);
  if (pass_.decode) decode(x);
}

Tensor Painting::made_latent() {
  const std::vector<TextStates> states = read_prompts();
  Given given;
  Tensor x = start(given);
  return denoise(states, given, std::move(x));
}

// Of every picture of the batch.
std::vector<uint64_t> Painting::seeds(bool of_variation) const {
  std::vector<uint64_t> all;
  for (const Job& job : jobs_) all.push_back(of_variation ? job.variation_seed.value_or(job.seed + 1) : job.seed);
  return all;
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

std::vector<float> Painting::first_noise() {
  if (job_.variation_strength == 0 || !real()) return draw();
  Draws& draws = checks_.draws != nullptr ? *checks_.draws : *draws_;
  SeededDraws others(job_.rng, seeds(true));
  const std::vector<float> noise = draws.draw(nchw(latent_)), other = others.draw(nchw(latent_));
  return to_nhwc(varied(noise, other, job_.variation_strength, nchw(latent_)), latent_);
}

void Painting::trace(const char* name, View x, bool append) {
  if (checks_.trace == nullptr || !real()) return;
  const std::vector<float> values = to_nchw(ops_.download(x), x.shape);
  if (append)
    checks_.trace->append(name, dims(nchw(x.shape)), values);
  else
    checks_.trace->add(name, dims(nchw(x.shape)), std::span<const float>(values));
}

std::vector<TextStates> Painting::read_prompts() {
  tell("text");
  if (real() && !reader_->knows_all()) nets_.weights.bring("text_encoder");
  std::set<std::string> notices;
  for (const PromptChunks& prompt : prompts_) notices.insert(prompt.notices.begin(), prompt.notices.end());
  if (real()) std::ranges::for_each(notices, hooks_.on_notice);
  std::vector<TextStates> states = reader_->read(ops_);
  for (size_t i = 0; real() && i < states.size(); i++) mend_text(states[i], prompts_[i]);
  if (checks_.trace != nullptr && real()) trace_text(states.front());
  return states;
}

void Painting::trace_ids(const BranchChunks& text, const char* name) const {
  for (size_t e = 0; e < text.encoders.size(); e++) {
    std::vector<int32_t> ids;
    for (const Chunk& c : text.encoders[e]) ids.insert(ids.end(), c.ids.begin(), c.ids.end());
    const bool second = nets_.spec.text_encoders[e].projection > 0;
    checks_.trace->add(fmt::format("ids.tokenizer{}.{}", second ? "_2" : "", name), {text.count(), Tokenizer::kPositions},
                       std::span<const int32_t>(ids));
  }
}

// Ids once a prompt; states once a picture, as the reference repeats them: each prompt by itself, or, when editing, the rows of
// all branches in one.
void Painting::trace_text(const TextStates& states) const {
  const auto add_states = [&](const char* name, std::span<const size_t> texts) {
    std::vector<float> rows;
    for (const size_t text : texts)
      for (size_t i = 0; i < batch(); i++) {
        const std::span<const float> row = states.branch(i * texts_each() + text);
        rows.insert(rows.end(), row.begin(), row.end());
      }
    const uint64_t count = texts.size() * batch(), width = static_cast<uint64_t>(states.width);
    checks_.trace->add(name, {count, rows.size() / count / width, width}, std::span<const float>(rows));
  };
  for (size_t text = 0; text < texts_each(); text++) {
    const bool positive = !is_negative(text);
    if (positive && text != prompt_text()) continue;  // of composed prompts the first
    trace_ids(prompts_.front().branches[text], positive ? "prompt" : "negative");
    if (!job_.edit) add_states(positive ? "prompt_embeds" : "negative_prompt_embeds", std::span(&text, 1));
    if (states.pooled_width == 0) continue;
    const auto width = static_cast<size_t>(states.pooled_width);
    std::vector<float> pooled;
    for (size_t i = 0; i < batch(); i++) {
      const std::span<const float> row = std::span(states.pooled).subspan((i * texts_each() + text) * width, width);
      pooled.insert(pooled.end(), row.begin(), row.end());
    }
    checks_.trace->add(positive ? "pooled_prompt_embeds" : "negative_pooled_prompt_embeds", {batch(), width},
                       std::span<const float>(pooled));
  }
  if (!job_.edit) return;
  std::vector<size_t> texts;
  for (const Branch& branch : guidance().branches) texts.push_back(branch.text);
  add_states("prompt_embeds", texts);
}

void Painting::trace_decoded() const {
  if (checks_.trace == nullptr) return;
  const Shape all{latent_[0], job_.height, job_.width, 3};
  std::vector<float> shown = to_nchw(pixels_, all);
  for (float& v : shown) v = std::clamp(v / 2 + 0.5f, 0.f, 1.f);
  checks_.trace->add("final_image", dims(nchw(all)), std::span<const float>(shown));
}

Tensor Painting::denoise(std::span<const TextStates> states, const Given& given, Tensor x) {
  if (real()) nets_.weights.bring("unet");
  const int64_t size_count = nets_.spec.unet->size_count(states.front().pooled_width);
  std::vector<float> sizes;
  for (size_t text = 0; text < prompts_.front().branches.size(); text++) {
    const std::vector<float> mine = size_numbers(job_, size_count, is_negative(text % texts_each()));
    sizes.insert(sizes.end(), mine.begin(), mine.end());
  }
  const std::vector<Tensor> seen = see_controls();
  std::vector<ControlInput> controls;
  for (size_t i = 0; i < seen.size(); i++) controls.push_back({nets_.controls[i], seen[i]});
  Predictor predictor(ops_, nets_.unet, controls, states, sizes, latent_, given.extra, guidance_, config_.noise.prediction,
                      timesteps_);
  size_t call = 0;
  const size_t calls = calls_between(config_, schedule_, schedule_.begin, schedule_.steps.size());
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
            const size_t prompt = prompt_at_[std::min(calls_before_ + call, prompt_at_.size() - 1)];
            predictor.use_prompt(prompt);
            predictor.use_controls(call, calls);
            Tensor clean = predictor(latent, level);
            if (real())
              mend_step(clean, latent, given.extra,
                        {.states = states[prompt],
                         .sizes = sizes,
                         .controls = pass_.controls,
                         .call = call,
                         .calls = calls,
                         .level = level});
            call++;
            return clean;
          },
      .noise =
          [&] {
            const std::vector<float> fresh = draw();
            return ops_.upload(DType::f32, latent_, std::span<const float>(fresh));
          },
      .on_step =
          [&](const StepInfo& step) {
            calls_ = static_cast<int>(step.count);  // known from the rehearsal on
            if (given.known) keep_known(given, step);
            preview(step);
            if (!real()) return;
            trace("latents", step.x, true);
            if (hooks_.on_step) hooks_.on_step(static_cast<int>(step.index) + 1);
          },
  };
  return sample(context, config_, schedule_, std::move(x));
}

// A rehearsal has no pictures.
std::vector<Tensor> Painting::see_controls() {
  const Shape picture{1, job_.height, job_.width, 3};
  const std::vector<float> blank(real() || nets_.controls.empty() ? 0 : static_cast<size_t>(picture.size()));
  std::vector<Tensor> seen;
  for (size_t i = 0; i < nets_.controls.size(); i++) {
    const ControlNet& net = *nets_.controls[i].net;
    const Tensor shown = ops_.upload(DType::f32, picture, std::span<const float>(real() ? pass_.controls.at(i) : blank));
    const View input = shown;
    seen.push_back(ops_.make(ops_.compute(), latent_.with(0, 1).with(3, net.spec().encoder.channels.front())));
    ops_.stage(fmt::format("control {} sees {}", i + 1, picture.str()), {&input, 1}, seen.back(),
               [&] { return net.see(ops_, shown); });
  }
  return seen;
}

}  // namespace cudream
