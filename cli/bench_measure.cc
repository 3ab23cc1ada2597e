// Opening what is measured, taking times, finding the roof.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "cli/bench.h"
#include "cli/session.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

constexpr int kRounds = 5;  // the best of these is the roof

// Calls `verb` so often a round, and returns the least seconds of one call. What it makes is downloaded at the end of a round,
// since a device may still be at work when a verb returns.
double least_seconds(Ops& ops, const Shape& shape, int calls, const std::function<Tensor(View)>& verb) {
  double least = 0;
  const auto body = [&] {
    const Tensor x = ops.make(ops.compute(), shape);
    if (!ops.rehearsing()) ops.device().upload(x, std::vector<std::byte>(static_cast<size_t>(x.view().bytes())));
    const float zero = 0;
    const Tensor sign = ops.upload(DType::f32, {1}, std::span(&zero, 1));
    for (int round = 0; round < kRounds; round++) {
      const auto begun = Clock::now();
      for (int i = 0; i < calls; i++) verb(x);
      ops.download(sign);
      const double seconds = seconds_since(begun) / calls;
      if (!ops.rehearsing() && (least == 0 || seconds < least)) least = seconds;
    }
  };
  const Ops::Plan plan = ops.rehearse(body);
  ops.run(plan, body);
  return least;
}

}  // namespace

std::unique_ptr<Engine> open_engine(const BenchOptions& options) {
  auto engine = std::make_unique<Engine>(open_device(options.host.device_options()));
  if (options.random.empty())
    engine->load(open_chosen(options.host, choose_model(options.host, options.model, Task::generate), ""),
                 {.in_turn = options.host.offload, .reading = reading_named(options.host.loader)});
  else
    engine->load_random(random_spec(options.random));
  return engine;
}

Job bench_job(const BenchOptions& options, const ModelSpec& spec, const std::string& prompt, uint64_t seed) {
  Job job{.prompt = prompt,
          .negative = "blurry",
          .seed = seed,
          .width = options.size,
          .height = options.size,
          .steps = options.steps,
          .guidance = options.guidance};
  complete(job, spec, [&](const std::string& text) { options.host.notice(text); });
  return job;
}

std::vector<Image> measure(Engine& engine, std::span<const Job> jobs, Times& times) {
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
  std::vector<Image> made = engine.run(jobs, {}, hooks).images;
  close();
  times["pass"].push_back(seconds_since(whole));
  return made;
}

std::string plan_prefix(const std::string& stage) {
  if (stage == "unet step") return "unet";
  return stage == "text" || stage == "decode" ? stage : "";
}

Ops::Counts work_of(const Ops::Plan& plan, const std::string& prefix) {
  Ops::Counts all;
  for (const auto& [key, stage] : plan.stages)
    if (!prefix.empty() && key.starts_with(prefix))
      for (const auto& [verb, count] : stage.counts) {
        Count& c = all[verb];
        c.calls += count.calls * stage.runs;
        c.flops += count.flops * static_cast<double>(stage.runs);
        c.bytes += count.bytes * static_cast<double>(stage.runs);
      }
  return all;
}

double flops(const Ops::Counts& work) {
  double all = 0;
  for (const auto& [verb, count] : work) all += count.flops;
  return all;
}

double Roof::seconds(const Ops::Counts& work) const {
  double all = 0;
  for (const auto& [verb, count] : work) all += seconds(count);
  return all;
}

Roof measured_roof(Device& device) {
  constexpr int64_t kRows = 1024, kWidth = 1024;  // small enough to stay in a processor's caches
  constexpr int64_t kCopied = int64_t{64} << 20;  // bytes: large enough to leave them
  const std::vector<float> weights(kWidth * kWidth, 0.01f);
  WeightStore store;
  const Linear layer = linear(store.root() / "peak", kWidth, kWidth, false);
  store.fill(0, device, DType::f32, std::as_bytes(std::span(weights)));
  Ops ops(device);
  const double product = least_seconds(ops, {1, kRows, kWidth}, 8, [&](View x) { return ops.linear(x, layer); });
  const auto width = kCopied / 1024 / static_cast<int64_t>(size_of(ops.compute()));
  const double copy = least_seconds(ops, {1, 1024, width}, 4, [&](View x) { return ops.cast(x, x.dtype); });
  return {.gflops = 2e-9 * kRows * kWidth * kWidth / product, .gbytes = 2e-9 * static_cast<double>(kCopied) / copy};
}

}  // namespace cudream
