// Opening a card, moving bytes, launching, recording.
#include "kernels/cuda/gpu.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "kernels/cuda/images.h"

namespace cudream {
namespace {

constexpr int kOldestCapability = 80;         // 8.0: bf16, asynchronous copies, and what compute_80 PTX asks for
constexpr unsigned kMostBlocks = 65535;       // of the second and third grid dimension
constexpr int kPlainSharedBytes = 48 * 1024;  // a kernel must ask for more

Driver open_built_driver() {
  if (kernel_images().empty())
    throw fail(Code::unsupported,
               "this build has no CUDA kernels: it was made without nvcc; build it with a CUDA toolkit, or use --device cpu");
  return open_driver("", kernel_images_version());
}

Driver::Pointer pointer(const void* at) {
  return reinterpret_cast<Driver::Pointer>(at);
}

}  // namespace

Gpu::Gpu(int ordinal) : driver_(open_built_driver()) {
  find_card(ordinal);
  driver_.check(driver_.context_retain(&current_, device_), "opening {}", name_);
  context_ = Owned<Driver::Device>(device_, driver_.context_release);
  use();
  stream_ = make_stream();
  load_kernels();
}

Gpu::~Gpu() {
  driver_.context_use(current_);
  driver_.stream_wait(stream_.get());
}

void Gpu::find_card(int ordinal) {
  int count = 0, major = 0, minor = 0, multiprocessors = 0, shared = 0, clock = 0, memory_clock = 0, memory_bits = 0, version = 0;
  driver_.check(driver_.device_count(&count), "counting GPUs");
  if (ordinal < 0 || ordinal >= count)
    throw fail(Code::device, "--device cuda:{}: this machine has {} CUDA device{}, numbered from 0", ordinal, count,
               count == 1 ? "" : "s");
  std::array<char, 256> text{};
  size_t bytes = 0;
  driver_.check(driver_.device_get(&device_, ordinal), "finding cuda:{}", ordinal);
  driver_.check(driver_.device_name(text.data(), static_cast<int>(text.size()), device_), "asking cuda:{} for its name", ordinal);
  driver_.check(driver_.device_memory(&bytes, device_), "asking cuda:{} for its memory", ordinal);
  for (const auto& [value, attribute] : {std::pair(&major, Driver::kCapabilityMajor),
                                         {&minor, Driver::kCapabilityMinor},
                                         {&multiprocessors, Driver::kMultiprocessors},
                                         {&shared, Driver::kSharedBytes},
                                         {&clock, Driver::kClock},
                                         {&memory_clock, Driver::kMemoryClock},
                                         {&memory_bits, Driver::kMemoryBits}})
    driver_.check(driver_.device_attribute(value, attribute, device_), "asking cuda:{} what it can do", ordinal);
  driver_.check(driver_.version(&version), "asking the driver for its version");

  name_ = fmt::format("cuda:{} ({}, compute capability {}.{})", ordinal, text.data(), major, minor);
  model_ = text.data();
  driver_version_ = fmt::format("{}.{}", version / 1000, version % 1000 / 10);
  memory_bytes_ = static_cast<int64_t>(bytes);
  card_ = card_of(10 * major + minor, multiprocessors, shared, clock, memory_clock, memory_bits);
  description_ = fmt::format("{}, compute capability {}.{}, {} multiprocessors, driver for CUDA {}", text.data(), major, minor,
                             multiprocessors, driver_version_);
  if (10 * major + minor < kOldestCapability)
    throw fail(Code::device, "{} is too old: compute capability 8.0 (2020) or newer is needed; use another GPU or --device cpu",
               name_);
}

void Gpu::load_kernels() {
  for (const KernelImage& image : kernel_images()) {
    Driver::Module module = nullptr;
    const Driver::Result result = driver_.module_load(&module, image.fatbin.data());
    if (result == Driver::kNoImage || result == Driver::kUnsupportedPtx)
      throw fail(Code::device,
                 "this program has no kernels in {} that {} runs with this driver: it holds {}; update the driver, or rebuild "
                 "with CUDREAM_CUDA_ARCHITECTURES for this card",
                 image.name, name_, kernel_images_targets());
    driver_.check(result, "loading the kernels of {} on {}", image.name, name_);
    modules_.emplace_back(module, driver_.module_unload);
    for (const Kernel& kernel : kernels()) {
      if (kernel.image != image.name) continue;
      Driver::Function function = nullptr;
      driver_.check(driver_.module_function(&function, module, kernel.name.c_str()), "finding {} on {}", kernel.name, name_);
      const auto most = static_cast<unsigned>(card_.shared_bytes - kReservedShared);
      if (const unsigned shared = std::min(kernel.dynamic_shared, most); shared > kPlainSharedBytes)
        driver_.check(driver_.function_attribute(function, Driver::kDynamicSharedBytes, static_cast<int>(shared)),
                      "giving {} shared memory on {}", kernel.name, name_);
      entries_[kernel.name] = {function, kernel.parameter_bytes};
    }
  }
  for (const Kernel& kernel : kernels())
    invariant(entries_.contains(kernel.name), "no image {} for the kernel {}", kernel.image, kernel.name);
}

Owned<Driver::Stream> Gpu::make_stream() {
  Driver::Stream stream = nullptr;
  driver_.check(driver_.stream_create(&stream, Driver::kNonBlocking), "opening a stream on {}", name_);
  return {stream, driver_.stream_destroy};
}

Owned<Driver::Event> Gpu::make_event() {
  Driver::Event event = nullptr;
  driver_.check(driver_.event_create(&event, Driver::kNoTiming), "making an event on {}", name_);
  return {event, driver_.event_destroy};
}

void Gpu::use() const {
  driver_.check(driver_.context_use(current_), "using {}", name_);
}

void* Gpu::allocate(int64_t bytes) {
  invariant(!recording_, "an allocation in a recording");
  use();
  Driver::Pointer at = 0;
  const Driver::Result result = driver_.allocate(&at, static_cast<size_t>(bytes));
  if (result == Driver::kOutOfMemory) {
    throw fail(Code::out_of_memory,
               "{} has no room for {} MiB more: {} of {} MiB are free; lower --width, --height or --batch, or close other "
               "programs that use the GPU",
               name_, (bytes + (1 << 20) - 1) >> 20, free_bytes() >> 20, memory_bytes_ >> 20);
  }
  driver_.check(result, "allocating {} bytes on {}", bytes, name_);
  return reinterpret_cast<void*>(at);  // NOLINT(performance-no-int-to-ptr): the driver counts addresses in integers
}

int64_t Gpu::free_bytes() const {
  use();
  size_t free = 0, total = 0;
  driver_.check(driver_.memory_info(&free, &total), "asking {} for its free memory", name_);
  return static_cast<int64_t>(free);
}

void* Gpu::allocate_host(int64_t bytes) {
  use();
  void* at = nullptr;
  driver_.check(driver_.allocate_host(&at, static_cast<size_t>(bytes), 0), "pinning {} MiB of the host's memory for {}",
                bytes >> 20, name_);
  return at;
}

void Gpu::release_host(void* at) noexcept {
  driver_.context_use(current_);
  driver_.stream_wait(stream_.get());
  driver_.release_host(at);
}

void Gpu::release(void* at) noexcept {
  driver_.context_use(current_);
  driver_.stream_wait(stream_.get());
  driver_.release(pointer(at));
}

void Gpu::upload(void* to, std::span<const std::byte> from) {
  invariant(!recording_, "an upload in a recording");
  use();
  driver_.check(driver_.copy_to_device(pointer(to), from.data(), from.size(), stream_.get()), "copying {} bytes to {}",
                from.size(), name_);
}

void Gpu::download(std::span<std::byte> to, const void* from) {
  invariant(!recording_, "a download in a recording");
  use();
  driver_.check(driver_.copy_to_host(to.data(), pointer(from), to.size(), stream_.get()), "copying {} bytes from {}", to.size(),
                name_);
  driver_.check(driver_.stream_wait(stream_.get()), "waiting for {}", name_);
}

void Gpu::start(const Launch& l, void* params, size_t bytes) {
  use();
  const auto found = entries_.find(l.kernel);
  invariant(found != entries_.end() && found->second.parameter_bytes == bytes, "no kernel {} with {} bytes of parameters",
            l.kernel, bytes);
  invariant(l.grid.y <= kMostBlocks && l.grid.z <= kMostBlocks, "{}: a grid of {} x {} x {}", l.kernel, l.grid.x, l.grid.y,
            l.grid.z);
  const auto function = found->second.function;
  const auto stream = stream_.get();
  driver_.check(l.cooperative
                    ? driver_.launch_cooperative(function, l.grid.x, l.grid.y, l.grid.z, l.block, 1, 1, l.shared, stream, &params)
                    : driver_.launch(function, l.grid.x, l.grid.y, l.grid.z, l.block, 1, 1, l.shared, stream, &params, nullptr),
                "starting {} on {}", l.kernel, name_);
}

double Gpu::seconds(const std::function<void()>& body) {
  use();
  const auto make = [this] {
    Driver::Event event = nullptr;
    driver_.check(driver_.event_create(&event, 0), "making an event on {}", name_);
    return Owned<Driver::Event>(event, driver_.event_destroy);
  };
  const Owned<Driver::Event> begin = make(), end = make();
  driver_.check(driver_.event_record(begin.get(), stream_.get()), "timing on {}", name_);
  body();
  driver_.check(driver_.event_record(end.get(), stream_.get()), "timing on {}", name_);
  driver_.check(driver_.event_wait(end.get()), "waiting for {}", name_);
  float milliseconds = 0;
  driver_.check(driver_.event_elapsed(&milliseconds, begin.get(), end.get()), "timing on {}", name_);
  return milliseconds * 1e-3;
}

// A capture of the stream, which the destructor ends if nobody did.
class Gpu::Capture {
 public:
  explicit Capture(Gpu& gpu) : gpu_(gpu) {
    gpu_.driver_.check(gpu_.driver_.capture_begin(gpu_.stream_.get(), Driver::kCaptureThisThread), "recording on {}", gpu_.name_);
    gpu_.recording_ = true;
  }
  ~Capture() {
    if (!gpu_.recording_) return;
    Driver::Graph graph = nullptr;
    gpu_.recording_ = false;
    if (gpu_.driver_.capture_end(gpu_.stream_.get(), &graph) == 0) gpu_.driver_.graph_destroy(graph);
  }
  Capture(const Capture&) = delete;
  Capture& operator=(const Capture&) = delete;

