// Reading diffusers' scheduler configurations; see diffusers_config.h.
#include "runtime/diffusers_config.h"

#include <array>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

// The defaults in which the classes differ.
struct Class {
  std::string_view name;
  Sampler sampler;
  double eta = 0;
  Spacing spacing = Spacing::linspace;
  double beta_start = 0.0001, beta_end = 0.02;
  std::string_view beta_schedule = "linear";
  bool clip_sample = false, alpha_to_one = true, lower_order_final = true;
};

constexpr std::array kClasses = {
    Class{.name = "DDIMScheduler", .sampler = Sampler::ddim, .spacing = Spacing::leading, .clip_sample = true},
    Class{.name = "DDPMScheduler", .sampler = Sampler::ddpm, .spacing = Spacing::leading, .clip_sample = true},
    Class{.name = "PNDMScheduler", .sampler = Sampler::pndm, .spacing = Spacing::leading, .alpha_to_one = false},
    Class{.name = "LCMScheduler",
          .sampler = Sampler::lcm,
          .spacing = Spacing::leading,
          .beta_start = 0.00085,
          .beta_end = 0.012,
          .beta_schedule = "scaled_linear"},
    Class{.name = "TCDScheduler",
          .sampler = Sampler::tcd,
          .eta = 0.3,
          .spacing = Spacing::leading,
          .beta_start = 0.00085,
          .beta_end = 0.012,
          .beta_schedule = "scaled_linear"},
    Class{.name = "EulerDiscreteScheduler", .sampler = Sampler::euler},
    Class{.name = "EulerAncestralDiscreteScheduler", .sampler = Sampler::euler, .eta = 1},
    Class{.name = "LMSDiscreteScheduler", .sampler = Sampler::lms},
    Class{.name = "HeunDiscreteScheduler", .sampler = Sampler::heun, .beta_start = 0.00085, .beta_end = 0.012},
    Class{.name = "KDPM2DiscreteScheduler", .sampler = Sampler::dpm2, .beta_start = 0.00085, .beta_end = 0.012},
    Class{
        .name = "KDPM2AncestralDiscreteScheduler", .sampler = Sampler::dpm2, .eta = 1, .beta_start = 0.00085, .beta_end = 0.012},
    Class{.name = "DPMSolverSDEScheduler", .sampler = Sampler::dpmpp_sde, .eta = 1, .beta_start = 0.00085, .beta_end = 0.012},
    Class{.name = "DPMSolverMultistepScheduler", .sampler = Sampler::dpm_multistep},
    Class{.name = "DPMSolverSinglestepScheduler", .sampler = Sampler::dpm_singlestep, .lower_order_final = false},
    Class{.name = "UniPCMultistepScheduler", .sampler = Sampler::unipc},
    Class{.name = "DEISMultistepScheduler", .sampler = Sampler::deis},
};

const Class& class_of(std::string_view name) {
  std::vector<std::string_view> known;
  for (const Class& c : kClasses) {
    if (c.name == name) return c;
    known.push_back(c.name);
  }
  throw fail(Code::unsupported, "scheduler class \"{}\": there are {}", printable(name), fmt::join(known, ", "));
}

// Typed access to a configuration; null counts as absent, as it does for diffusers.
class Reader {
 public:
  Reader(const nlohmann::json& config, std::string_view class_name) : config_(config), class_(class_name) {
    if (!config.is_object()) throw fail(Code::bad_file, "scheduler_config of {}: not an object", printable(class_name));
  }

  bool has(const char* key) const { return config_.contains(key) && !config_.at(key).is_null(); }

  template <typename T>
  T get(const char* key, T otherwise) const {
    if (!has(key)) return otherwise;
    const nlohmann::json& value = config_.at(key);
    bool fits = value.is_string();
    if constexpr (std::is_same_v<T, bool>) fits = value.is_boolean();
    if constexpr (std::is_same_v<T, double>) fits = value.is_number();
    if constexpr (std::is_same_v<T, int>)
      fits = value.is_number_integer() && value.get<double>() > -1e6 && value.get<double>() < 1e6;
    if (!fits) throw fail(Code::bad_file, "scheduler_config of {}: {} is {}", class_, key, printable(value.dump().substr(0, 40)));
    return value.get<T>();
  }

