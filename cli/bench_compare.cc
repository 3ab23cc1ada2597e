// cudream bench compare: whether two results of `bench throughput` differ by more than chance.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/bench.h"
#include "cli/statistics.h"
#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace cudream {
namespace {

using nlohmann::json;

constexpr size_t kMostBytes = size_t{16} << 20;
constexpr double kSignificant = 0.05;
constexpr size_t kLeastRuns = 4;  // with fewer on both sides no order of two samples is rarer than 1 in 20

json read_result(const std::filesystem::path& file) {
  json result = json::parse(read_text(file, kMostBytes), nullptr, false);
  if (!result.is_object() || result.value("bench", "") != "throughput")
    throw fail(Code::bad_file, "{} is no result of `cudream bench throughput` (JSON)", file.string());
  return result;
}

// What must be the same for times to be comparable: the work.
void require_same_work(const json& before, const json& after) {
  for (const char* key : {"model", "width", "height", "steps", "guidance", "sampler"})
    if (before.at(key) != after.at(key))
      throw fail(Code::usage, "the results are of different work: {} is {} in one and {} in the other", key,
                 before.at(key).dump(), after.at(key).dump());
}

struct Difference {
  int batch = 0;
  std::vector<double> before, after;  // seconds of each run
  double faster = 0;                  // how many times as many pictures a minute
  double probability = 1;             // of so large a difference by chance
  std::string verdict() const {
    if (std::min(before.size(), after.size()) < kLeastRuns) return fmt::format("too few runs: {} are needed", kLeastRuns);
    if (probability >= kSignificant) return "no difference shown";
    return faster > 1 ? "faster" : "slower";
  }
};

std::vector<Difference> differences(const json& before, const json& after) {
  std::vector<Difference> all;
  std::vector<double> probabilities;
  for (const json& b : before.at("batches"))
    for (const json& a : after.at("batches")) {
      if (a.at("batch") != b.at("batch")) continue;
      Difference d{.batch = a.at("batch"), .before = b.at("runs_s"), .after = a.at("runs_s")};
      if (d.before.empty() || d.after.empty()) throw fail(Code::bad_file, "batch {} has no runs in one of the results", d.batch);
      d.faster = median(d.before) / median(d.after);
      probabilities.push_back(mann_whitney(d.before, d.after));
      all.push_back(std::move(d));
    }
  if (all.empty()) throw fail(Code::usage, "the results have no batch size in common");
  const std::vector<double> adjusted = holm(probabilities);
  for (size_t i = 0; i < all.size(); i++) all[i].probability = adjusted[i];
  return all;
}

double per_minute(const Difference& d, const std::vector<double>& runs) {
  return 60 * d.batch / median(runs);
}

void print(const json& before, const json& after, const std::vector<Difference>& all) {
  for (const char* key : {"version", "device", "description", "compute"})
    if (before.at(key) != after.at(key))
      fmt::print("{}: {}, then {}\n", key, printable(before.at(key).get<std::string>()),
                 printable(after.at(key).get<std::string>()));
  fmt::print("| batch | before, pictures/min | after | ratio | p | |\n|--:|--:|--:|--:|--:|---|\n");
  for (const Difference& d : all)
    fmt::print("| {} | {:.2f} (n {}) | {:.2f} (n {}) | {:.3f} | {:.3g} | {} |\n", d.batch, per_minute(d, d.before),
               d.before.size(), per_minute(d, d.after), d.after.size(), d.faster, d.probability, d.verdict());
  fmt::print("\nMedians; p by the test of Mann and Whitney, two-sided, corrected over the rows (Holm); significant below {}.\n",
             kSignificant);
}

void print_json(const std::vector<Difference>& all) {
  json rows = json::array();
  for (const Difference& d : all)
    rows.push_back({{"batch", d.batch},
                    {"before_per_minute", per_minute(d, d.before)},
                    {"after_per_minute", per_minute(d, d.after)},
                    {"ratio", d.faster},
                    {"p", d.probability},
                    {"verdict", d.verdict()}});
  fmt::print("{}\n", json{{"bench", "compare"}, {"batches", rows}}.dump());
}

}  // namespace

int bench_compare(const std::filesystem::path& before_file, const std::filesystem::path& after_file, bool as_json) {
  const json before = read_result(before_file), after = read_result(after_file);
  try {
    require_same_work(before, after);
    const std::vector<Difference> all = differences(before, after);
    if (as_json)
      print_json(all);
    else
      print(before, after, all);
  } catch (const json::exception& e) {
    throw fail(Code::bad_file, "{} or {}: {}", before_file.string(), after_file.string(), e.what());
  }
  return 0;
}

}  // namespace cudream
