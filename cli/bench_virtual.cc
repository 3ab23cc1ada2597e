// cudream bench verbs --virtual: what each verb's kernels do, as the virtual GPU of the tests counts it (tests/vgpu/README.md).
// Counted, not measured: no time in it is that of a card.
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/bench.h"
#include "cli/launch_report.h"
#include "core/error.h"

namespace cudream {
namespace {

using nlohmann::json;

constexpr double kSectorBytes = 32;

Error no_virtual_gpu() {
  return fail(Code::device,
              "--virtual counts on the virtual GPU of the tests: set CUDREAM_LIBCUDA to its libcuda.so.1 (build/release/vgpu)");
}

// Sums over launches.
struct Counted {
  int64_t launches = 0;
  int64_t mma_flops = 0;                            // of tensor-core instructions
  int64_t bytes = 0, sectors = 0;                   // of device memory: asked for; of 32 bytes, touched by each request of a warp
  int64_t shared_wavefronts = 0, shared_ideal = 0;  // passes over the banks of shared memory, and the fewest possible
  double least_us = 0;                              // by the roofline of each launch
  std::map<std::string, int64_t> instructions;      // of warps, by class
  std::map<std::string, double> roofline_us;        // by what takes it

  void add(const json& launch) {
    launches++;
    mma_flops += launch.at("mma_flops").get<int64_t>();
    bytes += launch.at("global_read_bytes").get<int64_t>() + launch.at("global_write_bytes").get<int64_t>();
    sectors += launch.at("global_read_sectors").get<int64_t>() + launch.at("global_write_sectors").get<int64_t>();
    shared_wavefronts += launch.at("shared_wavefronts").get<int64_t>();
    shared_ideal += launch.at("shared_ideal").get<int64_t>();
    for (const auto& [name, count] : launch.at("instructions").items()) instructions[name] += count.get<int64_t>();
    double longest = 0;
    for (const auto& [name, us] : launch.at("roofline_us").items()) {
      roofline_us[name] += us.get<double>();
      longest = std::max(longest, us.get<double>());
    }
    least_us += longest;
  }
  int64_t all_instructions() const {
    int64_t sum = 0;
    for (const auto& [name, count] : instructions) sum += count;
    return sum;
  }
  std::string bound() const {
    return std::ranges::max_element(roofline_us, {}, [](const auto& part) { return part.second; })->first;
  }
};

// Calls of one verb with one set of shapes, in one stage, and what its kernels did.
struct Verb {
  Count work;  // of all calls, by definition: useful FLOPs, and the bytes of what it reads and writes
  std::map<std::string, Counted> kernels;

