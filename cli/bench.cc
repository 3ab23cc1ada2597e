// cudream bench: what this machine does a second, by stage, from runs of the real program path.
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  HostOptions host;
  std::string model, random;
  int size = 0, steps = 4, runs = 3;
  double guidance = 7;
  bool verbs = false;  // each by itself
};

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double cpu_seconds() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  const auto s = [](const timeval& t) { return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec); };
  return s(use.ru_utime) + s(use.ru_stime);
}

double peak_memory_mb() {
  rusage use{};
  getrusage(RUSAGE_SELF, &use);
  return static_cast<double>(use.ru_maxrss) / 1000;
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

// Seconds of every stage over the measured runs. A step is one entry.
using Times = std::map<std::string, std::vector<double>>;

// One run of the job; its times are added to `times`.
void measure(Engine& engine, const Job& job, Times& times) {
  std::string stage;
  auto begun = Clock::now();
  const auto whole = begun;
  const auto close = [&] {
    if (!stage.empty() && stage != "denoise") times[stage].push_back(seconds_since(begun));
    begun = Clock::now();
  };
  const RunHooks hooks{.on_stage =
                           [&](const std::string& next, int) {
                             close();
                             stage = next;
                           },
                       .on_step =
                           [&](int) {
                             times["unet step"].push_back(seconds_since(begun));
                             begun = Clock::now();
                           },
                       .cancel = &stop_requested};
  engine.run(job, {}, 1, hooks);
  close();
  times["picture"].push_back(seconds_since(whole));
}

// GFLOP of one run of the stages whose key begins with `prefix`.
double gflop(const Ops::Plan& plan, const std::string& prefix) {
  double sum = 0;
  for (const auto& [key, stage] : plan.stages)
    if (key.starts_with(prefix))
      for (const auto& [verb, count] : stage.counts) sum += count.flops;
  return sum / 1e9;
}

// The best product this device does, in GFLOP/s: what shares are shares of.
double measured_peak(Device& device) {
  constexpr int64_t kRows = 1024, kWidth = 1024, kRepeats = 40;  // small enough to stay in the caches
  const std::vector<float> zeros(kWidth * kWidth, 0.01f);
  WeightStore store;
  const Linear layer = linear(store.root() / "peak", kWidth, kWidth, false);
  store.fill(0, device, DType::f32, std::as_bytes(std::span(zeros)));
  Ops ops(device);
  double best = 0;
  const auto body = [&] {
    const Tensor x = ops.make(device.info().compute, {1, kRows, kWidth});
    if (!ops.rehearsing()) device.upload(x, std::vector<std::byte>(static_cast<size_t>(x.view().bytes())));
    for (int i = 0; i < kRepeats; i++) {
      const auto begun = Clock::now();
      const Tensor y = ops.linear(x, layer);
      best = std::max(best, 2e-9 * kRows * kWidth * kWidth / seconds_since(begun));
    }
  };
  const Ops::Plan plan = ops.rehearse(body);
  best = 0;
  ops.run(plan, body);
  return best;
}

struct Row {
  std::string stage;
  double median = 0, low = 0, high = 0, gflop = 0;
  size_t count = 0;
};

std::vector<Row> summarize(const Times& times, const Ops::Plan& plan) {
  static const std::map<std::string, std::string> kKeys{{"text", "text"}, {"unet step", "unet"}, {"decode", "decode"}};
  std::vector<Row> rows;
  for (const auto& [stage, seconds] : times) {
    const auto key = kKeys.find(stage);
    rows.push_back({stage, median(seconds), *std::min_element(seconds.begin(), seconds.end()),
                    *std::max_element(seconds.begin(), seconds.end()), key == kKeys.end() ? 0 : gflop(plan, key->second),
                    seconds.size()});
  }
  return rows;
}

void print(const std::vector<Row>& rows, double peak) {
  fmt::print("{:<12}{:>5}{:>12}{:>12}{:>12}{:>10}{:>10}{:>9}\n", "stage", "n", "median s", "least s", "most s", "GFLOP",
             "GFLOP/s", "of peak");
  for (const Row& r : rows) {
    const double rate = r.gflop / r.median;
    fmt::print("{:<12}{:>5}{:>12.4f}{:>12.4f}{:>12.4f}", r.stage, r.count, r.median, r.low, r.high);
    if (r.gflop > 0) fmt::print("{:>10.1f}{:>10.0f}{:>8.0f}%", r.gflop, rate, 100 * rate / peak);
    fmt::print("\n");
  }
}

int run(const Options& options) {
  Progress progress(ProgressSink::of_process(false, true));
  std::unique_ptr<Session> session;
  std::unique_ptr<Engine> random;
  Times times;
  const auto begun = Clock::now();
  if (options.random.empty()) {
    session = std::make_unique<Session>(options.host, options.model, "", Task::generate, progress);
    times["load"].push_back(seconds_since(begun));
  } else {
    random = std::make_unique<Engine>(open_device(options.host.device_options()));
    random->load_random(random_spec(options.random));
  }
  Engine& engine = random ? *random : session->engine();

  Job job{.prompt = "a red house under a full moon",
          .negative = "blurry",
          .width = options.size,
          .height = options.size,
          .steps = options.steps,
          .guidance = options.guidance};
  complete(job, engine.spec());
  if (options.verbs) return bench_verbs(engine, job, options.runs, options.host.json);
  const Ops::Plan plan = engine.plan(job, {}, 1);
  const double peak = measured_peak(engine.device());

  Job warm_up = job;
  warm_up.steps = 1;
  Times ignored;
  measure(engine, warm_up, ignored);
  const double cpu_before = cpu_seconds();
  const auto measuring = Clock::now();
  for (int i = 0; i < options.runs; i++) measure(engine, job, times);
  const double cores = (cpu_seconds() - cpu_before) / seconds_since(measuring);

  const std::vector<Row> rows = summarize(times, plan);
  const DeviceInfo& device = engine.device().info();
  if (options.host.json) {
    nlohmann::json j{{"device", device.kind},
                     {"description", device.description},
                     {"compute", name_of(device.compute)},
                     {"width", job.width},
                     {"height", job.height},
                     {"guidance", job.guidance},
                     {"peak_gflops", peak},
                     {"cores_used", cores},
                     {"peak_memory_mb", peak_memory_mb()},
                     {"weight_bytes", engine.weight_bytes()},
                     {"arena_bytes", plan.bytes()},
                     {"stages", nlohmann::json::array()}};
    for (const Row& r : rows)
      j["stages"].push_back({{"stage", r.stage},
                             {"n", r.count},
                             {"median_s", r.median},
                             {"least_s", r.low},
                             {"most_s", r.high},
                             {"gflop", r.gflop}});
    fmt::print("{}\n", j.dump());
    return 0;
  }
  fmt::print("{} ({}), {}; {}x{}, guidance {:g}\n", device.kind, device.description, name_of(device.compute), job.width,
             job.height, job.guidance);
  print(rows, peak);
  fmt::print("peak {:.0f} GFLOP/s measured; {:.2f} cores used; weights {:.0f} MB, arenas {:.0f} MB, process at most {:.0f} MB\n",
             peak, cores, static_cast<double>(engine.weight_bytes()) / 1e6, static_cast<double>(plan.bytes()) / 1e6,
             peak_memory_mb());
  return 0;
}

}  // namespace

Command add_bench(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("-m,--model", options->model, "Model to measure");
  app.add_option("--random", options->random, "Measure a full-size network with random weights instead: sd15, sd21 or sdxl")
      ->check(CLI::IsMember({"sd15", "sd21", "sdxl"}));
  app.add_option("--size", options->size, "Pixels along a side; the model's own when left out");
  app.add_option("--steps", options->steps, "Steps of a run")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--runs", options->runs, "Runs after the warm-up")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--guidance", options->guidance, "1 measures one branch instead of two")->capture_default_str();
  add_host_options(app, options->host);
  app.footer(R"(Example, needing no file:
  cudream bench --random sd15 --size 512 --steps 2 --runs 2)");
  CLI::App* load = app.add_subcommand("load", "Measure loading alone: `cudream bench -m MODEL load`");
  CLI::App* verbs = app.add_subcommand("verbs", "Measure every verb by itself: `cudream bench --random sd15 --steps 1 verbs`");
  return [options, load, verbs] {
    options->verbs = verbs->parsed();
    return load->parsed() ? bench_load(options->host, options->model, options->runs) : run(*options);
  };
}

}  // namespace cudream