  Owned<Driver::Graph> end() {
    Driver::Graph graph = nullptr;
    gpu_.recording_ = false;
    gpu_.driver_.check(gpu_.driver_.capture_end(gpu_.stream_.get(), &graph), "recording on {}", gpu_.name_);
    return {graph, gpu_.driver_.graph_destroy};
  }

 private:
  Gpu& gpu_;
};

class Gpu::Recording final : public Replay {
 public:
  Recording(Gpu& gpu, const Owned<Driver::Graph>& graph) : gpu_(gpu) {
    Driver::GraphExec exec = nullptr;
    gpu_.driver_.check(gpu_.driver_.graph_instantiate(&exec, graph.get(), 0), "making a recording ready on {}", gpu_.name_);
    exec_ = Owned<Driver::GraphExec>(exec, gpu_.driver_.graph_exec_destroy);
  }
  void run() override {
    gpu_.use();
    gpu_.driver_.check(gpu_.driver_.graph_launch(exec_.get(), gpu_.stream_.get()), "replaying on {}", gpu_.name_);
  }

 private:
  Gpu& gpu_;
  Owned<Driver::GraphExec> exec_;
};

std::unique_ptr<Replay> Gpu::record(const std::function<void()>& body) {
  invariant(!recording_, "a recording within a recording");
  use();
  Capture capture(*this);
  body();
  auto recording = std::make_unique<Recording>(*this, capture.end());
  recording->run();
  return recording;
}

}  // namespace cudream
