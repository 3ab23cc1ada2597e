// Opening what is measured, taking times, watching verbs, finding the roof.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "cli/bench.h"
#include "cli/session.h"

namespace cudream {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

constexpr int kRounds = 5;                              // the best of these counts
constexpr double kLongCall = 3e-4;                      // seconds: starting a shorter call is a part of its time
constexpr int64_t kLeastSide = 1024, kMostSide = 8192;  // of a square product
constexpr int64_t kLeastCopy = int64_t{64} << 20, kMostCopy = int64_t{512} << 20;  // bytes: a small one may stay in a cache

// 16-bit patterns that are normal numbers of either sign as f16, as bf16 and, in pairs, as f32: zeros would cost a card less
// power.
std::vector<uint16_t> numbers(int64_t count) {
  std::vector<uint16_t> made(static_cast<size_t>(count));
  uint32_t state = 1;
  for (uint16_t& bits : made) {
    state = state * 1664525 + 1013904223;
    bits = static_cast<uint16_t>(0x3800 | (state >> 31 << 15) | (state >> 16 & 0x3ff));
  }
  return made;
}

// Calls `verb` so often a round, and returns the least seconds of one call. What it makes is downloaded at the end of a round,
// since a device may still be at work when a verb returns.
double least_seconds(Ops& ops, const Shape& shape, int calls, const std::function<Tensor(View)>& verb) {
  double least = 0;
  const std::vector<uint16_t> values = numbers(shape.size() * size_of(ops.compute()) / 2);
  const auto body = [&] {
    const Tensor x = ops.make(ops.compute(), shape);
    if (!ops.rehearsing()) ops.device().upload(x, std::as_bytes(std::span(values)));
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

// Seconds of a product of square matrices.
double product_seconds(Ops& ops, int64_t side) {
  WeightStore store;
  const Linear layer = linear(store.root() / "peak", side, side, false);
  const std::vector<uint16_t> weights = numbers(side * side);
  store.fill(0, ops.device(), DType::f16, std::as_bytes(std::span(weights)));
  return least_seconds(ops, {1, side, side}, 8, [&](View x) { return ops.linear(x, layer); });
}

double copy_seconds(Ops& ops, int64_t bytes) {
  const int64_t rows = 1024, width = bytes / rows / size_of(ops.compute());
  return least_seconds(ops, {1, rows, width}, 4, [&](View x) { return ops.cast(x, x.dtype); });
}

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
  engine.forget_texts();
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

void watch_verbs(Engine& engine, const Job& job, const EachVerb& each) {
  std::string stage;
  engine.ops().set_watch([&](const Ops::Call& call, const std::function<void()>& carry_out) {
    const View& out = *call.views.front();
    finish(engine.device(), out);
    each({stage, call.verb, shapes_of(call)}, call.cost, [&] {
      carry_out();
      finish(engine.device(), out);
    });
  });
  engine.run({&job, 1}, {}, {.on_stage = [&](const std::string& next, int) { stage = next; }, .cancel = &stop_requested});
  engine.ops().set_watch({});
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
  Ops ops(device);
  int64_t side = kLeastSide, copied = kLeastCopy;
  double product = product_seconds(ops, side), copy = copy_seconds(ops, copied);
  while (product < kLongCall && side < kMostSide) product = product_seconds(ops, side *= 2);
  while (copy < kLongCall && copied < kMostCopy) copy = copy_seconds(ops, copied *= 2);
  const auto n = static_cast<double>(side);
  return {.gflops = 2e-9 * n * n * n / product, .gbytes = 2e-9 * static_cast<double>(copied) / copy};
}

}  // namespace cudream
