// Schedules and samplers against the golden runs of diffusers and k-diffusion: each case of tests/runtime/data/schedulers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "kernels/reference/reference_device.h"
#include "runtime/diffusers_config.h"
#include "runtime/samplers.h"
#include "runtime/scheduler_names.h"
#include "tests/runtime/golden.h"

namespace cudream {
namespace {

constexpr double kSchedule = 1e-6, kLatents = 1e-5;

std::vector<float> narrowed(const std::vector<double>& values) {
  return {values.begin(), values.end()};
}

// What the golden cases share: a latent, the outputs of a fake network, and noise; read once.
struct Common {
  SafetensorsFile file{data_path("schedulers/common.safetensors")};
  Shape shape{1, 4, 3, 5};
  std::vector<float> sample = file.floats(file.at("sample")), outputs = file.floats(file.at("model_outputs")),
                     noise = file.floats(file.at("noise")), target = file.floats(file.at("target"));
  std::span<const float> row(const std::vector<float>& all, size_t k) const {
    return std::span(all).subspan(k * sample.size(), sample.size());
  }
};

const Common& common() {
  static const Common data;
  return data;
}

using FakeNetwork = std::function<Tensor(Ops&, View x, const Level&, size_t call)>;

struct Recorded {
  std::vector<float> latents, scaled_first;  // after every call, one after the other
  size_t draws = 0;
  std::vector<double> timesteps;  // the network was told
};

size_t calls_of(const ScheduleConfig& config, const Schedule& schedule) {
  size_t calls = 0;
  for (size_t i = schedule.begin; i < schedule.steps.size(); i++)
    calls += static_cast<size_t>(calls_of_step(config, schedule, i));
  return calls;
}

// Runs a sampler on the reference device from `sample` times `scale`.
Recorded record(const ScheduleConfig& config, const Schedule& schedule, double scale, const FakeNetwork& network) {
  const auto device = open_reference();
  Ops ops(*device);
  const auto job = [&] {
    Recorded out;
    size_t calls = 0;
    const auto upload = [&](std::span<const float> values) { return ops.upload(DType::f32, common().shape, values); };
    const SamplerContext context{
        .ops = ops,
        .denoise =
            [&](View x, const Level& level) {
              if (calls == 0) out.scaled_first = ops.download(ops.combine({{static_cast<float>(level.input_scale()), x}}).view());
              out.timesteps.push_back(level.t);
              return network(ops, x, level, calls++);
            },
        .noise = [&] { return upload(common().row(common().noise, out.draws++)); },
        .on_step =
            [&](const StepInfo& step) {
              EXPECT_EQ(step.index + 1, calls);
              EXPECT_EQ(step.count, calls_of(config, schedule));
              const auto now = ops.download(step.x);
              out.latents.insert(out.latents.end(), now.begin(), now.end());
            },
    };
    Tensor start = upload(common().sample);
    Tensor x = ops.combine({{static_cast<float>(scale), start}});
    const Tensor end = sample(context, config, schedule, std::move(x));
    const auto last = ops.download(end);
    EXPECT_TRUE(std::equal(last.begin(), last.end(), out.latents.end() - static_cast<ptrdiff_t>(last.size())));
    return out;
  };
  Recorded out;
  const auto plan = ops.rehearse([&] { job(); });
  ops.run(plan, [&] { out = job(); });
  return out;
}

Recorded record_fake(const ScheduleConfig& config, const Schedule& schedule) {
  return record(config, schedule, schedule.initial_scale, [&](Ops& ops, View x, const Level& level, size_t call) {
    const auto [cx, co] = predicted_clean(level, config.noise.prediction);
    const Tensor output = ops.upload(DType::f32, common().shape, common().row(common().outputs, call));
    return ops.combine({{static_cast<float>(cx), x}, {static_cast<float>(co), output}});
  });
}

// One class of diffusers: every case, at every number of steps.
class Diffusers : public testing::TestWithParam<std::string> {};

// The reference's own mistakes, which are not repeated: it divides 0 by 0; a sign of its third-order SDE is wrong (refused
// here); and one step of DEIS with Karras sigmas ends where it began.
bool left_out(const std::string& scheduler, const std::string& at) {
  return (scheduler == "unipc" && at.starts_with("bh1_zero_is_nan/")) ||
         (scheduler == "dpmpp_2m" && at.starts_with("sde_order3_karras/")) || (scheduler == "deis" && at == "karras/1");
}

// The largest distance of any one call's latent.
double worst_call(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size()) return INFINITY;
  const size_t size = common().sample.size();
  double worst = 0;
  for (size_t from = 0; from < got.size(); from += size) {
    const double error = relative_l2(got.subspan(from, size), want.subspan(from, size));
    worst = error <= worst ? worst : error;  // keeps a NaN
  }
  return worst;
}

TEST_P(Diffusers, MatchesEveryGoldenCase) {
  const auto manifest = golden_json("schedulers/manifest.json")[GetParam()];
  const SafetensorsFile file(data_path("schedulers/" + GetParam() + ".safetensors"));
  const auto floats = [&](const std::string& name) { return file.floats(file.at(name)); };
  double worst = 0;
  for (const auto& [name, entry] : manifest["cases"].items()) {
    for (const auto& [steps, run] : entry["runs"].items()) {
      const std::string at = fmt::format("{}/{}", name, steps);
      if (run.contains("reference_error") || left_out(GetParam(), at)) continue;
      ScheduleConfig config = from_diffusers(manifest["reference_class"].get<std::string>(), entry["config"], std::stoi(steps));
      config.eta = entry["step_arguments"].value("eta", config.eta);
      const Schedule schedule = make_schedule(config);
      EXPECT_LT(relative_l2(narrowed(schedule.timesteps), floats(at + "/timesteps")), kSchedule) << at;
      if (file.header().find(at + "/sigmas") != nullptr) {
        // The reference repeats the sigmas of two-call samplers and ends log_linear with a zero that no step reaches.
        std::vector<float> want = floats(at + "/sigmas");
        if (schedule.timesteps.size() > schedule.steps.size()) {
          std::vector<float> once;
          for (size_t i = 0; i < want.size(); i += i == 0 || i + 2 >= want.size() ? 1 : 2) once.push_back(want[i]);
          want = once;
        }
        want.resize(std::min(want.size(), schedule.sigmas.size()));
        EXPECT_LT(relative_l2(narrowed(schedule.sigmas), want), kSchedule) << at;
      }
      EXPECT_NEAR(schedule.initial_scale, run["init_noise_sigma"].get<double>(), 1e-6 * schedule.initial_scale) << at;

      const Recorded got = record_fake(config, schedule);
      EXPECT_EQ(got.timesteps, schedule.timesteps) << at;
      EXPECT_LT(relative_l2(got.scaled_first, floats(at + "/scaled_first")), kLatents) << at;
      // From sigma 4096 the reference takes the difference of two such latents: its own rounding is 4096 * 2^-24.
      const double limit = schedule.initial_scale > 1000 ? 2.5e-4 : kLatents;
      const double error = worst_call(got.latents, floats(at + "/latents"));
      EXPECT_LT(error, limit) << at;
      if (limit == kLatents) worst = std::fmax(worst, error);
    }
  }
  RecordProperty("worst", fmt::format("{:.1e}", worst));
}

INSTANTIATE_TEST_SUITE_P(All, Diffusers,
                         testing::Values("ddim", "ddpm", "pndm", "lms", "euler", "euler_a", "heun", "dpm2", "dpm2_a", "dpmpp_2m",
                                         "dpmpp_2s", "dpmpp_sde", "unipc", "deis", "lcm", "tcd"),
                         [](const auto& param_info) { return param_info.param; });

// The posterior mean for data around `target` with deviation `spread`: (spread^2 x + sigma^2 target) / (spread^2 + sigma^2)
// where alpha is 1.
FakeNetwork exact_network(double spread) {
  return [spread](Ops& ops, View x, const Level& level, size_t) {
    const double sigma = level.sigma / level.alpha, norm = spread * spread + sigma * sigma;
    const Tensor target = ops.upload(DType::f32, common().shape, std::span(common().target));
    return ops.combine(
        {{static_cast<float>(spread * spread / norm / level.alpha), x}, {static_cast<float>(sigma * sigma / norm), target}});
  };
}

// k-diffusion's samplers on an exact denoiser, with the schedules of the web UIs.
TEST(KDiffusion, MatchesEveryGoldenCase) {
  const std::map<std::string, std::string> ours = {{"euler", "euler"},
                                                   {"euler_ancestral", "euler-a"},
                                                   {"heun", "heun"},
                                                   {"dpm_2", "dpm2"},
                                                   {"dpm_2_ancestral", "dpm2-a"},
                                                   {"lms", "lms"},
                                                   {"dpmpp_2s_ancestral", "dpm++2s-a"},
                                                   {"dpmpp_sde", "dpm++sde"},
                                                   {"dpmpp_2m", "dpm++2m"},
                                                   {"dpmpp_2m_sde", "dpm++2m-sde"},
                                                   {"dpmpp_3m_sde", "dpm++3m-sde"}};
  const auto manifest = golden_json("schedulers/manifest.json")["kdiffusion"];
  const SafetensorsFile file(data_path("schedulers/kdiffusion.safetensors"));
  const FakeNetwork exact = exact_network(manifest["spread"].get<double>());
  for (const auto& [key, facts] : manifest["cases"].items()) {
    const size_t first = key.find('/'), second = key.rfind('/');
    const std::string curve = key.substr(0, first), steps = key.substr(first + 1, second - first - 1),
                      name = key.substr(second + 1);
    ScheduleConfig config;
    config.steps = std::stoi(steps);
    set_sampler(config, ours.at(name));
    set_schedule(config, curve);
    const Schedule schedule = make_schedule(config);
    EXPECT_LT(relative_l2(narrowed(schedule.sigmas), file.floats(file.at(fmt::format("{}/{}/sigmas", curve, steps)))), kSchedule)
        << key;

    const Recorded got = record(config, schedule, schedule.steps[0].from.sigma, exact);
    EXPECT_EQ(got.draws, facts["noise_draws"].get<size_t>()) << key;
    // The golden latents are those after each step, in k-diffusion's scaling.
    std::vector<float> latents;
    size_t call = 0;
    for (size_t i = 0; i < schedule.steps.size(); i++) {
      call += static_cast<size_t>(calls_of_step(config, schedule, i));
      for (const float value : common().row(got.latents, call - 1))
        latents.push_back(value / static_cast<float>(schedule.steps[i].to.alpha));
    }
    EXPECT_LT(worst_call(latents, file.floats(file.at(key))), kLatents) << key;
  }
}

// With an exact denoiser the probability flow has a closed solution: x - target grows as sqrt(spread^2 + sigma^2) (Karras et
// al. 2022, appendix B). Every sampler without noise must come to it, from the top and from an image's level.
TEST(Samplers, ComeToTheExactSolution) {
  constexpr double kSpread = 0.5;
  for (const auto& [name, label] : sampler_names()) {
    for (const double strength : {1.0, 0.6}) {
      ScheduleConfig config;
      config.steps = 250;
      set_sampler(config, name);
      if (config.eta > 0 || config.sampler == Sampler::ddpm || config.sampler == Sampler::lcm) continue;
      config.noise.set_alpha_to_one = true;
      const Schedule schedule = tail(make_schedule(config), strength);
      const Level& from = schedule.first();
      const Recorded got = record(config, schedule, from.sigma, exact_network(kSpread));
      const double start = from.sigma / from.alpha, shrink = kSpread / std::hypot(kSpread, start);
      std::vector<float> want;
      for (size_t i = 0; i < common().sample.size(); i++) {
        const double target = common().target[i], x = start * common().sample[i];
        want.push_back(static_cast<float>(target + (x - target) * shrink));
      }
      const auto last = std::span(got.latents).last(want.size());
      EXPECT_LT(relative_l2(last, want), config.sampler == Sampler::euler || config.sampler == Sampler::ddim ? 2e-2 : 2e-3)
          << name << " " << strength;
    }
  }
}

}  // namespace
}  // namespace cudream
