// cudream bench throughput: pictures a minute at several batch sizes, where the time goes, and what the speed costs in quality.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "cli/bench.h"
#include "cli/session.h"
#include "cli/statistics.h"
#include "core/error.h"
#include "core/file.h"

namespace cudream {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

// Picture i has prompt i modulo their number, and the seed i. The demo model knows these things.
constexpr std::array kPrompts{"a red house under a full moon",        "a sailboat with a white sail at sunset on a calm sea",
                              "a green tree on a hill at noon",       "a blue house beside a lake in the morning",
                              "three birds over the sea in the rain", "a yellow house at night with stars",
                              "mountains with snow at sunrise",       "a small island with a palm tree at noon"};

constexpr const char* kWarmUp = "until a run takes as long as the one before, within 5 %, at most five";
constexpr double kSettled = 0.05;
constexpr int kMostWarmUps = 5;
constexpr size_t kJudged = 2;  // pictures that are made in float too

std::vector<Job> jobs_of(const BenchOptions& options, const ModelSpec& spec, size_t count) {
  std::vector<Job> jobs;
  for (size_t i = 0; i < count; i++) jobs.push_back(bench_job(options, spec, kPrompts[i % kPrompts.size()], i));
  return jobs;
}

// Peak signal-to-noise ratio in decibels; infinite for equal pictures.
double psnr(const Image& a, const Image& b) {
  double squares = 0;
  for (size_t i = 0; i < a.pixels.size(); i++) {
    const double difference = static_cast<double>(a.pixels[i]) - b.pixels[i];
    squares += difference * difference;
  }
  return 10 * std::log10(255.0 * 255.0 * static_cast<double>(a.pixels.size()) / squares);
}

struct BatchSpeed {
  size_t batch = 0;
  int warm_ups = 0;
  Times times;  // of the runs after the warm-up
  Ops::Plan plan;
  std::vector<Image> pictures;
  double per_minute() const { return 60 * static_cast<double>(batch) / median(times.at("pass")); }
};

BatchSpeed measure_batch(Engine& engine, std::span<const Job> jobs, int runs) {
  BatchSpeed speed{.batch = jobs.size(), .times = {}, .plan = {}, .pictures = {}};
  const auto pass = [&](Times& times) { speed.pictures = measure(engine, jobs, times); };
  double before = 0;
  for (bool settled = false; !settled && speed.warm_ups < kMostWarmUps; speed.warm_ups++) {
    Times ignored;
    pass(ignored);
    const double now = ignored.at("pass").front();
    settled = std::abs(now - before) <= kSettled * before;
    before = now;
  }
  for (int i = 0; i < runs; i++) pass(speed.times);
  engine.forget_texts();
  speed.plan = engine.plan(jobs, {});
  return speed;
}

// Seconds that each verb takes in each stage of one pass, which is made without recordings. The device is waited for after every
// verb, so on a GPU the sum is above what a pass takes.
std::map<std::string, std::map<std::string, double>> measure_verbs(Engine& engine, const Job& job) {
  std::map<std::string, std::map<std::string, double>> seconds;
  engine.forget_texts();
  watch_verbs(engine, job, [&](const AskedVerb& asked, const Count&, const std::function<void()>& carry_out) {
    const auto begun = Clock::now();
    carry_out();
    seconds[asked.stage][asked.verb] += std::chrono::duration<double>(Clock::now() - begun).count();
  });
  return seconds;
}

// Decibels between the pictures of the engine under test and those of the float path of the processor, which is compared with the
// reference implementation in our tests. Infinite: the same bytes.
std::vector<double> judge(BenchOptions options, const std::vector<Image>& pictures) {
  options.host.device = "cpu";
  options.host.precision = "f32";
  const std::unique_ptr<Engine> exact = open_engine(options);
  std::vector<double> decibels;
  Times ignored;
  for (const Job& job : jobs_of(options, exact->spec(), std::min(kJudged, pictures.size())))
    decibels.push_back(psnr(pictures[decibels.size()], measure(*exact, {&job, 1}, ignored).front()));
  return decibels;
}

struct Result {
  Roof roof;
  std::vector<BatchSpeed> batches;
  std::map<std::string, std::map<std::string, double>> verbs;
  std::vector<double> psnr;
};

json stages_json(const BatchSpeed& speed, const Roof& roof) {
  const auto passes = static_cast<double>(speed.times.at("pass").size());
  const double whole = std::reduce(speed.times.at("pass").begin(), speed.times.at("pass").end()) / passes;
  json stages = json::array();
  for (const auto& [stage, seconds] : speed.times) {
    const std::string prefix = plan_prefix(stage);
    if (prefix.empty()) continue;
    const double mean = std::reduce(seconds.begin(), seconds.end()) / passes;
    stages.push_back({{"stage", stage},
                      {"seconds_a_pass", mean},
                      {"share", mean / whole},
                      {"median_s", median(seconds)},
                      {"of_roof", roof.seconds(work_of(speed.plan, prefix)) / mean}});
  }
  return stages;
}

json verbs_json(const Result& result) {
  static const std::map<std::string, std::string> kPrefixes{{"text", "text"}, {"denoise", "unet"}, {"decode", "decode"}};
  json verbs = json::array();
  for (const auto& [stage, times] : result.verbs) {
    const Ops::Counts work = work_of(result.batches.front().plan, kPrefixes.at(stage));
    double all = 0;
    for (const auto& [verb, seconds] : times) all += seconds;
    for (const auto& [verb, seconds] : times) {
      const auto found = work.find(verb);
      if (found == work.end()) continue;  // of the sampler, outside the networks
      verbs.push_back({{"stage", stage},
                       {"verb", verb},
                       {"calls", found->second.calls},
                       {"seconds", seconds},
                       {"share", seconds / all},
                       {"of_roof", result.roof.seconds(found->second) / seconds}});
    }
  }
  return verbs;
}

json to_json(const Result& result, const BenchOptions& options, Engine& engine) {
  const Job job = jobs_of(options, engine.spec(), 1).front();
  const DeviceInfo& device = engine.device().info();
  json j{{"bench", "throughput"},
         {"version", "cudream " CUDREAM_VERSION},
         {"device", device.kind},
         {"description", device.description},
         {"compute", name_of(device.compute)},
         {"libraries", engine.device().libraries_used()},
         {"model", options.random.empty() ? options.model : "random " + options.random},
         {"width", job.width},
         {"height", job.height},
         {"steps", job.steps},
         {"guidance", job.guidance},
         {"sampler", job.sampler},
         {"prompts", kPrompts},
         {"first_seed", 0},
         {"warm_up", kWarmUp},
         {"roof", {{"gflops", result.roof.gflops}, {"gb_per_s", result.roof.gbytes}}},
         {"batches", json::array()},
         {"verbs", verbs_json(result)},
         {"quality", {{"against", "cpu f32"}, {"psnr_db", result.psnr}}}};  // JSON has no infinity: null, the same bytes
  for (const BatchSpeed& speed : result.batches) {
    const std::vector<double>& runs = speed.times.at("pass");
    j["batches"].push_back({{"batch", speed.batch},
                            {"pictures_per_minute", speed.per_minute()},
                            {"p50_s", percentile(runs, 0.5)},
                            {"p95_s", percentile(runs, 0.95)},
                            {"runs_s", runs},
                            {"warm_up_runs", speed.warm_ups},
                            {"stages", stages_json(speed, result.roof)}});
  }
  return j;
}

std::string decibels(const std::vector<double>& psnr) {
  const double least = *std::ranges::min_element(psnr);
  return std::isinf(least) ? "the same bytes" : fmt::format("{:.1f} dB", least);
}

void print_markdown(const json& j, const std::vector<double>& psnr) {
  const auto number = [](const json& value) { return value.get<double>(); };
  const auto text = [](const json& value) { return value.get<std::string>(); };
  fmt::print("{} on {} ({}), {}: {}, {}x{}, {} steps, guidance {:g}, {}\n\n", text(j["version"]), text(j["device"]),
             text(j["description"]), text(j["compute"]), text(j["model"]), j["width"].get<int>(), j["height"].get<int>(),
             j["steps"].get<int>(), number(j["guidance"]), text(j["sampler"]));
  fmt::print("| batch | pictures/min | p50 s | p95 s | text | steps | decode | least PSNR against float |\n");
  fmt::print("|--:|--:|--:|--:|--:|--:|--:|--:|\n");
  for (const json& b : j["batches"]) {
    std::map<std::string, std::string> stages;
    for (const json& s : b["stages"])
      stages[s["stage"]] = fmt::format("{:.0f} % ({:.0f} % of roof)", 100 * number(s["share"]), 100 * number(s["of_roof"]));
    fmt::print("| {} | {:.2f} | {:.3f} | {:.3f} | {} | {} | {} | {} |\n", b["batch"].get<int>(), number(b["pictures_per_minute"]),
               number(b["p50_s"]), number(b["p95_s"]), stages["text"], stages["unet step"], stages["decode"], decibels(psnr));
  }
  fmt::print("\n| stage | verb | calls | share of stage | of roof |\n|---|---|--:|--:|--:|\n");
  for (const json& v : j["verbs"])
    fmt::print("| {} | {} | {} | {:.1f} % | {:.0f} % |\n", text(v["stage"]), text(v["verb"]), v["calls"].get<int64_t>(),
               100 * number(v["share"]), 100 * number(v["of_roof"]));
  fmt::print(
      "\nRoof: {:.0f} GFLOP/s (a product), {:.1f} GB/s (a copy), both measured. Warm-up: {}. {} runs each; verbs from one pass "
      "of "
      "batch {}, waited for one by one.\n",
      number(j["roof"]["gflops"]), number(j["roof"]["gb_per_s"]), kWarmUp, j["batches"][0]["runs_s"].size(), 1);
}

// A speed counts only if the pictures are the right ones.
void require_quality(const Result& result, double least_psnr) {
  for (const BatchSpeed& speed : result.batches)
    for (size_t i = 0; i < std::min(speed.pictures.size(), result.batches.front().pictures.size()); i++)
      if (speed.pictures[i].pixels != result.batches.front().pictures[i].pixels)
        throw fail(Code::internal, "picture {} of a batch of {} is not that of a batch of {}", i, speed.batch,
                   result.batches.front().batch);
  if (*std::ranges::min_element(result.psnr) < least_psnr)
    throw fail(Code::internal, "pictures are {} from those made in float; --least-psnr asks for {:g} dB", decibels(result.psnr),
               least_psnr);
}

}  // namespace

int bench_throughput(const BenchOptions& options, const ThroughputOptions& wanted) {
  Result result;
  const std::unique_ptr<Engine> engine = open_engine(options);
  result.roof = measured_roof(engine->device());
  for (const int batch : wanted.batches) {
    const std::vector<Job> jobs = jobs_of(options, engine->spec(), static_cast<size_t>(batch));
    result.batches.push_back(measure_batch(*engine, jobs, options.runs));
  }
  result.verbs = measure_verbs(*engine, jobs_of(options, engine->spec(), 1).front());
  result.psnr = judge(options, result.batches.back().pictures);

  const json j = to_json(result, options, *engine);
  if (options.host.json)
    fmt::print("{}\n", j.dump());
  else
    print_markdown(j, result.psnr);
  if (!wanted.output.empty()) {
    AtomicFile file(wanted.output, Exists::replace);
    file.write(j.dump(1) + "\n");
    file.commit();
  }
  require_quality(result, wanted.least_psnr);
  return 0;
}

}  // namespace cudream
