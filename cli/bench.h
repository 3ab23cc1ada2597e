// What the measuring commands share: the engine under test, its times by stage, and the roof that rates are shares of.
#pragma once

#include <compare>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "cli/options.h"
#include "runtime/engine.h"

namespace cudream {

struct BenchOptions {
  HostOptions host;
  std::string model, random;  // random: the specification of a network with random weights, in place of a model
  int size = 0, steps = 4, runs = 3;
  double guidance = 7;
};

// What is measured, loaded.
std::unique_ptr<Engine> open_engine(const BenchOptions&);
// The job of a prompt at the size, steps and guidance asked for.
Job bench_job(const BenchOptions&, const ModelSpec&, const std::string& prompt = "a red house under a full moon",
              uint64_t seed = 0);

// Seconds of every stage; a step is one entry of "unet step", and the whole is "pass".
using Times = std::map<std::string, std::vector<double>>;
// One pass, whose prompts are read anew; its times are added to `times`.
std::vector<Image> measure(Engine&, std::span<const Job> jobs, Times& times);
// How the plan of a run names a stage of Times: its keys begin with this. Empty: none does.
std::string plan_prefix(const std::string& stage);
// What such stages of one pass compute and move, by verb.
Ops::Counts work_of(const Ops::Plan&, const std::string& prefix);
double flops(const Ops::Counts&);

// What a network asks of a device: "denoise", "conv2d", "[2,64,64,320] = [2,64,64,640], weights [320,640,3,3] [320]".
struct AskedVerb {
  std::string stage, verb, shapes;
  auto operator<=>(const AskedVerb&) const = default;  // NOLINT(modernize-use-nullptr): clang-tidy 14 sees a 0 in it
};
// Makes the job's picture, verb after verb, with nothing recorded. `each` is called in place of every verb while the device is
// idle; its `carry_out` does the verb's work and waits for it.
using EachVerb = std::function<void(const AskedVerb&, const Count& cost, const std::function<void()>& carry_out)>;
void watch_verbs(Engine&, const Job&, const EachVerb& each);

// What a device reaches: in a product and in a copy that are large enough to show it. No time is less than `seconds` of its work
// ("Roofline", Williams, Waterman and Patterson 2009).
struct Roof {
  double gflops = 0, gbytes = 0;  // a second
  double seconds(const Count& work) const { return std::max(work.flops / gflops, work.bytes / gbytes) * 1e-9; }
  double seconds(const Ops::Counts& work) const;  // verb after verb
};
Roof measured_roof(Device&);

// Loads a model `runs` times and prints bytes a second.
int bench_load(const BenchOptions&);

// Makes a picture `runs` times, after one to warm up, and prints what every verb took.
int bench_verbs(const BenchOptions&);

// Makes a picture once on the virtual GPU that CUDREAM_LIBCUDA names (tests/vgpu) and prints what it counted of each verb's
// kernels; nothing is measured. Throws Error(usage) for another device, and Error(device) where nothing counts.
int bench_virtual(BenchOptions);

// Pictures a minute at several batch sizes. The result as JSON (with host.json) or Markdown on standard output, and as JSON in
// `output` where that is given. Throws Error(internal) when a batch changes a picture, or when pictures are further from those
// made in float than `least_psnr`.
struct ThroughputOptions {
  std::vector<int> batches{1, 2, 4, 8};
  double least_psnr = 20;
  std::filesystem::path output;
};
int bench_throughput(const BenchOptions&, const ThroughputOptions&);

// Whether the second of two results of bench_throughput differs from the first. Throws Error(usage) for results of different
// jobs.
int bench_compare(const std::filesystem::path& before, const std::filesystem::path& after, bool as_json);

}  // namespace cudream
