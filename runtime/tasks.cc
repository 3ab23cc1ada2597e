// Passes of each kind of job.
#include "runtime/tasks.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <tuple>

#include "core/error.h"
#include "runtime/canvas.h"
#include "runtime/outpaint.h"
#include "runtime/picture/convert.h"

namespace cudream {
namespace {

constexpr uint64_t kOtherSeed = 7919;  // a step between seeds that people do not take

// What one pass makes; or, where memory is planned, something of its size.
using RunPass = std::function<Engine::Made(Engine&, std::span<const Job>, const Pass&)>;

// What is the same for all passes of jobs that are made together.
struct Walk {
  const Engines& engines;
  RunPass run_with;
  Notice on_notice;

  const ModelSpec& spec() const { return engines.base.spec(); }
  Engine::Made run_base(std::span<const Job> jobs, const Pass& pass) const { return run_with(engines.base, jobs, pass); }
  // One pass, which two models share where the job has a refiner. That one does not begin with noise, so only a sampler draws:
  // from another seed, or it would repeat what came before.
  Engine::Made run(std::vector<Job> jobs, Pass pass) const {
    if (jobs.front().refiner.empty()) return run_base(jobs, pass);
    pass.part = Pass::Part::before;
    pass.decode = false;
    const Pass rest{.latents = run_base(jobs, pass).latents, .part = Pass::Part::after};
    for (Job& job : jobs) job.seed += kOtherSeed;
    return run_with(*engines.refiner, jobs, rest);
  }
};

// What a pass works on: one picture for the whole batch, or one for each of it.
struct Canvas {
  std::vector<Image> pictures;
  std::optional<Mask> mask;
  std::vector<Image> controls;  // what each ControlNet sees
};

int round_up(int value, int factor) {
  return (value + factor - 1) / factor * factor;
}

Mask read_mask(const Job& job, const Image& picture) {
  const bool alpha = job.mask == kAlphaMask;
  if (alpha && picture.channels != 4)
    throw fail(Code::usage, "--mask {}: {} has no transparent part; give a mask picture", kAlphaMask, job.image.string());
  Mask mask = alpha ? mask_of_alpha(picture) : mask_of_brightness(read_image(job.mask));
  const std::string name = alpha ? job.image.string() : job.mask.string();
  if (mask.width != picture.width || mask.height != picture.height)
    throw fail(Code::usage, "--mask {} is {} x {} pixels, but {} is {} x {}: they must be of one size", name, mask.width,
               mask.height, job.image.string(), picture.width, picture.height);
  if (job.invert_mask) mask = inverted(std::move(mask));
  if (bounds(mask).width == 0)
    throw fail(Code::usage, "--mask {}: nothing is to be made anew; white parts are{}", name,
               job.invert_mask ? ", after --invert-mask" : " (--invert-mask turns it round)");
  return mask;
}

// What each ControlNet sees of a picture of this size.
std::vector<Image> read_controls(const Job& job, int width, int height, const Notice& on_notice) {
  std::vector<Image> all;
  for (const std::filesystem::path& file : job.control_images) {
    const Image picture = over_white(read_image(file));
    if (picture.width != width || picture.height != height)
      on_notice(fmt::format("--control-image {} is {} x {} pixels; it is resized to {} x {}", file.string(), picture.width,
                            picture.height, width, height));
    all.push_back(resize(picture, width, height));
  }
  return all;
}

std::vector<std::vector<float>> shown(const std::vector<Image>& controls) {
  std::vector<std::vector<float>> values;
  values.reserve(controls.size());
  for (const Image& picture : controls) values.push_back(to_floats(picture, Layout::hwc, Range::zero_one));
  return values;
}

Canvas read_canvas(const Job& job) {
  const Image picture = read_image(job.image);
  Canvas canvas{.pictures = {over_white(picture)}, .mask = {}, .controls = {}};
  if (!job.mask.empty()) canvas.mask = read_mask(job, picture);
  return canvas;
}

// Latents [N,h,w,C] at another size, between the centers of their neighbors, as PyTorch's interpolate does it.
std::vector<float> bilinear(std::span<const float> latents, const Shape& from, int height, int width) {
  struct Place {
    int64_t first, second;
    float share;  // of the second
  };
  const auto place = [](int i, int to, int64_t of) {
    const double at = std::clamp((i + 0.5) * static_cast<double>(of) / to - 0.5, 0.0, static_cast<double>(of - 1));
    const auto first = static_cast<int64_t>(at);
    return Place{first, std::min(first + 1, of - 1), static_cast<float>(at - static_cast<double>(first))};
  };
  std::vector<float> out;
  for (int64_t n = 0; n < from[0]; n++)
    for (int y = 0; y < height; y++)
      for (int x = 0; x < width; x++) {
        const Place down = place(y, height, from[1]);
        const Place right = place(x, width, from[2]);
        for (int64_t c = 0; c < from[3]; c++) {
          const auto row = [&](int64_t sy) {
            const auto value = [&](int64_t sx) {
              return latents[static_cast<size_t>(((n * from[1] + sy) * from[2] + sx) * from[3] + c)];
            };
            return std::lerp(value(right.first), value(right.second), right.share);
          };
          out.push_back(std::lerp(row(down.first), row(down.second), down.share));
        }
      }
  return out;
}

Canvas resized(Canvas canvas, int width, int height) {
  for (auto* pictures : {&canvas.pictures, &canvas.controls})
    for (Image& picture : *pictures) picture = resize(picture, width, height);
  if (canvas.mask) canvas.mask = resize(*canvas.mask, width, height);
  return canvas;
}

// One pass over a canvas; the results have its size, and what was kept is as it was.
std::vector<Image> paint(const Walk& walk, std::vector<Job> jobs, const Canvas& canvas) {
  const int factor = walk.spec().vae->factor(), width = canvas.pictures[0].width, height = canvas.pictures[0].height;
  for (Job& job : jobs) {
    job.width = round_up(width, factor);
    job.height = round_up(height, factor);
  }
  const Job& job = jobs.front();
  Pass pass;
  for (const Image& picture : canvas.pictures) {
    const Image start = canvas.mask && job.mask_fill == "fill" ? filled(picture, *canvas.mask) : picture;
    const auto values = to_floats(padded(start, job.width, job.height), Layout::hwc, Range::minus_one_one);
    pass.pictures.insert(pass.pictures.end(), values.begin(), values.end());
  }
  for (const Image& picture : canvas.controls)
    pass.controls.push_back(to_floats(padded(picture, job.width, job.height), Layout::hwc, Range::zero_one));
  if (canvas.mask)
    for (const uint8_t v : padded(*canvas.mask, job.width, job.height).values) pass.mask.push_back(static_cast<float>(v) / 255);

  std::vector<Image> made = walk.run(jobs, pass).images;
  for (size_t i = 0; i < made.size(); i++) {
    made[i] = crop(made[i], {0, 0, width, height});
    if (canvas.mask) made[i] = composite(canvas.pictures[i % canvas.pictures.size()], made[i], *canvas.mask, job.mask_blur);
  }
  return made;
}

// The region around the mask, at the job's size, then put back where it was.
std::vector<Image> paint_region(const Walk& walk, const std::vector<Job>& jobs, const Canvas& whole) {
  const Job& job = jobs.front();
  const Image& picture = whole.pictures[0];
  const Rect region = widened(bounds(*whole.mask), job.mask_padding, job.width, job.height, picture.width, picture.height);
  const Image before = crop(picture, region);
  const Mask mask = crop(*whole.mask, region);
  Canvas part{.pictures = {before}, .mask = mask, .controls = {}};
  for (const Image& control : whole.controls) part.controls.push_back(crop(control, region));
  part = resized(std::move(part), job.width, job.height);
  std::vector<Image> pictures;
  for (const Image& made : paint(walk, jobs, part)) {
    pictures.push_back(picture);
    const Image back = resize(made, region.width, region.height);
    paste(pictures.back(), composite(before, back, mask, job.mask_blur), region.left, region.top);
  }
  return pictures;
}

// The picture in the middle of a larger canvas, which is painted frame by frame, each with a seed of its own. Its outermost
// pixels where it grows are painted again.
std::vector<Image> paint_around(const Walk& walk, std::vector<Job> jobs, const Image& picture) {
  const OutpaintPlan plan =
      plan_outpaint(picture.width, picture.height, read_growth(jobs.front().grow, picture.width, picture.height),
                    static_cast<int>(walk.spec().native_size));
  Image canvas{plan.width, plan.height, 3, {}};
  canvas.pixels.resize(static_cast<size_t>(plan.width) * static_cast<size_t>(plan.height) * 3);
  paste(canvas, picture, plan.kept.left, plan.kept.top);
  Mask unknown{plan.width, plan.height, {}};
  unknown.values.resize(canvas.pixels.size() / 3, 255);
  cover(unknown, plan.kept);

  const std::vector<Image> controls = read_controls(jobs.front(), plan.width, plan.height, walk.on_notice);
  std::vector<Image> canvases(jobs.size(), canvas);
  const int overlap = static_cast<int>(walk.spec().native_size) / 64;  // the edges of made pictures are a little wrong
  const int blur = static_cast<int>(walk.spec().native_size) / 8;      // a long edge is seen from afar
  for (Job& job : jobs) {
    job.mask_fill = "fill";
    job.mask_blur = std::max(job.mask_blur, blur);
  }
  for (const Rect& frame : plan.frames) {
    Canvas part{.pictures = {}, .mask = crop(spread(unknown, overlap), frame), .controls = {}};
    for (const Image& control : controls) part.controls.push_back(crop(control, frame));
    for (const Image& whole : canvases) part.pictures.push_back(crop(whole, frame));
    const std::vector<Image> made = paint(walk, jobs, part);
    for (size_t i = 0; i < canvases.size(); i++) paste(canvases[i], made[i], frame.left, frame.top);
    cover(unknown, frame);
    for (Job& job : jobs) job.seed += kOtherSeed;
  }
  return canvases;
}

// A picture from words, enlarged, and partly redrawn at the larger size. A refiner has a part in the second pass.
std::vector<Image> paint_twice(const Walk& walk, std::vector<Job> jobs) {
  const Job& job = jobs.front();
  const int factor = walk.spec().vae->factor();
  const Size size = hires_size(job, factor);
  Pass first{.controls = shown(read_controls(job, job.width, job.height, walk.on_notice))}, second;
  second.controls = shown(read_controls(job, size.width, size.height, unheard));
  if (job.hires_upscaler == "latent") {
    first.decode = false;
    const std::vector<float> latents = walk.run_base(jobs, first).latents;
    const int64_t channels = walk.spec().vae->latent_channels;
    second.latents = bilinear(latents, {static_cast<int64_t>(jobs.size()), job.height / factor, job.width / factor, channels},
                              size.height / factor, size.width / factor);
  } else {
    for (const Image& small : walk.run_base(jobs, first).images) {
      const auto values = to_floats(resize(small, size.width, size.height), Layout::hwc, Range::minus_one_one);
      second.pictures.insert(second.pictures.end(), values.begin(), values.end());
    }
  }
  for (Job& larger : jobs) {
    larger.width = size.width;
    larger.height = size.height;
    larger.strength = larger.hires_strength;
    if (larger.hires_steps > 0) larger.steps = larger.hires_steps;
  }
  return walk.run(jobs, second).images;
}

std::vector<Image> paint_jobs(const Walk& walk, const std::vector<Job>& jobs) {
  const Job& job = jobs.front();
  if (!job.hires.empty()) return paint_twice(walk, jobs);
  if (job.image.empty())
    return walk.run(jobs, {.controls = shown(read_controls(job, job.width, job.height, walk.on_notice))}).images;
  Canvas canvas = read_canvas(job);
  if (!job.grow.empty()) return paint_around(walk, jobs, resize(canvas.pictures[0], job.width, job.height));
  if (!job.only_masked) canvas = resized(std::move(canvas), job.width, job.height);
  canvas.controls = read_controls(job, canvas.pictures[0].width, canvas.pictures[0].height, walk.on_notice);
  return job.only_masked ? paint_region(walk, jobs, canvas) : paint(walk, jobs, canvas);
}

// Black, of the size that a pass makes.
Engine::Made nothing_made(const ModelSpec& spec, std::span<const Job> jobs, const Pass& pass) {
  const Job& job = jobs.front();
  const auto size = [&](int64_t factor, int64_t channels) {
    return static_cast<size_t>(job.height / factor * (job.width / factor) * channels);
  };
  Engine::Made made{.images = {}, .latents = {}};
  made.latents.resize(jobs.size() * size(spec.vae->factor(), spec.vae->latent_channels));
  if (pass.decode) made.images.assign(jobs.size(), {job.width, job.height, 3, std::vector<uint8_t>(size(1, 3))});
  return made;
}

// The memory of either, one after the other.
void join(Ops::Plan& all, Ops::Plan one) {
  if (one.session.bytes > all.session.bytes) all.session = std::move(one.session);
  all.stage_bytes = std::max(all.stage_bytes, one.stage_bytes);
  all.stages.merge(one.stages);
}

}  // namespace

std::vector<Image> make_pictures(const Engines& engines, const std::vector<Job>& jobs, const RunHooks& hooks,
                                 const RunChecks& checks) {
  const auto run = [&](Engine& engine, std::span<const Job> pass_jobs, const Pass& pass) {
    return engine.run(pass_jobs, pass, hooks, checks);
  };
  return paint_jobs({engines, run, hooks.on_notice}, jobs);
}

int64_t JobMemory::most_bytes() const {
  const int64_t weights = base.weight_bytes() + (refiner ? refiner->weight_bytes() : 0);
  return std::max(weights + base.packing, device_bytes());
}

JobMemory plan_pictures(const Engines& engines, const std::vector<Job>& jobs, const RunHooks& hooks) {
  std::optional<MemoryPlan> base, refiner;
  const auto run = [&](Engine& planned, std::span<const Job> pass_jobs, const Pass& pass) {
    std::optional<MemoryPlan>& plan = &planned == engines.refiner ? refiner : base;
    MemoryPlan one = planned.memory(pass_jobs, pass, hooks);
    if (plan)
      join(plan->job, std::move(one.job));
    else
      plan = std::move(one);
    return nothing_made(planned.spec(), pass_jobs, pass);
  };
  paint_jobs({engines, run, unheard}, jobs);
  return {std::move(*base), std::move(refiner)};
}

int64_t missing_bytes(const Engines& engines, const std::vector<Job>& jobs) {
  const JobMemory plan = plan_pictures(engines, jobs);
  const int64_t refining = plan.refiner ? engines.refiner->ops().missing_bytes(plan.refiner->job) : 0;
  return engines.base.ops().missing_bytes(plan.base.job) + refining;
}

}  // namespace cudream
