// The tables of names; see scheduler_names.h.
#include "runtime/scheduler_names.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <span>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

struct SamplerEntry {
  NamedSampler named;
  std::vector<std::string_view> aliases;  // normalised
  std::string_view schedule;              // the one it usually goes with
  std::function<void(ScheduleConfig&)> set;
};

// Sets the sampler with its order and its share of fresh noise.
auto kind(Sampler sampler, double eta = 0, int order = 2) {
  return [=](ScheduleConfig& c) {
    c.sampler = sampler;
    c.eta = eta;
    c.order = order;
  };
}

const std::vector<SamplerEntry>& sampler_table() {
  using S = Sampler;
  static const std::vector<SamplerEntry> table = {
      {{"ddim", "DDIM"}, {}, "leading", kind(S::ddim)},
      {{"ddpm", "DDPM"}, {}, "leading", kind(S::ddpm)},
      {{"pndm", "PLMS"}, {"plms"}, "leading", kind(S::pndm)},
      {{"lcm", "LCM"}, {}, "leading", kind(S::lcm)},
      {{"tcd", "TCD"}, {}, "leading", kind(S::tcd, 0.3)},
      {{"euler", "Euler"}, {"eulerdiscrete"}, "normal", kind(S::euler)},
      {{"euler-a", "Euler a"}, {"eulerancestral", "eulerancestraldiscrete"}, "normal", kind(S::euler, 1)},
      {{"heun", "Heun"}, {"heundiscrete"}, "normal", kind(S::heun)},
      {{"lms", "LMS"}, {"lmsdiscrete"}, "normal", kind(S::lms, 0, 4)},
      {{"dpm2", "DPM2"}, {"kdpm2discrete"}, "karras", kind(S::dpm2)},
      {{"dpm2-a", "DPM2 a"}, {"dpm2ancestral", "kdpm2ancestraldiscrete"}, "karras", kind(S::dpm2, 1)},
      {{"dpm++2m", "DPM++ 2M"}, {"dpmsolvermultistep"}, "karras", kind(S::dpm_multistep)},
      {{"dpm++2m-sde", "DPM++ 2M SDE"}, {"dpmpp2msdegpu"}, "karras", kind(S::dpm_multistep, 1)},
      {{"dpm++2m-sde-heun", "DPM++ 2M SDE Heun"},
       {"dpmpp2msdeheungpu"},
       "karras",
       [](ScheduleConfig& c) {
         kind(S::dpm_multistep, 1)(c);
         c.heun_type = true;
       }},
      {{"dpm++3m-sde", "DPM++ 3M SDE"},
       {"dpmpp3msdegpu"},
       "exponential",
       [](ScheduleConfig& c) {
         kind(S::dpm_multistep, 1, 3)(c);
         c.heun_type = true;
         c.lower_order_final = false;
       }},
      {{"dpm++2s", "DPM++ 2S"}, {"dpmsolversinglestep"}, "karras", kind(S::dpm_singlestep)},
      {{"dpm++2s-a", "DPM++ 2S a"}, {"dpmpp2sancestral"}, "karras", kind(S::dpmpp_2s, 1)},
      {{"dpm++sde", "DPM++ SDE"}, {"dpmppsdegpu", "dpmsolversde"}, "karras", kind(S::dpmpp_sde, 1)},
      {{"unipc", "UniPC"}, {"unipcbh2", "unipcmultistep"}, "normal", kind(S::unipc)},
      {{"deis", "DEIS"}, {"deismultistep"}, "normal", kind(S::deis)},
  };
  return table;
}

struct ScheduleEntry {
  std::string_view name;
  std::vector<std::string_view> aliases;  // normalised
  Spacing spacing;
  Curve curve;
};

const std::vector<ScheduleEntry>& schedule_table() {
  static const std::vector<ScheduleEntry> table = {
      {"normal", {"uniform", "discrete"}, Spacing::normal, Curve::timesteps},
      {"karras", {}, Spacing::normal, Curve::karras},
      {"exponential", {}, Spacing::normal, Curve::exponential},
      {"beta", {}, Spacing::normal, Curve::beta},
      {"leading", {"ddimuniform", "ddim"}, Spacing::leading, Curve::timesteps},
      {"trailing", {"simple"}, Spacing::trailing, Curve::timesteps},
      {"linspace", {}, Spacing::linspace, Curve::timesteps},
  };
  return table;
}

