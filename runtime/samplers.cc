// Choosing a sampler, and what all of them share; see samplers.h and sampler_run.h.
#include "runtime/samplers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "runtime/sampler_run.h"

namespace cudream {
namespace {

// The value below which a share `ratio` of the magnitudes lies, interpolated between neighbours.
float quantile_of_magnitudes(std::span<const float> values, double ratio) {
  std::vector<float> sorted(values.begin(), values.end());
  for (float& value : sorted) value = std::isnan(value) ? INFINITY : std::abs(value);  // a NaN has no place in an order
  std::sort(sorted.begin(), sorted.end());
  const double at = ratio * static_cast<double>(sorted.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, sorted.size() - 1);
  return std::lerp(sorted[low], sorted[high], static_cast<float>(at - static_cast<double>(low)));
}

void clamp_all(std::span<float> values, float limit, float divisor) {
  for (float& value : values) value = std::clamp(value, -limit, limit) / divisor;
}

}  // namespace

SamplerRun::SamplerRun(const SamplerContext& context, const ScheduleConfig& config, const Schedule& schedule)
    : context_(context), config_(config), schedule_(schedule) {
  for (size_t i = schedule.begin; i < schedule.steps.size(); i++)
    count_ += static_cast<size_t>(calls_of_step(config, schedule, i));
}

Tensor SamplerRun::within_limits(Tensor clean) const {
  if (!config_.clip && !config_.threshold_max) return clean;
  std::vector<float> values = context_.ops.download(clean);
  if (config_.clip) clamp_all(values, static_cast<float>(*config_.clip), 1);
  if (config_.threshold_max) {  // each picture by itself
    const size_t picture = values.size() / static_cast<size_t>(clean.shape()[0]);
    for (size_t from = 0; from < values.size(); from += picture) {
      const auto part = std::span(values).subspan(from, picture);
      const auto most = static_cast<float>(*config_.threshold_max);
      const float limit = std::max(1.0f, std::min(quantile_of_magnitudes(part, config_.threshold_ratio), most));
      clamp_all(part, limit, limit);
    }
  }
  return context_.ops.upload(DType::f32, clean.shape(), std::span<const float>(values));
}

Tensor SamplerRun::mix(std::span<const Share> shares, double fresh) const {
  std::vector<Term> terms;
  for (const Share& share : shares) {
    if (share.scale != 0) terms.push_back({static_cast<float>(share.scale), share.x});
  }
  Tensor noise;
  if (fresh > 0) {
    noise = context_.noise();
    terms.push_back({static_cast<float>(fresh), noise});
  }
  return context_.ops.combine(terms);
}

Tensor SamplerRun::noise_in(View x, View clean, const Level& level) const {
  return mix({{1 / level.sigma, x}, {-level.alpha / level.sigma, clean}});
}

void SamplerRun::tell(const Level& level, const Level& next, View x, View clean) {
  if (context_.on_step) context_.on_step({calls_, count_, level, next, x, clean});
  calls_++;
}

Tensor sample(const SamplerContext& context, const ScheduleConfig& config, const Schedule& schedule, Tensor x) {
  SamplerRun run(context, config, schedule);
  switch (config.sampler) {
    case Sampler::ddim: return sample_ddim(run, std::move(x));
    case Sampler::ddpm: return sample_ddpm(run, std::move(x));
    case Sampler::pndm: return sample_pndm(run, std::move(x));
    case Sampler::lcm: return sample_lcm(run, std::move(x));
    case Sampler::tcd: return sample_tcd(run, std::move(x));
    case Sampler::dpm_multistep:
    case Sampler::deis: return sample_multistep(run, std::move(x));
    case Sampler::dpm_singlestep: return sample_singlestep(run, std::move(x));
    case Sampler::unipc: return sample_unipc(run, std::move(x));
    case Sampler::euler: return sample_euler(run, std::move(x));
    case Sampler::heun: return sample_heun(run, std::move(x));
    case Sampler::lms: return sample_lms(run, std::move(x));
    case Sampler::dpm2: return sample_dpm2(run, std::move(x));
    case Sampler::dpmpp_2s:
    case Sampler::dpmpp_sde: return sample_dpmpp_2s(run, std::move(x));
  }
  throw fail(Code::internal, "a sampler without a body");
}

}  // namespace cudream
