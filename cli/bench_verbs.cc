// cudream bench verbs: the time of every verb of a picture, by what it was asked for, one at a time on an otherwise idle device.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>
#include <vector>

#include "cli/bench.h"
#include "cli/session.h"
#include "runtime/engine.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

// Calls of one verb with one set of shapes, in one stage.
struct Asked {
  std::string stage, verb, shapes;
  Count one;  // of one call
  std::vector<double> seconds;

  double total() const {
    double sum = 0;
    for (const double s : seconds) sum += s;
    return sum;
  }
  double median() const { return seconds[seconds.size() / 2]; }  // once they are sorted
};

// "[2,64,64,320] = [2,64,64,640], weights [320,640,3,3] [320]"
std::string shapes_of(const Ops::Call& call) {
  std::string text = call.views.front()->shape.str() + " =";
  for (const View* v : call.views.subspan(1))
    if (*v) text += " " + v->shape.str();
  const char* before = ", weights ";
  for (const Weight* w : call.weights)
    if (w != nullptr) text += std::exchange(before, " ") + w->shape.str();
  return text;
}

// Waits for the work queued so far: bringing a value back does.
void finish(Device& device, const View& out) {
  std::array<std::byte, sizeof(double)> value{};
  device.download(std::span(value).first(static_cast<size_t>(size_of(out.dtype))), View(out.data, out.dtype, {1}));
}

std::vector<Asked> measure(Engine& engine, const Job& job, int runs) {
  std::map<std::tuple<std::string, std::string, std::string>, Asked> asked;
  std::string stage;
  bool warm = false;  // what a device or a library sets up on first use is no part of a verb
  engine.ops().set_watch([&](const Ops::Call& call, const std::function<void()>& carry_out) {
    finish(engine.device(), *call.views.front());
    const auto begun = Clock::now();
    carry_out();
    finish(engine.device(), *call.views.front());
    if (!warm) return;
    Asked& a = asked[{stage, call.verb, shapes_of(call)}];
    a.one = {1, call.cost.flops, call.cost.bytes};
    a.seconds.push_back(std::chrono::duration<double>(Clock::now() - begun).count());
  });
  const RunHooks hooks{.on_stage = [&](const std::string& next, int) { stage = next; }, .cancel = &stop_requested};
  for (int i = 0; i <= runs; i++, warm = true) engine.run({&job, 1}, {}, hooks);
  engine.ops().set_watch({});

  std::vector<Asked> found;
  for (auto& [key, a] : asked) {
    std::tie(a.stage, a.verb, a.shapes) = key;
    std::ranges::sort(a.seconds);
    found.push_back(std::move(a));
  }
  std::ranges::stable_sort(found, std::greater<>(), &Asked::total);
  return found;
}

void print(const std::vector<Asked>& all, int runs) {
  double sum = 0;
  for (const Asked& a : all) sum += a.total();
  fmt::print("{:<9}{:<12}{:>6}{:>12}{:>8}{:>10}{:>8}  {}\n", "stage", "verb", "calls", "median ms", "share", "GFLOP/s", "GB/s",
             "output = inputs, weights");
  for (const Asked& a : all)
    fmt::print("{:<9}{:<12}{:>6}{:>12.4f}{:>7.1f}%{:>10.1f}{:>8.1f}  {}\n", a.stage, a.verb,
               a.seconds.size() / static_cast<size_t>(runs), 1e3 * a.median(), 100 * a.total() / sum,
               a.one.flops / a.median() / 1e9, a.one.bytes / a.median() / 1e9, a.shapes);
  fmt::print(
      "{:.4f} s a picture in {} kinds of calls; each waits for the one before, so a picture made without waiting is faster\n",
      sum / runs, all.size());
}

void print_json(const std::vector<Asked>& all, const Device& device, int runs) {
  nlohmann::json j{{"device", device.info().kind},
                   {"description", device.info().description},
                   {"compute", name_of(device.info().compute)},
                   {"verbs", nlohmann::json::array()}};
  for (const Asked& a : all)
    j["verbs"].push_back({{"stage", a.stage},
                          {"verb", a.verb},
                          {"shapes", a.shapes},
                          {"calls", a.seconds.size() / static_cast<size_t>(runs)},
                          {"median_s", a.median()},
                          {"least_s", a.seconds.front()},
                          {"most_s", a.seconds.back()},
                          {"flops", a.one.flops},
                          {"bytes", a.one.bytes}});
  fmt::print("{}\n", j.dump());
}

}  // namespace

int bench_verbs(Engine& engine, const Job& job, int runs, bool json) {
  const std::vector<Asked> all = measure(engine, job, runs);
  if (json)
    print_json(all, engine.device(), runs);
  else
    print(all, runs);
  return 0;
}

}  // namespace cudream
