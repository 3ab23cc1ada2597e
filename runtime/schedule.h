// Noise schedules: which levels of noise a sampler visits, and what the network is told at each. Pure.
//
// Everything is said in levels: a latent at a level is x = alpha * x0 + sigma * noise. Two scalings are in use. Variance
// preserving (alpha^2 + sigma^2 = 1): DDIM, DDPM, PNDM, LCM, TCD and the DPM-Solver family. Variance exploding (alpha = 1):
// Euler, Heun, LMS and their kin ("Elucidating the Design Space of Diffusion-Based Generative Models", Karras et al. 2022).
#pragma once

#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "core/spec.h"

namespace cudream {

// x = alpha * x0 + sigma * noise. The network reads x * input_scale() and the timestep t, which may be fractional.
struct Level {
  double alpha = 1, sigma = 0, t = 0;
  double input_scale() const { return 1 / std::hypot(alpha, sigma); }
  double lambda() const { return std::log(alpha / sigma); }  // half the log signal-to-noise ratio; infinite without noise
  bool operator==(const Level&) const = default;
};

// Each stands for a family: `eta`, `order` and the flags of ScheduleConfig say which member. With eta 1 euler is Euler
// ancestral, dpm2 is DPM2 ancestral, and dpm_multistep is DPM++ 2M SDE. Those from euler on are variance exploding.
enum class Sampler {
  ddim,
  ddpm,
  pndm,
  lcm,
  tcd,
  dpm_multistep,
  dpm_singlestep,
  unipc,
  deis,
  euler,
  heun,
  lms,
  dpm2,
  dpmpp_2s,
  dpmpp_sde,
};
bool variance_preserving(Sampler sampler);
bool reads_eta(Sampler sampler);  // ddim and tcd: a job says how much fresh noise; that of others goes with their names

// Which timesteps a schedule visits (Table 2 of "Common Diffusion Noise Schedules and Sample Steps Are Flawed", Lin et
// al. 2023). normal: equally spaced from the noisiest training step to the cleanest, fractional, as the web UIs do.
enum class Spacing { normal, leading, trailing, linspace };

// How noise levels are placed between the two ends. timesteps: where the spacing puts them. karras: Karras et al. 2022,
// equation 5, rho 7. exponential: equal steps of log sigma. beta: quantiles of Beta(0.6, 0.6) ("Beta Sampling is All You
// Need", Lee et al. 2024). lu: equal steps of lambda over the whole training range (DPM-Solver, Lu et al. 2022).
// log_linear: exponential with one level more.
enum class Curve { timesteps, karras, exponential, beta, lu, log_linear };

struct ScheduleConfig {
  Sampler sampler = Sampler::ddim;
  Spacing spacing = Spacing::leading;
  Curve curve = Curve::timesteps;
  int steps = 20;
  NoiseSpec noise;
  double eta = 0;                              // share of fresh noise: DDIM's eta, TCD's gamma; ancestral and SDE: 1
  int order = 2;                               // of DPM-Solver, UniPC and DEIS, 1 to 3; of LMS, 1 to 4
  bool heun_type = false;                      // DPM-Solver: the Heun form of the second order, else the midpoint form
  bool data_prediction = true;                 // DPM-Solver++ and UniPC in x0; false: DPM-Solver, UniPC in noise
  bool lower_order_final = true;               // fewer than 15 steps: the last ones lower the order, which is steadier
  bool euler_at_final = false;                 // the last step is of first order
  bool end_at_sigma_min = false;               // end at the least training noise instead of none
  std::optional<double> sigma_min, sigma_max;  // ends of karras, exponential and beta; nothing: the schedule's own
  bool continuous_t = false;                   // the network is told log(sigma) / 4
  bool skip_prk = true;                        // PNDM without the Runge-Kutta start
  bool large_variance = false;                 // DDPM draws with variance beta instead of the posterior's
  bool bh1 = false;                            // UniPC: B(h) = h instead of exp(h) - 1
  std::vector<int> no_corrector;               // UniPC: steps that are not corrected
  int original_steps = 50;                     // LCM and TCD: steps of the distilled solver
  double timestep_scaling = 10;                // LCM: of its boundary condition
  std::optional<double> clip;                  // the clean estimate is kept within [-clip, clip]
  std::optional<double> threshold_max;         // dynamic thresholding ("Imagen", Saharia et al. 2022), at most this large
  double threshold_ratio = 0.995;
  bool operator==(const ScheduleConfig&) const = default;
};

// One step: from a level to the next. `mid` is where two-call samplers look in between (and where TCD lands before it adds
// noise). steps[i].to is nearly always steps[i + 1].from; DDIM with linspace spacing is the exception.
struct Step {
  Level from, mid, to;
};

struct Schedule {
  std::vector<Step> steps;        // all of them, also those before `begin`
  size_t begin = 0;               // the first one to take: more than zero for image to image
  double initial_scale = 1;       // pure noise times this is where text to image starts
  std::vector<double> timesteps;  // one per call of the network from the first step on, as the reference lists them
  std::vector<double> sigmas;     // sigma / alpha of every level and of the end; infinite where alpha is 0
  const Level& first() const { return steps[begin].from; }  // an image starts as alpha * image + sigma * noise
};

// Throws Error(usage) for a step count that the schedule has no room for, Error(unsupported) for a beta schedule it does
// not know and for combinations that have no meaning.
Schedule make_schedule(const ScheduleConfig& config);

// How often step i of those from `begin` on calls the network.
int calls_of_step(const ScheduleConfig& config, const Schedule& schedule, size_t i);

// The same schedule from where an image changed by `strength` (0, 1] starts: the last int(steps * strength) steps.
// Throws Error(usage) when that leaves none.
Schedule tail(Schedule schedule, double strength);

// The step with which another model takes over, for the last 1 - share of the range of training steps, as the reference counts
// it: the first whose timestep is below. Throws Error(usage) when one of the two has no step to take.
size_t handover_step(const Schedule& schedule, double share, int train_steps);

// An ancestral step from sigma `from` to sigma `to` goes down to `down` without noise, then up again by fresh noise of
// deviation `up` ("Denoising Diffusion Probabilistic Models", Ho et al. 2020, equation 7, in the scaling of Karras et al.).
struct AncestralStep {
  double down = 0, up = 0;
};
AncestralStep ancestral_step(double from, double to, double eta);

// x0 = cx * x + co * output, for a network that was given x at `level` and means its output as `prediction`.
struct CleanCoefficients {
  double cx = 0, co = 0;
};
CleanCoefficients predicted_clean(const Level& level, Prediction prediction);

}  // namespace cudream
