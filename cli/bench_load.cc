// cudream bench load: how fast a model's weights reach the device, beside plain copies of the same bytes.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/bench.h"
#include "cli/session.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds to copy the whole of a file through a buffer of 1 MiB: what reading alone costs.
double copy_seconds(const MappedFile& map) {
  std::vector<std::byte> buffer(1 << 20);
  const auto begun = Clock::now();
  for (size_t at = 0; at < map.size(); at += buffer.size())
    map.read(std::span(buffer).first(std::min(buffer.size(), map.size() - at)), at);
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

}  // namespace

int bench_load(const BenchOptions& options) {
  const HostOptions& host = options.host;
  const Model model = open_chosen(host, choose_model(host, options.model, Task::generate), "");
  Engine engine(open_device(host.device_options()));
  for (int i = 0; i < options.runs; i++) {
    double copied = 0;
    uint64_t file_bytes = 0;
    for (const auto& file : model.files()) {
      copied += copy_seconds(file->map());
      file_bytes += file->map().size();
    }
    const LoadReport report = engine.load(model, {.in_turn = host.offload, .reading = reading_named(host.loader)});
    const double rate = static_cast<double>(report.bytes) / report.seconds / 1e9,
                 copy_rate = static_cast<double>(file_bytes) / copied / 1e9;
    if (host.json)
      fmt::print("{}\n", nlohmann::json{{"device", engine.device().info().kind},
                                        {"reading", name_of(report.reading)},
                                        {"bytes", report.bytes},
                                        {"seconds", report.seconds},
                                        {"gb_per_s", rate},
                                        {"memcpy_gb_per_s", copy_rate}}
                             .dump());
    else
      fmt::print("{}: {:.2f} GB in {:.3f} s, {:.2f} GB/s ({}); memcpy through 1 MiB {:.2f} GB/s\n", engine.device().info().kind,
                 static_cast<double>(report.bytes) / 1e9, report.seconds, rate, name_of(report.reading), copy_rate);
  }
  return 0;
}

}  // namespace cudream
