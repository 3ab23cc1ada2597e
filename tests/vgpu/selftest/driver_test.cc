// The virtual driver: deferred streams, events, captures and graphs, injected failures, cards, images, reports. What depends
// on the environment runs in a process of its own.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/vgpu/selftest/virtual_card.h"

namespace cudream::vgpu {
namespace {

class Streams : public testing::Test {
 protected:
  void SetUp() override {
    card.load("kernels.ptx");
    check(cuStreamCreate(&first, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
    check(cuStreamCreate(&second, CU_STREAM_NON_BLOCKING), "cuStreamCreate");
  }
  void TearDown() override {
    cuStreamDestroy(first);
    cuStreamDestroy(second);
  }
  // c = a + b, queued.
  CUresult add(CUstream stream, CUdeviceptr a, CUdeviceptr b, CUdeviceptr c, int n = 64) const {
    void* parameters[] = {&a, &b, &c, &n};
    return cuLaunchKernel(card.function("add"), static_cast<unsigned>(n + 63) / 64, 1, 1, 64, 1, 1, 0, stream, parameters,
                          nullptr);
  }

  VirtualCard card;
  CUstream first = nullptr, second = nullptr;
};

// A pinned array of floats.
class Pinned {
 public:
  explicit Pinned(size_t n) { check(cuMemHostAlloc(&start_, n * sizeof(float), 0), "cuMemHostAlloc"); }
  ~Pinned() { cuMemFreeHost(start_); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  float* get() const { return static_cast<float*>(start_); }

 private:
  void* start_ = nullptr;
};

TEST_F(Streams, WorkRunsWhenItIsWaitedForAndNotBefore) {
  CardArray<float> x(std::vector<float>(64, 2.0f)), y(64);
  Pinned host(64);
  ASSERT_EQ(add(first, x.get(), x.get(), y.get()), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyDtoHAsync(host.get(), y.get(), 64 * sizeof(float), first), CUDA_SUCCESS);
  EXPECT_TRUE(std::isnan(host.get()[0])) << "pinned memory is poisoned, and the copy must not have run";
  EXPECT_EQ(cuStreamQuery(first), CUDA_ERROR_NOT_READY);
  ASSERT_EQ(cuStreamSynchronize(second), CUDA_SUCCESS);
  EXPECT_TRUE(std::isnan(host.get()[0])) << "another stream was waited for";
  ASSERT_EQ(cuStreamSynchronize(first), CUDA_SUCCESS);
  EXPECT_EQ(host.get()[63], 4.0f);
  EXPECT_EQ(cuStreamQuery(first), CUDA_SUCCESS);
}

TEST_F(Streams, PinnedSourcesAreReadLateAndPageableOnesAtTheCall) {
  CardArray<float> x(64), y(64);
  Pinned pinned(64);
  std::vector<float> pageable(64, 1.0f);
  std::fill_n(pinned.get(), 64, 1.0f);
  ASSERT_EQ(cuMemcpyHtoDAsync(x.get(), pinned.get(), 256, first), CUDA_SUCCESS);
  ASSERT_EQ(cuMemcpyHtoDAsync(y.get(), pageable.data(), 256, first), CUDA_SUCCESS);
  std::fill_n(pinned.get(), 64, 5.0f);
  std::fill(pageable.begin(), pageable.end(), 5.0f);
  ASSERT_EQ(cuStreamSynchronize(first), CUDA_SUCCESS);
  EXPECT_EQ(x.values()[0], 5.0f);
  EXPECT_EQ(y.values()[0], 1.0f);
}

TEST_F(Streams, EventsOrderStreams) {
  CardArray<float> x(std::vector<float>(64, 1.0f)), y(64), z(64);
  CUevent event = nullptr;
  ASSERT_EQ(cuEventCreate(&event, CU_EVENT_DEFAULT), CUDA_SUCCESS);
  ASSERT_EQ(add(first, x.get(), x.get(), y.get()), CUDA_SUCCESS);
  ASSERT_EQ(cuEventRecord(event, first), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamWaitEvent(second, event, 0), CUDA_SUCCESS);
  ASSERT_EQ(add(second, y.get(), x.get(), z.get()), CUDA_SUCCESS);
  EXPECT_EQ(cuEventQuery(event), CUDA_ERROR_NOT_READY);
  ASSERT_EQ(cuStreamSynchronize(second), CUDA_SUCCESS);
  EXPECT_EQ(cuEventQuery(event), CUDA_SUCCESS);
  EXPECT_EQ(z.values()[5], 3.0f);
  float milliseconds = -1;
  EXPECT_EQ(cuEventElapsedTime(&milliseconds, event, event), CUDA_SUCCESS);
  EXPECT_EQ(milliseconds, 0.0f);
  EXPECT_EQ(cuEventDestroy(event), CUDA_SUCCESS);
}

TEST_F(Streams, AGraphReplaysWhatWasCapturedOnTwoStreams) {
  CardArray<float> x(std::vector<float>(64, 1.0f)), y(std::vector<float>(64, 0.0f)), z(std::vector<float>(64, 0.0f));
  CUevent fork = nullptr, join = nullptr;
  ASSERT_EQ(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  ASSERT_EQ(cuEventCreate(&join, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL), CUDA_SUCCESS);
  ASSERT_EQ(add(first, y.get(), x.get(), y.get()), CUDA_SUCCESS);
  ASSERT_EQ(cuEventRecord(fork, first), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamWaitEvent(second, fork, 0), CUDA_SUCCESS);
  ASSERT_EQ(add(second, z.get(), y.get(), z.get()), CUDA_SUCCESS);
  ASSERT_EQ(cuEventRecord(join, second), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamWaitEvent(first, join, 0), CUDA_SUCCESS);
  CUgraph graph = nullptr;
  ASSERT_EQ(cuStreamEndCapture(first, &graph), CUDA_SUCCESS);
  size_t nodes = 0;
  ASSERT_EQ(cuGraphGetNodes(graph, nullptr, &nodes), CUDA_SUCCESS);
  EXPECT_EQ(nodes, 2u);
  EXPECT_EQ(y.values()[0], 0.0f) << "capturing runs nothing";
  CUgraphExec executable = nullptr;
  ASSERT_EQ(cuGraphInstantiate(&executable, graph, 0), CUDA_SUCCESS);
  ASSERT_EQ(cuGraphDestroy(graph), CUDA_SUCCESS);
  for (int i = 0; i < 3; i++) ASSERT_EQ(cuGraphLaunch(executable, first), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamSynchronize(first), CUDA_SUCCESS);
  EXPECT_EQ(y.values()[0], 3.0f);
  EXPECT_EQ(z.values()[0], 6.0f);
  EXPECT_EQ(cuGraphExecDestroy(executable), CUDA_SUCCESS);
}

TEST_F(Streams, CallsThatACaptureForbidsFailAndEndIt) {
  CardArray<float> x(std::vector<float>(64, 1.0f));
  CUgraph graph = nullptr;
  CUdeviceptr p = 0;
  EXPECT_EQ(cuStreamBeginCapture(nullptr, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  ASSERT_EQ(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  EXPECT_EQ(cuStreamSynchronize(first), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT_EQ(cuStreamEndCapture(first, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  ASSERT_EQ(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  EXPECT_EQ(cuMemAlloc(&p, 64), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT_EQ(cuStreamEndCapture(first, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  EXPECT_EQ(cuStreamEndCapture(first, &graph), CUDA_ERROR_ILLEGAL_STATE);
  // Work on a second stream that never comes back.
  CUevent fork = nullptr;
  ASSERT_EQ(cuEventCreate(&fork, CU_EVENT_DISABLE_TIMING), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamBeginCapture(first, CU_STREAM_CAPTURE_MODE_GLOBAL), CUDA_SUCCESS);
  ASSERT_EQ(cuEventRecord(fork, first), CUDA_SUCCESS);
  ASSERT_EQ(cuStreamWaitEvent(second, fork, 0), CUDA_SUCCESS);
  ASSERT_EQ(add(second, x.get(), x.get(), x.get()), CUDA_SUCCESS);
  EXPECT_EQ(cuStreamEndCapture(first, &graph), CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
}

TEST_F(Streams, IllegalLaunchesAreRefused) {
  CardArray<float> x(std::vector<float>(64, 1.0f));
  CUdeviceptr p = x.get();
  int n = 64;
  void* parameters[] = {&p, &p, &p, &n};
  const CUfunction f = card.function("add");
  EXPECT_EQ(cuLaunchKernel(f, 0, 1, 1, 64, 1, 1, 0, first, parameters, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuLaunchKernel(f, 1, 1, 1, 1025, 1, 1, 0, first, parameters, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuLaunchKernel(f, 1, 65536, 1, 64, 1, 1, 0, first, parameters, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 50000, first, parameters, nullptr), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 1 << 20), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 50000), CUDA_SUCCESS);
  EXPECT_EQ(cuLaunchKernel(f, 1, 1, 1, 64, 1, 1, 50000, first, parameters, nullptr), CUDA_SUCCESS);
  EXPECT_EQ(cuStreamSynchronize(first), CUDA_SUCCESS);
  EXPECT_EQ(cuMemcpyHtoD(p + 4, parameters, 256), CUDA_ERROR_INVALID_VALUE) << "beyond the end";
  EXPECT_EQ(cuMemFree(p + 4), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(Streams, GlobalsCanBeFoundAndFilled) {
  CUmodule module = nullptr;
  const std::string text = ".version 9.0\n.target sm_80\n.address_size 64\n.global .align 4 .u32 table[3] = {7, 0x10, 0};\n";
  ASSERT_EQ(cuModuleLoadData(&module, text.c_str()), CUDA_SUCCESS);
  CUdeviceptr p = 0;
  size_t bytes = 0;
  ASSERT_EQ(cuModuleGetGlobal(&p, &bytes, module, "table"), CUDA_SUCCESS);
  ASSERT_EQ(bytes, 12u);
  std::array<uint32_t, 3> values{};
  ASSERT_EQ(cuMemcpyDtoH(values.data(), p, bytes), CUDA_SUCCESS);
  EXPECT_EQ(values, (std::array<uint32_t, 3>{7, 16, 0}));
  EXPECT_EQ(cuModuleGetGlobal(&p, &bytes, module, "other"), CUDA_ERROR_NOT_FOUND);
  CUfunction f = nullptr;
  EXPECT_EQ(cuModuleGetFunction(&f, module, "none"), CUDA_ERROR_NOT_FOUND);
  EXPECT_EQ(cuModuleUnload(module), CUDA_SUCCESS);
}

// A fat binary with entries for two architectures: the newest that the card can run is taken, machine code is passed over.
TEST_F(Streams, FatBinariesGiveTheirPtx) {
  const auto entry = [](uint16_t kind, uint32_t arch, const std::string& payload) {
    std::string bytes(64, '\0');
    const uint32_t header = 64;
    const uint64_t size = payload.size();
    std::memcpy(bytes.data(), &kind, 2);
    std::memcpy(bytes.data() + 4, &header, 4);
    std::memcpy(bytes.data() + 8, &size, 8);
    std::memcpy(bytes.data() + 28, &arch, 4);
    return bytes + payload;
  };
  const auto ptx = [](const char* name) {
    return fmt::format("\n\n.version 9.0\n.target sm_80\n.address_size 64\n.visible .entry {}() {{\nret;\n}}\n", name) +
           std::string(5, '\0');
  };
  const std::string entries = entry(2, 80, "\177ELF machine code") + entry(1, 75, ptx("older")) + entry(1, 80, ptx("fitting")) +
                              entry(1, 90, ptx("newer"));
  std::string image(16, '\0');
  const uint32_t magic = 0xba55ed50;
  const uint16_t version = 1, header = 16;
  const uint64_t size = entries.size();
  std::memcpy(image.data(), &magic, 4);
  std::memcpy(image.data() + 4, &version, 2);
  std::memcpy(image.data() + 6, &header, 2);
  std::memcpy(image.data() + 8, &size, 8);
  image += entries;
  CUmodule module = nullptr;
  CUfunction f = nullptr;
  ASSERT_EQ(cuModuleLoadData(&module, image.data()), CUDA_SUCCESS);
  EXPECT_EQ(cuModuleGetFunction(&f, module, "fitting"), CUDA_SUCCESS);
  EXPECT_EQ(cuModuleGetFunction(&f, module, "newer"), CUDA_ERROR_NOT_FOUND);
}

// --- Processes of their own -------------------------------------------------------------------------------------------

int exit_status(bool as_expected) {
  return as_expected ? 0 : 1;
}

[[noreturn]] void fail_second_allocation() {
  setenv("CUDREAM_VGPU_FAIL_ALLOC", "2", 1);
  const VirtualCard card;
  CUdeviceptr p = 0;
  const bool first = cuMemAlloc(&p, 64) == CUDA_SUCCESS, second = cuMemAlloc(&p, 64) == CUDA_ERROR_OUT_OF_MEMORY;
  std::_Exit(exit_status(first && second && cuMemAlloc(&p, 64) == CUDA_SUCCESS));
}
[[noreturn]] void fill_memory() {
  setenv("CUDREAM_VGPU_MEMORY", "8", 1);
  const VirtualCard card;
  CUdeviceptr p = 0, q = 0;
  const bool fits = cuMemAlloc(&p, 6 << 20) == CUDA_SUCCESS, full = cuMemAlloc(&q, 3 << 20) == CUDA_ERROR_OUT_OF_MEMORY;
  size_t free_bytes = 0, total = 0;
  check(cuMemGetInfo(&free_bytes, &total), "cuMemGetInfo");
  check(cuMemFree(p), "cuMemFree");
  std::_Exit(exit_status(fits && full && total == 8 << 20 && free_bytes == 2 << 20 && cuMemAlloc(&q, 3 << 20) == CUDA_SUCCESS));
}
[[noreturn]] void fail_second_launch() {
  setenv("CUDREAM_VGPU_FAIL_LAUNCH", "2", 1);
  VirtualCard card;
  card.load("kernels.ptx");
  CardArray<float> x(std::vector<float>(64, 1.0f));
  const bool first =
      card.launch("add", 1, 64, 0, x.get(), x.get(), x.get(), 64) == CUDA_SUCCESS && cuCtxSynchronize() == CUDA_SUCCESS;
  const bool queued = card.launch("add", 1, 64, 0, x.get(), x.get(), x.get(), 64) == CUDA_SUCCESS;
  std::_Exit(exit_status(first && queued && cuCtxSynchronize() == CUDA_ERROR_LAUNCH_FAILED &&
                         cuCtxSynchronize() == CUDA_ERROR_LAUNCH_FAILED));
}
[[noreturn]] void two_cards() {
  setenv("CUDREAM_VGPU_DEVICES", "4090,h100", 1);
  VirtualCard card;
  card.load("kernels.ptx");
  int count = 0, major = 0, minor = 0, processors = 0;
  check(cuDeviceGetCount(&count), "cuDeviceGetCount");
  check(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0), "cuDeviceGetAttribute");
  check(cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 0), "cuDeviceGetAttribute");
  check(cuDeviceGetAttribute(&processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 1), "cuDeviceGetAttribute");
  // Memory of one card is no memory of the other.
  CUcontext other = nullptr;
  check(cuDevicePrimaryCtxRetain(&other, 1), "cuDevicePrimaryCtxRetain");
  check(cuCtxSetCurrent(other), "cuCtxSetCurrent");
  CUdeviceptr foreign = 0;
  check(cuMemAlloc(&foreign, 256), "cuMemAlloc");
  CUcontext own = nullptr;
  check(cuDevicePrimaryCtxRetain(&own, 0), "cuDevicePrimaryCtxRetain");
  check(cuCtxSetCurrent(own), "cuCtxSetCurrent");
  check(card.launch("add", 1, 64, 0, foreign, foreign, foreign, 64), "add");
  std::_Exit(exit_status(count == 2 && major == 8 && minor == 9 && processors == 132 &&
                         cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS));
}
[[noreturn]] void new_context_after_a_fault() {
  VirtualCard card;
  card.load("kernels.ptx");
  CUdeviceptr p = 0;
  check(cuMemAlloc(&p, 256), "cuMemAlloc");
  check(card.launch("add", 1, 64, 0, p, p, p, 64), "add");
  const bool failed = cuCtxSynchronize() == CUDA_ERROR_LAUNCH_FAILED;
  check(cuDevicePrimaryCtxRelease(0), "cuDevicePrimaryCtxRelease");
  const bool gone = cuCtxSynchronize() == CUDA_ERROR_INVALID_CONTEXT;
  const VirtualCard again;
  std::_Exit(exit_status(failed && gone && cuCtxSynchronize() == CUDA_SUCCESS));
}
[[noreturn]] void no_card() {
  setenv("CUDREAM_VGPU_DEVICES", "none", 1);
  std::_Exit(exit_status(cuInit(0) == CUDA_ERROR_NO_DEVICE));
}
[[noreturn]] void unknown_instruction() {
  const VirtualCard card;
  CUmodule module = nullptr;
  const char* text =
      ".version 9.0\n.target sm_80\n.address_size 64\n.visible .entry k() {\n.reg .f32 %f<2>;\nadd.rn.strange.f32 %f0, %f1, "
      "%f1;\nret;\n}\n";
  std::_Exit(exit_status(cuModuleLoadData(&module, text) == CUDA_ERROR_INVALID_PTX));
}

TEST(Injection, FailuresAndCards) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(fail_second_allocation(), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(fill_memory(), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(fail_second_launch(), testing::ExitedWithCode(0), "launch 2 of kernel add fails");
  EXPECT_EXIT(two_cards(), testing::ExitedWithCode(0), "on device 1");
  EXPECT_EXIT(new_context_after_a_fault(), testing::ExitedWithCode(0), "256 bytes of device 0 were not freed");
  EXPECT_EXIT(no_card(), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(unknown_instruction(), testing::ExitedWithCode(0),
              "kernel k, PTX line 6: unknown modifier .strange: add.rn.strange.f32");
}

[[noreturn]] void write_report(const std::string& path) {
  setenv("CUDREAM_VGPU_REPORT", path.c_str(), 1);
  VirtualCard card;
  card.load("kernels.ptx");
  CardArray<float> x(std::vector<float>(4096, 1.0f)), y(4096);
  check(card.launch("add", 16, 256, 0, x.get(), x.get(), y.get(), 4096), "add");
  CardArray<uint16_t> a(std::vector<uint16_t>(64 * 64, 0));
  CardArray<float> c(64 * 64);
  check(card.launch("product_f16", 1, 128, 0, a.get(), a.get(), c.get(), 64), "product_f16");
  check(cuCtxSynchronize(), "cuCtxSynchronize");
  std::_Exit(0);
}

TEST(Report, CountsWhatALaunchDoes) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const std::string path = testing::TempDir() + "vgpu_report.jsonl";
  std::filesystem::remove(path);
  EXPECT_EXIT(write_report(path), testing::ExitedWithCode(0), "");
  std::ifstream in(path);
  std::string line;
  ASSERT_TRUE(std::getline(in, line));
  const auto add = nlohmann::json::parse(line);
  EXPECT_EQ(add["kernel"], "add");
  EXPECT_EQ(add["grid"], (std::vector<int>{16, 1, 1}));
  EXPECT_EQ(add["global_read_bytes"], 2 * 4 * 4096);
  EXPECT_EQ(add["global_write_bytes"], 4 * 4096);
  EXPECT_EQ(add["global_read_sectors"], 2 * 4 * 4096 / 32) << "every sector once, each 32 bytes used";
  EXPECT_EQ(add["instructions"]["float"], 16 * 8) << "one add in each of 128 warps";
  ASSERT_TRUE(std::getline(in, line));
  const auto product = nlohmann::json::parse(line);
  EXPECT_EQ(product["mma_flops"], 2 * 64 * 64 * 64);
  EXPECT_EQ(product["instructions"]["tensor"], 4 * 4 * 8);
  EXPECT_EQ(add["bound"], "memory");
  EXPECT_NEAR(add["roofline_us"]["memory"], 3 * 4 * 4096 / (1593e6 * 2 * 5120 / 8) * 1e6, 1e-3) << "of an A100";
  EXPECT_NEAR(product["roofline_us"]["tensor"], 2 * 64 * 64 * 64 / (108 * 1.41e9 * 2048) * 1e6, 1e-3);
  EXPECT_EQ(product["shared_wavefronts"], product["shared_ideal"]) << "the swizzle leaves no bank conflicts";
}

}  // namespace
}  // namespace cudream::vgpu
