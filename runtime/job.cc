// Job to and from JSON, and golden runs.
#include "runtime/job.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"
#include "runtime/diffusers_config.h"
#include "runtime/scheduler_names.h"

namespace cudream {
namespace {

using nlohmann::json;

constexpr size_t kMaxConfig = size_t{1} << 20;

// Calls visit(key, field) for every field that JSON holds: the one list that writing and reading share.
template <typename AnyJob, typename Visit>
void each_field(AnyJob& job, Visit visit) {
  visit("prompt", job.prompt);
  visit("negative", job.negative);
  visit("prompt_2", job.prompt_2);
  visit("prompt_template", job.prompt_template);
  visit("negative_template", job.negative_template);
  visit("loras", job.loras);
  visit("embeddings", job.embeddings);
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
  visit("controls", job.controls);
  visit("edit", job.edit);
  visit("image_guidance", job.image_guidance);
  visit("invert_mask", job.invert_mask);
  visit("mask_blur", job.mask_blur);
  visit("mask_fill", job.mask_fill);
  visit("only_masked", job.only_masked);
  visit("mask_padding", job.mask_padding);
  visit("grow", job.grow);
  visit("hires", job.hires);
  visit("hires_upscaler", job.hires_upscaler);
  visit("hires_strength", job.hires_strength);
  visit("hires_steps", job.hires_steps);
  visit("variation_seed", job.variation_seed);
  visit("variation_strength", job.variation_strength);
  visit("refiner", job.refiner);
  visit("refiner_start", job.refiner_start);
  visit("tile", job.tile);
}

// The same for the files it names.
template <typename Visit>
void each_file(const Job& job, Visit visit) {
  if (!job.image.empty()) visit("image", job.image);
  if (!job.mask.empty()) visit("mask", job.mask);
  for (const std::filesystem::path& picture : job.control_images) visit("control_images", picture);
}

template <typename T>
struct Plain {
  using type = T;
};
template <typename T>
struct Plain<std::optional<T>> {
  using type = T;
};

// Whether a value of JSON can be a field of type T.
template <typename T>
bool fits(const json& value) {
  if constexpr (std::is_same_v<T, std::string>) return value.is_string();
  if constexpr (std::is_same_v<T, bool>) return value.is_boolean();
  if constexpr (std::is_floating_point_v<T>) return value.is_number();
  if constexpr (std::is_same_v<T, uint64_t>) return value.is_number_unsigned();
  return value.is_number_integer() && value.get<int64_t>() == value.get<int>();
}

template <typename T>
bool is_set(const T&) {
  return true;
}
template <typename T>
bool is_set(const std::optional<T>& field) {
  return field.has_value();
}
template <typename T>
const T& value_of(const T& field) {
  return field;
}
template <typename T>
const T& value_of(const std::optional<T>& field) {
  return *field;
}

Prediction prediction_of(const std::string& name) {
  if (name == "epsilon") return Prediction::epsilon;
  if (name == "v") return Prediction::v;
  invariant(name == "sample", "prediction {}", name);  // complete() has refused others
  return Prediction::sample;
}

}  // namespace

json to_json(const Job& job) {
  json j = json::object();
  each_field(job, [&](const char* key, const auto& field) {
    if (is_set(field)) j[key] = value_of(field);
  });
  each_file(job, [&](std::string_view key, const std::filesystem::path& file) {
    if (key == "control_images")
      j[key].push_back(file.filename().string());
    else
      j[key] = file.filename().string();
  });
  return j;
}

std::string exact_text(const Job& job) {
  std::string text = to_json(job).dump(-1, ' ', true, json::error_handler_t::replace);
  each_file(job, [&](const char*, const std::filesystem::path& file) { text += "\n" + file.string(); });
  return text;
}

Job job_from_json(const json& j) {
  Job job;
  if (!j.is_object()) throw fail(Code::bad_file, "a job is a JSON object, not {}", j.type_name());
  each_field(job, [&](const char* key, auto& field) {
    const auto found = j.find(key);
    if (found == j.end()) return;
    using Field = typename Plain<std::remove_reference_t<decltype(field)>>::type;
    if (!fits<Field>(*found)) throw fail(Code::bad_file, "a job's \"{}\" cannot be {}", key, found->dump().substr(0, 80));
    field = found->template get<Field>();
  });
  return job;
}

Task task_of(const Job& job) {
  if (job.edit) return Task::instruct;
  return job.mask.empty() && job.grow.empty() ? Task::generate : Task::inpaint;
}

Job nth_picture(Job job, uint64_t i) {
  if (job.variation_strength > 0)
    job.variation_seed = job.variation_seed.value_or(job.seed + 1) + i;
  else
    job.seed += i;
  return job;
}

std::vector<Job> first_pictures(const Job& job, int count) {
  std::vector<Job> jobs;
  jobs.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; i++) jobs.push_back(nth_picture(job, static_cast<uint64_t>(i)));
  return jobs;
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
    if (j.contains("strength")) job.strength = j["strength"].get<double>();
    job.image_guidance = j.value("image_guidance_scale", job.image_guidance);
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
    const auto beside = [&](const char* suffix) { return file.parent_path() / (file.stem().string() + suffix); };
    const bool inpaint = kind.ends_with("inpaint");
    if (kind.ends_with("img2img") || inpaint || kind == "instruct") job.image = beside(".image.png");
    if (inpaint) job.mask = beside(".mask.png");
    if (kind == "controlnet") job.control_images = {beside(".image.png")};
    job.edit = kind == "instruct";
    run.schedule = from_diffusers(j.at("scheduler_class").get<std::string>(), j.at("scheduler_config"), job.steps);
    run.schedule.eta = j.value("eta", run.schedule.eta);
    return run;
  } catch (const json::exception& e) {
    throw fail(Code::bad_file, "{}: {}", file.string(), e.what());
  }
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
  if (reads_eta(config.sampler)) config.eta = job.eta.value_or(config.eta);
  return config;
}

}  // namespace cudream
