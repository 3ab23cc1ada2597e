// cudream bench verbs: the time of every verb of a picture, by what it was asked for, one at a time on an otherwise idle device.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "cli/bench.h"
#include "runtime/engine.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

// Calls of one verb with one set of shapes, in one stage.
struct Measured {
  AskedVerb asked;
  Count one;  // of one call
  std::vector<double> seconds;

  double total() const {
    double sum = 0;
    for (const double s : seconds) sum += s;
    return sum;
  }
  double median() const { return seconds[seconds.size() / 2]; }  // once they are sorted
};

std::vector<Measured> measure_verbs(Engine& engine, const Job& job, int runs) {
  std::map<AskedVerb, Measured> measured;
  bool warm = false;  // what a device or a library sets up on first use is no part of a verb
  const auto each = [&](const AskedVerb& asked, const Count& cost, const std::function<void()>& carry_out) {
    const auto begun = Clock::now();
    carry_out();
    if (!warm) return;
    Measured& m = measured[asked];
    m.one = {1, cost.flops, cost.bytes};
    m.seconds.push_back(std::chrono::duration<double>(Clock::now() - begun).count());
  };
  for (int i = 0; i <= runs; i++, warm = true) watch_verbs(engine, job, each);

  std::vector<Measured> found;
  for (auto& [asked, m] : measured) {
    m.asked = asked;
    std::ranges::sort(m.seconds);
    found.push_back(std::move(m));
  }
  std::ranges::stable_sort(found, std::greater<>(), &Measured::total);
  return found;
}

void print(const std::vector<Measured>& all, int runs) {
  double sum = 0;
  for (const Measured& m : all) sum += m.total();
  fmt::print("{:<9}{:<12}{:>6}{:>12}{:>8}{:>10}{:>8}  {}\n", "stage", "verb", "calls", "median ms", "share", "GFLOP/s", "GB/s",
             "output = inputs, weights");
  for (const Measured& m : all)
    fmt::print("{:<9}{:<12}{:>6}{:>12.4f}{:>7.1f}%{:>10.1f}{:>8.1f}  {}\n", m.asked.stage, m.asked.verb,
               m.seconds.size() / static_cast<size_t>(runs), 1e3 * m.median(), 100 * m.total() / sum,
               m.one.flops / m.median() / 1e9, m.one.bytes / m.median() / 1e9, m.asked.shapes);
  fmt::print(
      "{:.4f} s a picture in {} kinds of calls; each waits for the one before, so a picture made without waiting is faster\n",
      sum / runs, all.size());
}

void print_json(const std::vector<Measured>& all, const Device& device, int runs) {
  nlohmann::json j{{"device", device.info().kind},
                   {"description", device.info().description},
                   {"compute", name_of(device.info().compute)},
                   {"verbs", nlohmann::json::array()}};
  for (const Measured& m : all)
    j["verbs"].push_back({{"stage", m.asked.stage},
                          {"verb", m.asked.verb},
                          {"shapes", m.asked.shapes},
                          {"calls", m.seconds.size() / static_cast<size_t>(runs)},
                          {"median_s", m.median()},
                          {"least_s", m.seconds.front()},
                          {"most_s", m.seconds.back()},
                          {"flops", m.one.flops},
                          {"bytes", m.one.bytes}});
  fmt::print("{}\n", j.dump());
}

}  // namespace

int bench_verbs(const BenchOptions& options) {
  const std::unique_ptr<Engine> engine = open_engine(options);
  const std::vector<Measured> all = measure_verbs(*engine, bench_job(options, engine->spec()), options.runs);
  if (options.host.json)
    print_json(all, engine->device(), options.runs);
  else
    print(all, options.runs);
  return 0;
}

}  // namespace cudream