  // One of a few words, as the value beside it.
  template <typename T>
  T choose(const char* key, std::string_view otherwise, std::initializer_list<std::pair<std::string_view, T>> choices) const {
    const auto word = get(key, std::string(otherwise));
    std::vector<std::string_view> known;
    for (const auto& [name, value] : choices) {
      if (name == word) return value;
      known.push_back(name);
    }
    throw fail(Code::unsupported, "scheduler_config of {}: {} \"{}\" is not supported; there are {}", class_, key,
               printable(word), fmt::join(known, ", "));
  }

  // What changes the outcome in ways this program does not have.
  void refuse(const char* key) const {
    if (!has(key) || config_.at(key) == false || (config_.at(key).is_array() && config_.at(key).empty())) return;
    throw fail(Code::unsupported, "scheduler_config of {}: {} is not supported", class_, key);
  }

 private:
  const nlohmann::json& config_;
  std::string_view class_;
};

NoiseSpec read_noise(const Reader& r, const Class& c) {
  NoiseSpec noise;
  noise.train_steps = r.get("num_train_timesteps", 1000);
  noise.beta_start = r.get("beta_start", c.beta_start);
  noise.beta_end = r.get("beta_end", c.beta_end);
  noise.beta_schedule = r.get("beta_schedule", std::string(c.beta_schedule));
  noise.prediction =
      r.choose<Prediction>("prediction_type", "epsilon",
                           {{"epsilon", Prediction::epsilon}, {"v_prediction", Prediction::v}, {"sample", Prediction::sample}});
  noise.zero_terminal_snr = r.get("rescale_betas_zero_snr", false);
  noise.set_alpha_to_one = r.get("set_alpha_to_one", c.alpha_to_one);
  noise.steps_offset = r.get("steps_offset", 0);
  return noise;
}

Curve read_curve(const Reader& r) {
  if (r.get("use_karras_sigmas", false)) return Curve::karras;
  if (r.get("use_exponential_sigmas", false)) return Curve::exponential;
  if (r.get("use_beta_sigmas", false)) return Curve::beta;
  if (r.get("use_lu_lambdas", false)) return Curve::lu;
  return r.choose<Curve>("interpolation_type", "linear", {{"linear", Curve::timesteps}, {"log_linear", Curve::log_linear}});
}

void read_limits(const Reader& r, const Class& c, ScheduleConfig& out) {
  const bool clips =
      c.sampler == Sampler::ddim || c.sampler == Sampler::ddpm || c.sampler == Sampler::heun || c.sampler == Sampler::lcm;
  if (r.get("thresholding", false)) {
    out.threshold_max = r.get("sample_max_value", 1.0);
    out.threshold_ratio = r.get("dynamic_thresholding_ratio", 0.995);
    if (!(out.threshold_ratio >= 0 && out.threshold_ratio <= 1)) {
      throw fail(Code::bad_file, "scheduler_config of {}: dynamic_thresholding_ratio is {}", c.name, out.threshold_ratio);
    }
  } else if (clips && r.get("clip_sample", c.clip_sample)) {
    out.clip = r.get("clip_sample_range", 1.0);
    if (!(*out.clip > 0)) throw fail(Code::bad_file, "scheduler_config of {}: clip_sample_range is {}", c.name, *out.clip);
  }
}

// What DPM-Solver, UniPC and DEIS have beyond the others.
void read_solver(const Reader& r, const Class& c, ScheduleConfig& out) {
  const bool unipc = c.sampler == Sampler::unipc;
  out.order = r.get("solver_order", 2);
  out.lower_order_final = r.get("lower_order_final", c.lower_order_final);
  if (c.sampler == Sampler::deis) {
    out.end_at_sigma_min = true;
    return;
  }
  out.end_at_sigma_min = r.choose<bool>("final_sigmas_type", "zero", {{"zero", false}, {"sigma_min", true}});
  if (unipc) {
    out.bh1 = r.choose<bool>("solver_type", "bh2",
                             {{"bh1", true}, {"bh2", false}, {"midpoint", false}, {"heun", false}, {"logrho", false}});
    out.data_prediction = r.get("predict_x0", true);
    return;
  }
  const auto algorithm =
      r.choose<int>("algorithm_type", "dpmsolver++", {{"dpmsolver++", 0}, {"dpmsolver", 1}, {"sde-dpmsolver++", 2}, {"deis", 0}});
  out.data_prediction = algorithm != 1;
  out.eta = algorithm == 2 ? 1 : 0;
  out.heun_type = r.choose<bool>("solver_type", "midpoint",
                                 {{"midpoint", false}, {"heun", true}, {"bh1", false}, {"bh2", false}, {"logrho", false}});
  out.euler_at_final = r.get("euler_at_final", false);
  if (out.eta > 0 && out.order == 3) {
    throw fail(Code::unsupported,
               "scheduler_config of {}: solver_order 3 with sde-dpmsolver++ is not supported; --sampler dpm++3m-sde "
               "is the third-order SDE solver",
               c.name);
  }
}

}  // namespace

