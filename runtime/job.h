// A Job: everything a picture depends on. One object of JSON, stored with the picture and read back from it.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/spec.h"
#include "runtime/schedule.h"

namespace cudream {

struct Job {
  std::string prompt, negative;                    // when editing, the prompt is the instruction
  std::string prompt_2;                            // what SDXL's second text encoder reads; empty: the prompt
  std::string prompt_template, negative_template;  // what these were drawn from, where they had wildcards
  std::string loras;                               // NAME:STRENGTH, separated by commas, beside the tags in the prompt
  std::string embeddings;                          // names of textual inversions, separated by commas
  std::string model, vae;                          // names, as the catalog finds them; vae empty: the model's own
  std::string sampler = "dpm++2m", schedule;       // schedule empty: the sampler's usual one
  std::string rng = "torch-cpu";
  uint64_t seed = 0;
  int width = 0, height = 0;  // pixels; 0: the input picture's size, or the model's own
  int steps = 20;
  int clip_skip = 1;                          // which text layer is read: 1 the last, 2 the last but one
  double guidance = 7, guidance_rescale = 0;  // classifier-free guidance (Ho and Salimans 2022); off at 1 and below
  std::optional<double> eta;                  // share of fresh noise in a step: DDIM's, 0 unless said, and TCD's gamma, 0.3
  // What SDXL is told of the picture it is to imitate, in pixels: how large it was, where it was cut, how large the cut is
  // (sizes 0: this picture's own), and how beautiful people found it, for the refiner.
  int original_width = 0, original_height = 0, crop_left = 0, crop_top = 0, target_width = 0, target_height = 0;
  double aesthetic = 6, negative_aesthetic = 2.5;
  std::string prediction;  // what the network's output is taken for: epsilon, v, sample; empty: the model's

  // From a picture.
  std::filesystem::path image;     // what it starts from
  std::optional<double> strength;  // how much of it is redrawn, (0, 1]; nothing: 1 where a mask says what, else 0.75
  bool edit = false;               // the prompt is an instruction ("InstructPix2Pix", Brooks et al. 2023)
  double image_guidance = 1.5;     // of an edit: how much of the picture is kept

  // ControlNets, and the picture that each sees (runtime/controls.h).
  std::string controls;  // NAME:STRENGTH:START:END, separated by commas
  std::vector<std::filesystem::path> control_images;

  // A part of a picture (runtime/canvas.h).
  std::filesystem::path mask;          // a picture, white where it is made anew; kAlphaMask: where `image` is transparent
  bool invert_mask = false;            // black is made anew instead
  int mask_blur = 4;                   // pixels over which the new part meets the old one
  std::string mask_fill = "original";  // what the part starts from: original, fill (colors around it), noise
  bool only_masked = false;            // work on the masked region at full size
  int mask_padding = 32;               // pixels around it that are seen, then
  std::string grow;                    // outpainting: what is added on each side (runtime/outpaint.h)

  // A second pass over a picture made from words, at a larger size.
  std::string hires;                      // "1.5" times the size, or "1024x768"; empty: no second pass
  std::string hires_upscaler = "latent";  // enlarges the latent, bilinear; or "lanczos": the pixels
  double hires_strength = 0.7;
  int hires_steps = 0;  // 0: as many as the first pass

  // A picture near another: the first noise of the seed is turned towards that of another seed.
  std::optional<uint64_t> variation_seed;  // nothing: seed + 1
  double variation_strength = 0;           // 0 to 1

  // Another model for the last steps ("SDXL", section 2.5), and the share of denoising after which it takes over.
  std::string refiner;  // a name, as the catalog finds it
  double refiner_start = 0.8;

  std::string tile;  // x, y or xy: opposite edges meet without a seam
};

// The job of picture i of a run: the next seed, or the next variation of the same seed.
Job nth_picture(Job, uint64_t i);
std::vector<Job> first_pictures(const Job&, int count);  // of pictures 0 to count - 1

struct Size {
  int width = 0, height = 0;
};
Size hires_size(const Job&, int factor);  // Throws Error(usage)

constexpr const char* kAlphaMask = "alpha";

nlohmann::json to_json(const Job&);  // of files the names alone, for people
std::string exact_text(const Job&);  // equal for equal jobs alone: JSON, with the whole paths of files
// Never sets a path. Unknown keys are ignored, absent ones keep their defaults. Throws Error(bad_file) for a value of the wrong
// type.
Job job_from_json(const nlohmann::json&);

// What kind of model the job asks for. A model that makes pictures from words also fills in masks.
Task task_of(const Job&);
// Why a model is not for this task, a sentence; empty: it is.
std::string mismatch(Task, const ModelSpec&);

// A run of the golden set: the Job, and the schedule its scheduler_config means. Throws Error(bad_file | unsupported).
struct GoldenRun {
  Job job;
  ScheduleConfig schedule;
  int batch = 1;
};
GoldenRun golden_run(const std::filesystem::path& json_file);

// Fills what the job leaves open from the model and the input picture, and refuses what cannot be made. Throws Error(usage)
// naming the option, Error(unsupported) when the model is not made for it, and what reading the picture throws.
// Sizes that were not asked for to the pixel and are rounded to what the model makes are notices.
void complete(Job&, const ModelSpec&, const Notice& on_notice = unheard);

// The numbers that SDXL reads beside the pooled text ("SDXL", Podell et al. 2023, section 2.2): original height and width,
// crop top and left, then target height and width (count 6), or an aesthetic score (count 5). Completed jobs only.
std::vector<float> size_numbers(const Job&, int64_t count, bool negative);

// What the job's sampler and schedule mean for this model.
ScheduleConfig schedule_config(const Job&, const ModelSpec&);

}  // namespace cudream