  int64_t mma_flops() const {
    int64_t sum = 0;
    for (const auto& [name, kernel] : kernels) sum += kernel.mma_flops;
    return sum;
  }
};

struct Picture {
  std::map<AskedVerb, Verb> verbs;
  Counted all;
  int64_t calls = 0, uncounted = 0;  // uncounted: without a launch
};

Picture count_verbs(Engine& engine, const Job& job, LaunchReport& report) {
  Picture counted;
  watch_verbs(engine, job, [&](const AskedVerb& asked, const Count& cost, const std::function<void()>& carry_out) {
    report.take();  // of weights that were packed since the verb before
    carry_out();
    Verb& verb = counted.verbs[asked];
    verb.work.calls++;
    verb.work.flops += cost.flops;
    verb.work.bytes += cost.bytes;
    const std::vector<json> launches = report.take();
    for (const json& launch : launches) {
      verb.kernels[launch.at("kernel").get<std::string>()].add(launch);
      counted.all.add(launch);
    }
    counted.calls++;
    counted.uncounted += launches.empty();
  });
  return counted;
}

std::string ratio(double part, double whole) {
  return whole == 0 ? "-" : fmt::format("{:.2f}", part / whole);
}

// A kernel that served a verb.
struct Row {
  const AskedVerb& asked;
  const Verb& verb;
  const std::string& kernel;
  const Counted& counted;
};

void print(const Row& row, double all_us) {
  const Counted& c = row.counted;
  const auto instructions = static_cast<double>(c.all_instructions());
  const auto bytes = static_cast<double>(c.bytes), flops = static_cast<double>(c.mma_flops);
  fmt::print("{:<8} {:<11} {:<24} {:<7}{:>9}{:>11.3f}{:>7.1f}%{:>8}{:>9.4f}{:>8}{:>10}{:>10.3f}{:>9}{:>8}  {}\n", row.asked.stage,
             row.asked.verb, row.kernel, c.bound(), c.launches, c.least_us, 100 * c.least_us / all_us,
             ratio(c.roofline_us.at("tensor"), c.least_us), flops / 1e9,
             flops == 0 ? "-" : ratio(row.verb.work.flops, static_cast<double>(row.verb.mma_flops())),
             ratio(instructions, static_cast<double>(c.instructions.at("tensor"))), bytes / 1e6,
             ratio(kSectorBytes * static_cast<double>(c.sectors), bytes),
             ratio(static_cast<double>(c.shared_wavefronts), static_cast<double>(c.shared_ideal)), row.asked.shapes);
}

void print(const Picture& picture, const DeviceInfo& device) {
  fmt::print("{} ({}), {}: counted by the virtual GPU, and the least time that the card's data sheet leaves for it\n",
             device.kind, device.description, name_of(device.compute));
  fmt::print("{:<8} {:<11} {:<24} {:<7}{:>9}{:>11}{:>8}{:>8}{:>9}{:>8}{:>10}{:>10}{:>9}{:>8}  {}\n", "stage", "verb", "kernel",
             "bound", "launches", "least us", "share", "tensor", "GFLOP", "useful", "insn/mma", "MB", "sectors", "shared",
             "output = inputs, weights");
  std::vector<Row> rows;
  for (const auto& [asked, verb] : picture.verbs)
    for (const auto& [kernel, counted] : verb.kernels) rows.push_back({asked, verb, kernel, counted});
  std::vector<const Row*> sorted;
  sorted.reserve(rows.size());
  for (const Row& row : rows) sorted.push_back(&row);
  std::ranges::stable_sort(sorted, std::greater<>(), [](const Row* row) { return row->counted.least_us; });
  for (const Row* row : sorted) print(*row, picture.all.least_us);

  const auto instructions = static_cast<double>(picture.all.all_instructions());
  fmt::print("{} launches of {} verbs; at least {:.1f} us by the data sheet; {:.4g} warp instructions:", picture.all.launches,
             picture.calls, picture.all.least_us, instructions);
  for (const auto& [name, count] : picture.all.instructions)
    fmt::print(" {} {:.1f}%", name, 100 * static_cast<double>(count) / instructions);
  fmt::print("\n");
  if (picture.uncounted > 0) fmt::print("not counted: {} verbs that a library did\n", picture.uncounted);
}

json json_of(const Counted& c) {
  return {{"bound", c.bound()},
          {"launches", c.launches},
          {"least_us", c.least_us},
          {"roofline_us", c.roofline_us},
          {"instructions", c.instructions},
          {"mma_flops", c.mma_flops},
          {"bytes", c.bytes},
          {"sectors", c.sectors},
          {"shared_wavefronts", c.shared_wavefronts},
          {"shared_ideal", c.shared_ideal}};
}

void print_json(const Picture& picture, const DeviceInfo& device) {
  json j{{"device", device.kind},    {"description", device.description}, {"compute", name_of(device.compute)},
         {"counted", "virtual GPU"}, {"total", json_of(picture.all)},     {"uncounted_calls", picture.uncounted},
         {"verbs", json::array()}};
  for (const auto& [asked, verb] : picture.verbs) {
    json kernels = json::array();
    for (const auto& [name, counted] : verb.kernels) {
      kernels.push_back(json_of(counted));
      kernels.back()["kernel"] = name;
    }
    j["verbs"].push_back({{"stage", asked.stage},
                          {"verb", asked.verb},
                          {"shapes", asked.shapes},
                          {"calls", verb.work.calls},
                          {"flops", verb.work.flops},
                          {"bytes", verb.work.bytes},
                          {"kernels", std::move(kernels)}});
  }
  fmt::print("{}\n", j.dump());
}

}  // namespace

int bench_virtual(BenchOptions options) {
  std::string& device = options.host.device;
  if (device == "auto") device = "cuda";
  if (!device.starts_with("cuda"))
    throw fail(Code::usage, "--virtual counts what a GPU does, and --device {} is none: leave it out", device);
  const char* driver = std::getenv("CUDREAM_LIBCUDA");
  if (driver == nullptr || *driver == '\0') throw no_virtual_gpu();
  LaunchReport report;
  const std::unique_ptr<Engine> engine = open_engine(options);
  const Picture picture = count_verbs(*engine, bench_job(options, engine->spec()), report);
  if (picture.all.launches == 0) throw no_virtual_gpu();
  if (options.host.json)
    print_json(picture, engine->device().info());
  else
    print(picture, engine->device().info());
  return 0;
}

}  // namespace cudream