nlohmann::json parse_python_json(std::string_view text, std::string_view where) {
  std::string clean;
  bool in_string = false;
  for (size_t at = 0; at < text.size(); at++) {
    const char c = text[at];
    if (in_string && c == '\\' && at + 1 < text.size()) {
      clean += c;
      clean += text[++at];
      continue;
    }
    if (c == '"') in_string = !in_string;
    std::string_view word;
    for (const std::string_view bare : {"-Infinity", "Infinity", "NaN"}) {
      if (!in_string && word.empty() && text.substr(at).starts_with(bare)) word = bare;
    }
    if (word.empty()) {
      clean += c;
    } else {
      clean.append("\"").append(word).append("\"");
      at += word.size() - 1;
    }
  }
  try {
    return nlohmann::json::parse(clean);
  } catch (const nlohmann::json::exception& e) {
    throw fail(Code::bad_file, "{}: not JSON: {}", where, printable(e.what()));
  }
}

ScheduleConfig from_diffusers(std::string_view class_name, const nlohmann::json& config, int steps) {
  const Class& c = class_of(class_name);
  const Reader r(config, c.name);
  for (const char* key : {"trained_betas", "use_flow_sigmas", "use_dynamic_shifting", "shift_terminal", "solver_p"})
    r.refuse(key);
  if (r.has("lambda_min_clipped") && config.at("lambda_min_clipped") != "-Infinity") r.refuse("lambda_min_clipped");
  if (r.has("variance_type") && c.sampler != Sampler::ddpm) r.refuse("variance_type");

  ScheduleConfig out;
  out.sampler = c.sampler;
  out.steps = steps;
  out.eta = c.eta;
  out.noise = read_noise(r, c);
  const std::string_view usual = c.spacing == Spacing::leading ? "leading" : "linspace";
  out.spacing =
      r.choose<Spacing>("timestep_spacing", usual,
                        {{"leading", Spacing::leading}, {"linspace", Spacing::linspace}, {"trailing", Spacing::trailing}});
  out.curve = read_curve(r);
  read_limits(r, c, out);
  switch (c.sampler) {
    case Sampler::ddpm:
      out.large_variance = r.choose<bool>("variance_type", "fixed_small", {{"fixed_small", false}, {"fixed_large", true}});
      break;
    case Sampler::pndm: out.skip_prk = r.get("skip_prk_steps", false); break;
    case Sampler::lms: out.order = 4; break;
    case Sampler::lcm:
    case Sampler::tcd:
      out.spacing = Spacing::leading;  // the only one these classes have, whatever their configuration says
      out.original_steps = r.get("original_inference_steps", 50);
      out.timestep_scaling = r.get("timestep_scaling", 10.0);
      break;
    case Sampler::euler:
      if (r.has("sigma_min")) out.sigma_min = r.get("sigma_min", 0.0);
      if (r.has("sigma_max")) out.sigma_max = r.get("sigma_max", 0.0);
      out.end_at_sigma_min = r.choose<bool>("final_sigmas_type", "zero", {{"zero", false}, {"sigma_min", true}});
      out.continuous_t = r.choose<bool>("timestep_type", "discrete", {{"discrete", false}, {"continuous", true}}) &&
                         out.noise.prediction == Prediction::v;
      break;
    case Sampler::dpm_singlestep: out.spacing = Spacing::linspace; [[fallthrough]];  // the only one it has
    case Sampler::dpm_multistep:
    case Sampler::unipc:
    case Sampler::deis: read_solver(r, c, out); break;
    default: break;
  }
  if (c.sampler == Sampler::unipc && r.has("disable_corrector")) {
    for (const auto& step : config.at("disable_corrector")) {
      if (!step.is_number_integer())
        throw fail(Code::bad_file, "scheduler_config of {}: disable_corrector holds {}", c.name, printable(step.dump()));
      out.no_corrector.push_back(step.get<int>());
    }
  }
  return out;
}

}  // namespace cudream
