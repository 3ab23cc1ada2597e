// cudream bench: what this machine does a second, by stage, from runs of the real program path.
#include "cli/bench.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/statistics.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

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

struct Row {
  std::string stage;
  double median = 0, low = 0, high = 0, gflop = 0;
  size_t count = 0;
};

std::vector<Row> summarize(const Times& times, const Ops::Plan& plan, int runs) {
  std::vector<Row> rows;
  for (const auto& [stage, seconds] : times) {
    const double entries = static_cast<double>(seconds.size()) / runs;  // of a pass
    rows.push_back({stage, median(seconds), *std::min_element(seconds.begin(), seconds.end()),
                    *std::max_element(seconds.begin(), seconds.end()), flops(work_of(plan, plan_prefix(stage))) / entries / 1e9,
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

int run(const BenchOptions& options) {
  Times times, ignored;
  const auto begun = Clock::now();
  const std::unique_ptr<Engine> opened = open_engine(options);
  Engine& engine = *opened;
  if (options.random.empty()) times["load"].push_back(seconds_since(begun));

  const Job job = bench_job(options, engine.spec());
  const Ops::Plan plan = engine.plan({&job, 1}, {});
  const double peak = measured_roof(engine.device()).gflops;

  Job warm_up = job;
  warm_up.steps = 1;
  measure(engine, {&warm_up, 1}, ignored);
  const double cpu_before = cpu_seconds();
  const auto measuring = Clock::now();
  for (int i = 0; i < options.runs; i++) measure(engine, {&job, 1}, times);
  const double cores = (cpu_seconds() - cpu_before) / seconds_since(measuring);

  const std::vector<Row> rows = summarize(times, plan, options.runs);
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
  struct Options : BenchOptions {
    ThroughputOptions throughput;
    std::filesystem::path before, after;
    bool count = false;
  };
  auto options = std::make_shared<Options>();
  app.add_option("-m,--model", options->model, "Model to measure");
  app.add_option("--random", options->random, "Measure a full-size network with random weights instead: sd15, sd21 or sdxl")
      ->check(CLI::IsMember({"sd15", "sd21", "sdxl"}));
  app.add_option("--size", options->size, "Pixels along a side; the model's own when left out");
  app.add_option("--steps", options->steps, "Steps of a run")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--runs", options->runs, "Runs after the warm-up")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--guidance", options->guidance, "1 measures one branch instead of two")->capture_default_str();
  add_host_options(app, options->host);
  app.footer(R"(Examples, the first two needing no file:
  cudream bench --random sd15 --size 512 --steps 2 --runs 2
  cudream bench throughput --random sd15 --size 512 --runs 5 -o before.json
  cudream bench compare before.json after.json
  cudream bench verbs --random sd15 --steps 1
  CUDREAM_LIBCUDA=build/release/vgpu/libcuda.so.1 cudream bench verbs --virtual -m demo --size 64 --steps 1
  cudream bench load -m my-model)");
  const auto add = [&](const char* name, const char* summary) { return app.add_subcommand(name, summary)->fallthrough(); };
  const CLI::App* load = add("load", "Measure loading alone");
  CLI::App* verbs = add("verbs", "Measure every verb by itself");
  verbs->add_flag(
      "--virtual", options->count,
      "Measure nothing: one picture on the virtual GPU of the tests, which CUDREAM_LIBCUDA names, and what it counts of "
      "each verb's kernels, beside the least time by its card's data sheet (a roofline)");
  CLI::App* throughput = add("throughput", "Pictures a minute at several batch sizes, beside their quality");
  ThroughputOptions& t = options->throughput;
  throughput->add_option("--batches", t.batches, "Batch sizes")
      ->delimiter(',')
      ->check(CLI::Range(1, 64))
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
      ->capture_default_str();
  throughput->add_option("-o,--output", t.output, "Also write the result into this file, as JSON")->type_name("FILE");
  throughput
      ->add_option("--least-psnr", t.least_psnr, "Decibels a picture must have against the one made in float; below, exit 1")
      ->capture_default_str();
  CLI::App* compare = add("compare", "Whether two results of `bench throughput` differ, and by how much");
  compare->add_option("before", options->before, "Result of `bench throughput`, JSON")->required();
  compare->add_option("after", options->after, "Another one")->required();
  return [options, load, verbs, throughput, compare] {
    if (load->parsed()) return bench_load(*options);
    if (throughput->parsed()) return bench_throughput(*options, options->throughput);
    if (compare->parsed()) return bench_compare(options->before, options->after, options->host.json);
    if (verbs->parsed()) return options->count ? bench_virtual(*options) : bench_verbs(*options);
    return run(*options);
  };
}

}  // namespace cudream
