// Samplers: how a latent goes from noise to picture, given something that estimates the clean one. Pure over Denoise.
#pragma once

#include <functional>

#include "kernels/ops.h"
#include "runtime/schedule.h"

namespace cudream {

// A noisy latent at a level -> the estimate of the clean one. f32, the same shape.
using Denoise = std::function<Tensor(View x, const Level& level)>;

// After every call of the network. `x` is the latent that the next call begins with (the result, after the last one); an
// inpainting hook may write to it in place. `next` is the level x is at.
struct StepInfo {
  size_t index = 0, count = 0;  // calls of the network made before this one, and in all (of those to be made)
  Level level, next;            // where the network was called, and where x is now
  View x, clean;                // both f32, of the latent's shape
};
using OnStep = std::function<void(const StepInfo&)>;

struct SamplerContext {
  Ops& ops;
  Denoise denoise;
  std::function<Tensor()> noise;  // unit normal of the latent's shape; asked only when a sampler adds fresh noise
  OnStep on_step;                 // may be empty; what it throws ends the run
};

// Runs the steps of `schedule` from `begin` on. `x` is at schedule.first(): initial_scale * noise, or a noised image.
// Returns the latent at the end of the schedule.
Tensor sample(const SamplerContext& context, const ScheduleConfig& config, const Schedule& schedule, Tensor x);

}  // namespace cudream