// "DPM++ 2M", "dpmpp_2m" and "dpm++2m" are one: lower case, without spaces and dashes, ++ written pp.
std::string normalised(std::string_view name) {
  std::string out;
  for (const char c : name) {
    if (c == ' ' || c == '-' || c == '_') continue;
    out += c == '+' ? 'p' : static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  constexpr std::string_view kSuffix = "scheduler";
  if (out.size() > kSuffix.size() && out.ends_with(kSuffix)) out.resize(out.size() - kSuffix.size());
  return out;
}

const SamplerEntry* find_sampler(std::string_view name) {
  for (const SamplerEntry& entry : sampler_table()) {
    if (normalised(entry.named.name) == name || normalised(entry.named.label) == name) return &entry;
    if (std::find(entry.aliases.begin(), entry.aliases.end(), name) != entry.aliases.end()) return &entry;
  }
  return nullptr;
}

const ScheduleEntry* find_schedule(std::string_view name) {
  for (const ScheduleEntry& entry : schedule_table()) {
    if (entry.name == name) return &entry;
    if (std::find(entry.aliases.begin(), entry.aliases.end(), name) != entry.aliases.end()) return &entry;
  }
  return nullptr;
}

void apply(ScheduleConfig& config, const ScheduleEntry& entry) {
  config.spacing = entry.spacing;
  config.curve = entry.curve;
}

// The least number of letters to change, add or drop (Levenshtein 1966).
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) row[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    size_t diagonal = row[0]++;
    for (size_t j = 1; j <= b.size(); j++) {
      const size_t changed = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({changed, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

// The three names nearest to `name`: "euler, euler-a, heun".
std::string nearest(std::string_view name, std::vector<std::string_view> known) {
  const std::string wanted = normalised(name.substr(0, 64));
  std::stable_sort(known.begin(), known.end(), [&](std::string_view a, std::string_view b) {
    return edit_distance(wanted, normalised(a)) < edit_distance(wanted, normalised(b));
  });
  known.resize(std::min<size_t>(known.size(), 3));
  return fmt::format("{}", fmt::join(known, ", "));
}

Error unknown(std::string_view option, std::string_view name, const std::vector<std::string_view>& known) {
  return fail(Code::usage, "{} \"{}\" is not known; the nearest are {}. There are {}", option, printable(name),
              nearest(name, known), fmt::join(known, ", "));
}

}  // namespace

std::vector<NamedSampler> sampler_names() {
  std::vector<NamedSampler> out;
  for (const SamplerEntry& entry : sampler_table()) out.push_back(entry.named);
  return out;
}

std::vector<std::string_view> schedule_names() {
  std::vector<std::string_view> out;
  for (const ScheduleEntry& entry : schedule_table()) out.push_back(entry.name);
  return out;
}

void set_sampler(ScheduleConfig& config, std::string_view name) {
  const std::string wanted = normalised(name);
  const SamplerEntry* sampler = find_sampler(wanted);
  const ScheduleEntry* schedule = sampler != nullptr ? find_schedule(sampler->schedule) : nullptr;
  // Perhaps both in one: a sampler's name with a schedule's after it.
  for (size_t cut = 1; sampler == nullptr && cut < wanted.size(); cut++) {
    schedule = find_schedule(std::string_view(wanted).substr(cut));
    if (schedule != nullptr) sampler = find_sampler(std::string_view(wanted).substr(0, cut));
  }
  if (sampler == nullptr) {
    std::vector<std::string_view> known;
    for (const NamedSampler& named : sampler_names()) known.push_back(named.name);
    throw unknown("--sampler", name, known);
  }
  ScheduleConfig plain;
  plain.steps = config.steps;
  plain.noise = config.noise;
  config = plain;
  sampler->set(config);
  apply(config, *schedule);
}

void set_schedule(ScheduleConfig& config, std::string_view name) {
  const ScheduleEntry* entry = find_schedule(normalised(name));
  if (entry == nullptr) throw unknown("--schedule", name, schedule_names());
  apply(config, *entry);
}

NamedSampler sampler_name(const ScheduleConfig& config) {
  // The last entry of the table that sets just this: DPM++ 2M SDE Heun comes after DPM++ 2M SDE.
  for (auto entry = sampler_table().rbegin(); entry != sampler_table().rend(); ++entry) {
    ScheduleConfig set;
    entry->set(set);
    if (set.sampler == config.sampler && (set.eta > 0) == (config.eta > 0) && set.order == config.order &&
        set.heun_type == config.heun_type) {
      return entry->named;
    }
  }
  for (const SamplerEntry& entry : sampler_table()) {
    ScheduleConfig set;
    entry.set(set);
    if (set.sampler == config.sampler) return entry.named;
  }
  throw fail(Code::internal, "a sampler without a name");
}

std::string_view schedule_name(const ScheduleConfig& config) {
  for (const ScheduleEntry& entry : schedule_table()) {
    if (entry.curve == config.curve && (config.curve != Curve::timesteps || entry.spacing == config.spacing)) return entry.name;
  }
  return config.curve == Curve::lu ? "lu" : "log-linear";
}

}  // namespace cudream
