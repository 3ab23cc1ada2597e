// Job to and from JSON, its checks, and golden runs.
#include "runtime/job.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "runtime/diffusers_config.h"
#include "runtime/scheduler_names.h"

namespace cudream {
namespace {

using nlohmann::json;

constexpr int kMaxSteps = 1000, kMaxSide = 16384;
constexpr size_t kMaxPrompt = size_t{1} << 20, kMaxConfig = size_t{1} << 20;

// Calls visit(key, field) for every field that JSON holds: the one list that writing and reading share.
template <typename AnyJob, typename Visit>
void each_field(AnyJob& job, Visit visit) {
  visit("prompt", job.prompt);
  visit("negative", job.negative);
  visit("prompt_2", job.prompt_2);
  visit("model", job.model);
  visit("vae", job.vae);
  visit("sampler", job.sampler);
  visit("schedule", job.schedule);
  visit("rng", job.rng);
  visit("seed", job.seed);
  visit("width", job.width);
  visit("height", job.height);
  visit("steps", job.steps);
  visit("clip_skip", job.clip_skip);
  visit("guidance", job.guidance);
  visit("guidance_rescale", job.guidance_rescale);
  visit("eta", job.eta);
  visit("strength", job.strength);
  visit("original_width", job.original_width);
  visit("original_height", job.original_height);
  visit("crop_left", job.crop_left);
  visit("crop_top", job.crop_top);
  visit("target_width", job.target_width);
  visit("target_height", job.target_height);
  visit("aesthetic", job.aesthetic);
  visit("negative_aesthetic", job.negative_aesthetic);
  visit("prediction", job.prediction);
}

int nearest_multiple(int value, int factor) {
  return std::max(factor, (value + factor / 2) / factor * factor);
}

void check_size(const char* option, int value, int factor) {
  if (value < factor || value > kMaxSide)
    throw fail(Code::usage, "{} {}: sizes go from {} to {} pixels", option, value, factor, kMaxSide);
  if (value % factor != 0)
    throw fail(Code::usage, "{} {}: this model makes multiples of {} pixels; the nearest is {}", option, value, factor,
               nearest_multiple(value, factor));
}

Prediction prediction_of(const std::string& name) {
  if (name == "epsilon") return Prediction::epsilon;
  if (name == "v") return Prediction::v;
  if (name == "sample") return Prediction::sample;
  throw fail(Code::usage, "--prediction {}: must be epsilon, v or sample", name);
}

void check_range(const char* option, double value, double low, double high) {
  if (!(value >= low && value <= high)) throw fail(Code::usage, "{} {}: must lie between {} and {}", option, value, low, high);
}

}  // namespace

json to_json(const Job& job) {
  json j = json::object();
  each_field(job, [&](const char* key, const auto& field) { j[key] = field; });
  return j;
}

Job job_from_json(const json& j) {
  Job job;
  if (!j.is_object()) throw fail(Code::bad_file, "a job is a JSON object, not {}", j.type_name());
  each_field(job, [&](const char* key, auto& field) {
    const auto found = j.find(key);
    if (found == j.end()) return;
    using Field = std::remove_reference_t<decltype(field)>;
    const bool fits = std::is_same_v<Field, std::string> ? found->is_string()
                      : std::is_floating_point_v<Field>  ? found->is_number()
                      : std::is_same_v<Field, uint64_t>
                          ? found->is_number_unsigned()
                          : found->is_number_integer() && found->template get<int64_t>() == found->template get<int>();
    if (!fits) throw fail(Code::bad_file, "a job's \"{}\" cannot be {}", key, found->dump().substr(0, 80));
    field = found->template get<Field>();
  });
  return job;
}

GoldenRun golden_run(const std::filesystem::path& file) {
  const json j = parse_python_json(read_text(file, kMaxConfig), file.string());
  if (!j.is_object()) throw fail(Code::bad_file, "{} is not a JSON object", file.string());
  try {
    GoldenRun run;
    Job& job = run.job;
    job.prompt = j.at("prompt");
    job.negative = j.value("negative", json()).is_string() ? j["negative"].get<std::string>() : "";
    job.width = j.at("width");
    job.height = j.at("height");
    job.steps = j.at("steps");
    job.guidance = j.at("guidance");
    job.guidance_rescale = j.value("guidance_rescale", 0.0);
    job.strength = j.value("strength", job.strength);
    job.clip_skip = j.value("clip_skip", 0) + 1;  // the reference counts the layers left out
    run.batch = j.value("num_images_per_prompt", 1);
    job.prompt_2 = j.value("prompt_2", "");
    const auto pair = [&](const char* key, int& first, int& second) {
      if (j.contains(key)) first = j[key].at(0), second = j[key].at(1);
    };
    pair("original_size", job.original_height, job.original_width);
    pair("crops_coords_top_left", job.crop_top, job.crop_left);
    pair("target_size", job.target_height, job.target_width);
    const std::string kind = j.at("kind");
    if (kind == "img2img" || kind == "sdxl-img2img") job.image = file.parent_path() / (file.stem().string() + ".image.png");
    run.schedule = from_diffusers(j.at("scheduler_class").get<std::string>(), j.at("scheduler_config"), job.steps);
    run.schedule.eta = j.value("eta", run.schedule.eta);
    return run;
  } catch (const json::exception& e) {
    throw fail(Code::bad_file, "{}: {}", file.string(), e.what());
  }
}

void complete(Job& job, const ModelSpec& spec) {
  const int factor = spec.vae->factor();
  if (job.width == 0) job.width = static_cast<int>(spec.native_size);
  if (job.height == 0) job.height = static_cast<int>(spec.native_size);
  check_size("--width", job.width, factor);
  check_size("--height", job.height, factor);
  if (job.original_width == 0) job.original_width = job.width;
  if (job.original_height == 0) job.original_height = job.height;
  if (job.target_width == 0) job.target_width = job.width;
  if (job.target_height == 0) job.target_height = job.height;
  if (job.steps < 1 || job.steps > kMaxSteps) throw fail(Code::usage, "--steps {}: from 1 to {}", job.steps, kMaxSteps);
  check_range("--guidance", job.guidance, 0, 100);
  check_range("--guidance-rescale", job.guidance_rescale, 0, 1);
  check_range("--eta", job.eta, 0, 1);
  if (!(job.strength > 0 && job.strength <= 1)) throw fail(Code::usage, "--strength {}: above 0 and at most 1", job.strength);
  for (const TextEncoderSpec& encoder : spec.text_encoders)
    if (const int layers = encoder.layers - encoder.skip; job.clip_skip < 1 || job.clip_skip > layers)
      throw fail(Code::usage, "--clip-skip {}: this text encoder has layers 1 (the last one used) to {}", job.clip_skip, layers);
  if (!job.prediction.empty()) prediction_of(job.prediction);
  for (const std::string* text : {&job.prompt, &job.negative})
    if (text->size() > kMaxPrompt) throw fail(Code::usage, "a prompt of {} bytes; at most {} are read", text->size(), kMaxPrompt);
  if (spec.task != Task::generate)
    throw fail(Code::unsupported, "this model's UNet reads {} channels: it is made for {}, which this version does not do yet",
               spec.unet->in_channels, spec.task == Task::inpaint ? "inpainting" : "edits by instruction");
}

std::vector<float> size_numbers(const Job& job, int64_t count, bool negative) {
  if (count == 0) return {};
  std::vector<double> numbers{static_cast<double>(job.original_height), static_cast<double>(job.original_width),
                              static_cast<double>(job.crop_top), static_cast<double>(job.crop_left)};
  if (count == 5)
    numbers.push_back(negative ? job.negative_aesthetic : job.aesthetic);
  else
    numbers.insert(numbers.end(), {static_cast<double>(job.target_height), static_cast<double>(job.target_width)});
  return {numbers.begin(), numbers.end()};
}

ScheduleConfig schedule_config(const Job& job, const ModelSpec& spec) {
  ScheduleConfig config;
  config.noise = spec.noise;
  if (!job.prediction.empty()) config.noise.prediction = prediction_of(job.prediction);
  config.steps = job.steps;
  set_sampler(config, job.sampler);
  if (!job.schedule.empty()) set_schedule(config, job.schedule);
  if (config.sampler == Sampler::ddim) config.eta = job.eta;
  return config;
}

}  // namespace cudream
