// A Job: everything a picture depends on. One object of JSON, stored with the picture and read back from it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "core/spec.h"
#include "runtime/schedule.h"

namespace cudream {

struct Job {
  std::string prompt, negative;
  std::string prompt_2;                       // what SDXL's second text encoder reads; empty: the prompt
  std::string model, vae;                     // names, as the catalog finds them; vae empty: the model's own
  std::string sampler = "dpm++2m", schedule;  // schedule empty: the sampler's usual one
  std::string rng = "torch-cpu";
  uint64_t seed = 0;
  int width = 0, height = 0;  // pixels; 0: the model's own size, or the input picture's
  int steps = 20;
  int clip_skip = 1;                          // which text layer is read: 1 the last, 2 the last but one
  double guidance = 7, guidance_rescale = 0;  // classifier-free guidance (Ho and Salimans 2022); off at 1 and below
  double eta = 0;                             // DDIM: share of fresh noise
  // What SDXL is told of the picture it is to imitate, in pixels: how large it was, where it was cut, how large the cut is
  // (sizes 0: this picture's own), and how beautiful people found it, for the refiner.
  int original_width = 0, original_height = 0, crop_left = 0, crop_top = 0, target_width = 0, target_height = 0;
  double aesthetic = 6, negative_aesthetic = 2.5;
  std::string prediction;       // what the network's output is taken for: epsilon, v, sample; empty: the model's
  std::filesystem::path image;  // image to image starts from this
  double strength = 0.75;       // and redraws this share of it, (0, 1]
};

nlohmann::json to_json(const Job&);
// Unknown keys are ignored, absent ones keep their defaults. Throws Error(bad_file) for a value of the wrong type.
Job job_from_json(const nlohmann::json&);

// A run of the golden set: the Job, and the schedule its scheduler_config means. Throws Error(bad_file | unsupported).
struct GoldenRun {
  Job job;
  ScheduleConfig schedule;
  int batch = 1;
};
GoldenRun golden_run(const std::filesystem::path& json_file);

// Fills what the job leaves open from the model, and refuses what cannot be made. Throws Error(usage) naming the option.
void complete(Job&, const ModelSpec&);

// The numbers that SDXL reads beside the pooled text ("SDXL", Podell et al. 2023, section 2.2): original height and width,
// crop top and left, then target height and width (count 6), or an aesthetic score (count 5). Completed jobs only.
std::vector<float> size_numbers(const Job&, int64_t count, bool negative);

// What the job's sampler and schedule mean for this model.
ScheduleConfig schedule_config(const Job&, const ModelSpec&);

}  // namespace cudream
