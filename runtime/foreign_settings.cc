// A1111's keys (modules/processing.py, create_infotext) and what they set.
#include "runtime/foreign_settings.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <set>

#include "core/error.h"

namespace cudream {
namespace {

// Of no use to us, and no loss.
constexpr std::array<std::string_view, 6> kUnneeded = {"Model hash", "VAE hash", "Lora hashes", "TI hashes", "Version", "Hashes"};

// The keys of a picture; those that were not asked for are left over in the end.
class Settings {
 public:
  explicit Settings(const Parameters& parameters) : parameters_(parameters) {
    for (const auto& [key, value] : parameters.values) left_.insert(key);
    for (const std::string_view key : kUnneeded) left_.erase(std::string(key));
  }

  const std::string* text(const char* key) {
    left_.erase(key);
    return parameters_.find(key);
  }

  template <typename T>
  bool number(const char* key, T& to) {
    const std::string* value = text(key);
    if (value == nullptr) return false;
    const char* end = value->data() + value->size();
    if (const auto [rest, wrong] = std::from_chars(value->data(), end, to); wrong != std::errc() || rest != end)
      throw fail(Code::bad_file, "the picture's settings: \"{}: {}\" is no number of its kind", key, printable(*value));
    return true;
  }

  template <typename T>
  void number(const char* key, std::optional<T>& to) {
    if (T value{}; number(key, value)) to = value;
  }

  // "folder/name.safetensors [6ce0161689]" -> "name"
  void name(const char* key, std::string& to) {
    const std::string* value = text(key);
    if (value == nullptr || *value == "None" || *value == "Automatic") return;
    std::string_view name = std::string_view(*value).substr(0, value->find(" ["));
    name.remove_prefix(name.find_last_of("/\\") + 1);
    for (const std::string_view suffix : {".safetensors", ".ckpt", ".pt"})
      if (name.ends_with(suffix)) name.remove_suffix(suffix.size());
    to = name;
  }

  const std::set<std::string>& left() const { return left_; }

 private:
  const Parameters& parameters_;
  std::set<std::string> left_;
};

void take_size(Settings& from, Job& job) {
  const std::string* size = from.text("Size");
  if (size == nullptr) return;
  const char *begin = size->data(), *end = begin + size->size(), *x = std::find(begin, end, 'x');
  const auto whole = [](const char* first, const char* last, int& number) {
    const auto [rest, wrong] = std::from_chars(first, last, number);
    return wrong == std::errc() && rest == last;
  };
  if (x == end || !whole(begin, x, job.width) || !whole(x + 1, end, job.height))
    throw fail(Code::bad_file, "the picture's settings: \"Size: {}\" is no size", printable(*size));
}

// A second pass writes its strength where a picture made from another one writes its own.
void take_strength(Settings& from, Job& job, const Notice& on_notice) {
  const std::string *scale = from.text("Hires upscale"), *resize = from.text("Hires resize");
  if (scale == nullptr && resize == nullptr) {
    double strength = 0;
    if (from.number("Denoising strength", strength)) job.strength = strength;
    return;
  }
  job.hires = scale != nullptr ? *scale : *resize;
  from.number("Denoising strength", job.hires_strength);
  from.number("Hires steps", job.hires_steps);
  const std::string* upscaler = from.text("Hires upscaler");
  if (upscaler == nullptr || *upscaler == "Latent") return;
  job.hires_upscaler = "lanczos";
  if (*upscaler != "Lanczos")
    on_notice(fmt::format("Hires upscaler {} is not known here; lanczos takes its place", printable(*upscaler)));
}

void take_noise(Settings& from, Job& job, const Notice& on_notice) {
  from.number("Seed", job.seed);
  uint64_t seed = 0;
  if (from.number("Variation seed", seed)) job.variation_seed = seed;
  from.number("Variation seed strength", job.variation_strength);
  const std::string* rng = from.text("RNG");
  job.rng = rng != nullptr && (*rng == "CPU" || *rng == "torch-cpu") ? "torch-cpu" : "philox";
  uint64_t delta = 0;
  if (from.number("ENSD", delta) && delta != 0)
    on_notice(fmt::format("ENSD {} shifts the seed of samplers that draw; it has no equal here", delta));
}

}  // namespace

Job job_from_parameters(const Parameters& parameters, const Notice& on_notice) {
  Settings from(parameters);
  Job job;
  job.prompt = parameters.prompt;
  job.negative = parameters.negative;
  from.number("Steps", job.steps);
  from.number("CFG scale", job.guidance);
  from.number("Clip skip", job.clip_skip);
  from.number("Eta", job.eta);
  if (const std::string* sampler = from.text("Sampler")) job.sampler = *sampler;
  if (const std::string* schedule = from.text("Schedule type"); schedule != nullptr && *schedule != "Automatic")
    job.schedule = *schedule;
  if (const std::string* tiling = from.text("Tiling"); tiling != nullptr && *tiling != "False") job.tile = "xy";
  from.name("Model", job.model);
  from.name("VAE", job.vae);
  from.name("Refiner", job.refiner);
  from.number("Refiner switch at", job.refiner_start);
  take_size(from, job);
  take_strength(from, job, on_notice);
  take_noise(from, job, on_notice);
  if (!from.left().empty())
    on_notice(fmt::format("settings that are not taken over: {}", printable(fmt::format("{}", fmt::join(from.left(), ", ")))));
  return job;
}

}  // namespace cudream
