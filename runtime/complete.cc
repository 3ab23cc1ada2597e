// What a job leaves open is filled in, and what cannot be made is refused, before anything is loaded onto a device.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "core/log.h"
#include "runtime/controls.h"
#include "runtime/job.h"
#include "runtime/outpaint.h"
#include "runtime/picture/image.h"
#include "runtime/scheduler_names.h"
#include "runtime/unicode.h"

namespace cudream {
namespace {

constexpr int kMaxSteps = 1000, kMaxSide = 16384, kMaxBlur = 512;
constexpr size_t kMaxPrompt = size_t{1} << 20;

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

template <typename T>
void check_range(const char* option, T value, T low, T high) {
  if (!(value >= low && value <= high)) throw fail(Code::usage, "{} {}: must lie between {} and {}", option, value, low, high);
}

void check_prompt(const char* what, const std::string& text) {
  if (text.size() > kMaxPrompt) throw fail(Code::usage, "{} has {} bytes; at most {} are read", what, text.size(), kMaxPrompt);
  if (!is_utf8(text))
    throw fail(Code::usage, "{} is not UTF-8: \"{}\"; convert it first (for example with iconv)", what,
               printable(std::string_view(text).substr(0, 80)));
}

void check_numbers(const Job& job, const ModelSpec& spec) {
  if (job.steps < 1 || job.steps > kMaxSteps) throw fail(Code::usage, "--steps {}: from 1 to {}", job.steps, kMaxSteps);
  check_range("--guidance", job.guidance, 0.0, 100.0);
  check_range("--guidance-rescale", job.guidance_rescale, 0.0, 1.0);
  if (job.eta) check_range("--eta", *job.eta, 0.0, 1.0);
  if (job.strength && !(*job.strength > 0 && *job.strength <= 1))
    throw fail(Code::usage, "--strength {}: above 0 and at most 1", *job.strength);
  check_range("--image-guidance", job.image_guidance, 1.0, 100.0);
  check_range("--mask-blur", job.mask_blur, 0, kMaxBlur);
  check_range("--mask-padding", job.mask_padding, 0, kMaxSide);
  if (!(job.hires_strength > 0 && job.hires_strength <= 1))
    throw fail(Code::usage, "--hires-strength {}: above 0 and at most 1", job.hires_strength);
  check_range("--hires-steps", job.hires_steps, 0, kMaxSteps);
  check_range("--variation-strength", job.variation_strength, 0.0, 1.0);
  if (!(job.refiner_start > 0 && job.refiner_start < 1))
    throw fail(Code::usage, "--refiner-start {}: above 0 and below 1", job.refiner_start);
  for (const TextEncoderSpec& encoder : spec.text_encoders)
    if (const int layers = encoder.layers - encoder.skip; job.clip_skip < 1 || job.clip_skip > layers)
      throw fail(Code::usage, "--clip-skip {}: this text encoder has layers 1 (the last one used) to {}", job.clip_skip, layers);
}

void check_names(const Job& job) {
  if (job.mask_fill != "original" && job.mask_fill != "fill" && job.mask_fill != "noise")
    throw fail(Code::usage, "--mask-fill {}: original, fill (the colors around it) or noise", printable(job.mask_fill));
  if (job.hires_upscaler != "latent" && job.hires_upscaler != "lanczos")
    throw fail(Code::usage, "--hires-upscaler {}: latent or lanczos", printable(job.hires_upscaler));
  if (!job.prediction.empty() && job.prediction != "epsilon" && job.prediction != "v" && job.prediction != "sample")
    throw fail(Code::usage, "--prediction {}: must be epsilon, v or sample", printable(job.prediction));
  if (!job.tile.empty() && job.tile != "x" && job.tile != "y" && job.tile != "xy")
    throw fail(Code::usage, "--tile {}: x, y or xy", printable(job.tile));
}

// Options that need one another.
void check_together(const Job& job) {
  if (job.edit && job.image.empty()) throw fail(Code::usage, "--edit changes a picture: give it with --image");
  if (job.edit && !job.mask.empty()) throw fail(Code::usage, "--edit changes the whole picture: it takes no --mask");
  if (!job.mask.empty() && job.image.empty()) throw fail(Code::usage, "--mask is of a picture: give that one with --image");
  if (job.mask.empty() && job.only_masked) throw fail(Code::usage, "--only-masked needs a --mask");
  if (job.mask.empty() && job.invert_mask) throw fail(Code::usage, "--invert-mask needs a --mask");
  if (!job.grow.empty() && job.image.empty()) throw fail(Code::usage, "--grow enlarges a picture: give it with --image");
  if (!job.grow.empty() && (!job.mask.empty() || job.edit))
    throw fail(Code::usage, "--grow paints around the picture: it goes with neither --mask nor --edit");
  if (!job.hires.empty() && !job.image.empty())
    throw fail(Code::usage, "--hires is a second pass over a picture made from words: it does not go with --image");
  if (const size_t controls = parse_controls(job.controls).size(); controls != job.control_images.size())
    throw fail(Code::usage, "{} --control with {} --control-image: each ControlNet sees a picture of its own, in the same order",
               controls, job.control_images.size());
  if (!job.refiner.empty() && (job.edit || !job.mask.empty() || !job.grow.empty()))
    throw fail(Code::usage, "--refiner finishes a whole picture: it goes with none of --edit, --mask and --grow");
  if (job.variation_seed && job.variation_strength == 0)
    throw fail(Code::usage, "--variation-seed needs --variation-strength, above 0 to 1");
  if (!job.tile.empty() && (!job.mask.empty() || !job.grow.empty()))
    throw fail(Code::usage, "--tile is of a whole picture: it goes with neither --mask nor --grow");
}

// The side `option` of a picture whose other side is `side`, in the proportion of : to.
int in_proportion(const char* option, int side, int of, int to, int factor, const Notice& on_notice) {
  const double exact = static_cast<double>(side) * of / to;
  const int rounded = nearest_multiple(static_cast<int>(std::lround(exact)), factor);
  if (rounded != exact)
    on_notice(fmt::format("the proportions of the picture ask for {} {:g}; made is {}, a multiple of {}", option, exact, rounded,
                          factor));
  return rounded;
}

// Pictures from words have a size the model can make. One from a picture may have any: it is padded (runtime/tasks.cc).
void choose_size(Job& job, const ModelSpec& spec, const Notice& on_notice) {
  const int factor = spec.vae->factor(), native = static_cast<int>(spec.native_size);
  const int unit = job.image.empty() ? factor : 1;
  if (job.width != 0) check_size("--width", job.width, unit);
  if (job.height != 0) check_size("--height", job.height, unit);
  if (job.image.empty() || job.only_masked) {
    if (job.width == 0) job.width = native;
    if (job.height == 0) job.height = native;
    return;
  }
  if (job.width != 0 && job.height != 0) return;
  const Image picture = read_image(job.image);
  if (picture.width > kMaxSide || picture.height > kMaxSide)
    throw fail(Code::usage, "{} is {} x {} pixels; sides go to {}: pass --width and --height", job.image.string(), picture.width,
               picture.height, kMaxSide);
  if (job.width != 0) {
    job.height = in_proportion("--height", job.width, picture.height, picture.width, factor, on_notice);
  } else if (job.height != 0) {
    job.width = in_proportion("--width", job.height, picture.width, picture.height, factor, on_notice);
  } else {
    job.width = picture.width;
    job.height = picture.height;
  }
}

// Of --hires SCALE; 0: it is a size.
double hires_scale(const Job& job) {
  double scale = 0;
  const char* end = job.hires.data() + job.hires.size();
  const auto [rest, wrong] = std::from_chars(job.hires.data(), end, scale);
  return wrong == std::errc() && rest == end ? scale : 0;
}

void check_second_pass(const Job& job, int factor, const Notice& on_notice) {
  const Size size = hires_size(job, factor);
  if (const double scale = hires_scale(job); scale > 0 && (size.width != scale * job.width || size.height != scale * job.height))
    on_notice(fmt::format("--hires {} asks for {:g} x {:g}; made is {} x {}, multiples of {}", job.hires, scale * job.width,
                          scale * job.height, size.width, size.height, factor));
  const int steps = job.hires_steps > 0 ? job.hires_steps : job.steps;
  if (steps * job.hires_strength < 1)
    throw fail(Code::usage, "--hires-strength {} of {} steps leaves none: pass more --hires-steps", job.hires_strength, steps);
}

// A network that wraps around has to halve its picture evenly down to its coarsest level.
void check_tile(const Job& job, const ModelSpec& spec) {
  const int unit = spec.vae->factor() << (spec.unet->channels.size() - 1);
  const auto check = [&](int side, const char* name) {
    if (side % unit != 0)
      throw fail(Code::usage, "--tile {}: the {} of {} pixels must be a multiple of {}; the nearest is {}", job.tile, name, side,
                 unit, nearest_multiple(side, unit));
  };
  const auto check_both = [&](int width, int height) {
    if (job.tile.find('x') != std::string::npos) check(width, "width");
    if (job.tile.find('y') != std::string::npos) check(height, "height");
  };
  check_both(job.width, job.height);
  if (job.hires.empty()) return;
  const Size larger = hires_size(job, spec.vae->factor());
  check_both(larger.width, larger.height);
}

void check_eta(const Job& job, const Notice& on_notice) {
  ScheduleConfig config;
  set_sampler(config, job.sampler);
  if (job.eta.value_or(0) > 0 && !reads_eta(config.sampler))
    on_notice(fmt::format("--eta {:g} is for ddim and tcd, and changes nothing of {}", *job.eta, sampler_name(config).name));
}

void check_encoder(const Job& job, const ModelSpec& spec) {
  const bool encodes = !job.image.empty() || (!job.hires.empty() && job.hires_upscaler == "lanczos");
  if (encodes && !spec.vae->encoder)
    throw fail(Code::unsupported,
               "{} needs an autoencoder that encodes, and this one (TAESD) only decodes: give one with both halves as --vae, or "
               "leave --vae out",
               job.image.empty() ? "--hires-upscaler lanczos" : "--image");
}

}  // namespace

std::string mismatch(Task task, const ModelSpec& spec) {
  if (spec.task == task || (spec.task == Task::generate && task == Task::inpaint)) return {};
  const std::string reads = fmt::format("its UNet reads {} channels: ", spec.unet->in_channels);
  if (task == Task::instruct)
    return reads +
           "it does not see a picture to edit. Editing by instruction needs a model trained for it, with 8 channels "
           "(\"instruct-pix2pix\"); --image with --strength redraws a picture without one";
  if (spec.task == Task::inpaint)
    return reads +
           "it fills in a masked part of a picture. Pass --image and --mask, or choose a model that makes pictures from words";
  return reads +
         "it edits a picture by instruction. Pass --image and --edit \"TEXT\", or choose a model that makes pictures from words";
}

Size hires_size(const Job& job, int factor) {
  Size size;
  const char *text = job.hires.data(), *end = text + job.hires.size(), *x = std::find(text, end, 'x');
  if (x != end) {
    const auto [a, wrong] = std::from_chars(text, x, size.width);
    const auto [b, bad] = std::from_chars(x + 1, end, size.height);
    if (wrong != std::errc() || bad != std::errc() || a != x || b != end) size = {};
  } else if (const double scale = hires_scale(job); scale > 1) {
    const auto scaled = [&](int side) {
      return nearest_multiple(static_cast<int>(std::lround(std::min(scale * side, 1e6))), factor);
    };
    size = {scaled(job.width), scaled(job.height)};
  }
  if (size.width == 0)
    throw fail(Code::usage, "--hires {}: a scale above 1, such as 1.5, or a size, such as 1024x768", printable(job.hires));
  check_size("--hires (width)", size.width, factor);
  check_size("--hires (height)", size.height, factor);
  return size;
}

void complete(Job& job, const ModelSpec& spec, const Notice& on_notice) {
  check_prompt("the prompt", job.prompt);
  check_prompt("the second prompt", job.prompt_2);
  check_prompt("the negative prompt", job.negative);
  check_numbers(job, spec);
  check_names(job);
  check_together(job);
  if (const std::string why = mismatch(task_of(job), spec); !why.empty())
    throw fail(Code::unsupported, "the model cannot do this: {}", why);
  check_encoder(job, spec);
  check_eta(job, on_notice);
  choose_size(job, spec, on_notice);
  if (job.original_width == 0) job.original_width = job.width;
  if (job.original_height == 0) job.original_height = job.height;
  if (job.target_width == 0) job.target_width = job.width;
  if (job.target_height == 0) job.target_height = job.height;
  if (!job.hires.empty()) check_second_pass(job, spec.vae->factor(), on_notice);
  if (!job.tile.empty()) check_tile(job, spec);
  if (!job.grow.empty()) read_growth(job.grow, job.width, job.height);
  if (!job.image.empty() && !job.edit && !job.strength) job.strength = task_of(job) == Task::inpaint ? 1.0 : 0.75;
}

}  // namespace cudream
