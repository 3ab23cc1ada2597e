// Planted faults: each kernel of faults.cu runs in a process of its own, must end with the right error and must name kernel,
// source line and the mistake on standard error; the same kernel without its mistake must pass.
#include <gtest/gtest.h>

#include "tests/vgpu/selftest/virtual_card.h"

namespace cudream::vgpu {
namespace {

struct Fault {
  const char* kernel;
  int n;
  CUresult result;  // success: the mistake is absent
  const char* says;
};

void PrintTo(const Fault& f, std::ostream* out) {
  *out << f.kernel << " " << f.n;
}

// Exits with status 0 when the launch ends as it should.
[[noreturn]] void run_kernel(const Fault& f) {
  VirtualCard card;
  card.load("faults.ptx");
  std::vector<float> numbers(128 * 4);
  for (size_t i = 0; i < numbers.size(); i++) numbers[i] = static_cast<float>(i);
  CardArray<float> x(numbers), y(numbers);
  const bool copies = std::string_view(f.kernel).substr(0, 5) == "async";
  // Plain kernels get an array of exactly 128 elements.
  CardArray<float> small(std::vector<float>(numbers.begin(), numbers.begin() + 128));
  check(copies ? card.launch(f.kernel, 1, 128, 0, x.get(), y.get(), f.n) : card.launch(f.kernel, 1, 128, 0, small.get(), f.n),
        f.kernel);
  const CUresult result = cuCtxSynchronize();
  const CUresult again = cuCtxSynchronize();  // the error sticks
  std::_Exit(result == f.result && again == f.result ? 0 : 1);
}

class PlantedFault : public testing::TestWithParam<Fault> {};

TEST_P(PlantedFault, IsCaught) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const Fault f = GetParam();
  const std::string says = f.result == CUDA_SUCCESS ? "^$"
                                                    : fmt::format(
                                                          "({})(.|\n)*in kernel {}, PTX line [0-9]+, .*faults.cu:[0-9]+: "
                                                          "(.|\n)*thread \\([0-9]+, 0, 0\\) of block \\(0, 0, 0\\)",
                                                          f.says, f.kernel);
  EXPECT_EXIT(run_kernel(f), testing::ExitedWithCode(0), says);
}

constexpr CUresult kAddress = CUDA_ERROR_ILLEGAL_ADDRESS, kFailed = CUDA_ERROR_LAUNCH_FAILED,
                   kMisaligned = CUDA_ERROR_MISALIGNED_ADDRESS;
INSTANTIATE_TEST_SUITE_P(
    Kernels, PlantedFault,
    testing::Values(Fault{"global_write_beyond", 0, CUDA_SUCCESS, ""},
                    Fault{"global_write_beyond", 1, kAddress,
                          "illegal global write of 4 bytes at 0x[0-9a-f]+: 0 bytes past the end of the 512-byte allocation"},
                    Fault{"global_write_beyond", 1000000, kAddress, "illegal global write"},
                    Fault{"global_read_before", 1, kAddress, "illegal global read"},
                    Fault{"null_pointer", 1, kAddress, "a host address or null"},
                    Fault{"global_misaligned", 1, kMisaligned, "misaligned global access of 16 bytes"},
                    Fault{"shared_write_beyond", 1, kAddress, "shared access of 4 bytes at 512 of 512"},
                    Fault{"shared_misaligned", 1, kMisaligned, "misaligned shared access of 8 bytes"},
                    Fault{"shared_uninitialised", 0, CUDA_SUCCESS, ""},
                    Fault{"shared_uninitialised", 1, kFailed, "read of shared memory that was never written"},
                    Fault{"local_beyond", 1, kAddress, "local access"}, Fault{"missing_barrier", 0, CUDA_SUCCESS, ""},
                    Fault{"missing_barrier", 1, kFailed, "race on shared memory|never written"},
                    Fault{"missing_second_barrier", 0, CUDA_SUCCESS, ""},
                    Fault{"missing_second_barrier", 1, kFailed, "race on shared memory"},
                    Fault{"missing_warp_barrier", 0, CUDA_SUCCESS, ""},
                    Fault{"missing_warp_barrier", 1, kFailed, "race on shared memory"}, Fault{"two_writers", 0, CUDA_SUCCESS, ""},
                    Fault{"two_writers", 1, kFailed, "race on shared memory"}, Fault{"atomic_and_plain", 0, CUDA_SUCCESS, ""},
                    Fault{"atomic_and_plain", 1, kFailed, "race on shared memory"},
                    Fault{"narrow_neighbours", 0, CUDA_SUCCESS, ""},
                    Fault{"narrow_neighbours", 1, kFailed, "race on shared memory|never written"},
                    Fault{"divergent_barrier", 0, CUDA_SUCCESS, ""}, Fault{"divergent_barrier", 128, CUDA_SUCCESS, ""},
                    Fault{"divergent_barrier", 64, kFailed, "wait at different barriers"},
                    Fault{"divergent_barrier", 16, kFailed, "wait at different warp-wide instructions"},
                    Fault{"divergent_shuffle", 16, kFailed, "wait at different warp-wide instructions"},
                    Fault{"early_return", 70, CUDA_SUCCESS, ""}, Fault{"async_wait", 0, CUDA_SUCCESS, ""},
                    Fault{"async_wait", 1, kFailed, "before the cp.async that fills it was waited for"},
                    Fault{"async_barrier", 0, CUDA_SUCCESS, ""},
                    Fault{"async_barrier", 1, kFailed, "race on shared memory|before the cp.async|never written"},
                    Fault{"async_overwrite", 0, CUDA_SUCCESS, ""}, Fault{"async_overwrite", 1, kFailed, "race on shared memory"},
                    Fault{"trapped", 5, CUDA_ERROR_ILLEGAL_INSTRUCTION, "trap"}));

// Exits with status 0 when two blocks end as they should.
[[noreturn]] void run_two_blocks(const char* kernel, int n, CUresult expected) {
  setenv("CUDREAM_VGPU_BLOCK_RACES", "1", 1);
  VirtualCard card;
  card.load("faults.ptx");
  CardArray<float> y(std::vector<float>(128, 0.0f));
  check(card.launch(kernel, 2, 128, 0, y.get(), n), kernel);
  std::_Exit(cuCtxSynchronize() == expected ? 0 : 1);
}

TEST(BlockRaces, AreCaughtWhereAsked) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto zero = testing::ExitedWithCode(0);
  EXPECT_EXIT(run_two_blocks("blocks_write", 0, CUDA_SUCCESS), zero, "^$");
  EXPECT_EXIT(run_two_blocks("blocks_write", 1, kFailed), zero, "race between blocks on global memory.*in kernel blocks_write");
  EXPECT_EXIT(run_two_blocks("blocks_sum", 0, CUDA_SUCCESS), zero, "^$");
  EXPECT_EXIT(run_two_blocks("blocks_sum", 1, kFailed), zero, "race between blocks on global memory");
  EXPECT_EXIT(run_two_blocks("blocks_sum", 2, kFailed), zero, "race between blocks on global memory");
}

// As in faults.cu.
enum Meeting { kMeets, kWithoutMeeting, kWithoutFence, kWithoutAcquire, kOneStaysAway, kOneStaysAwayAndNoneSleeps };

// Exits with status 0 when three blocks that meet end as they should.
[[noreturn]] void run_meeting(Meeting how, bool check_races, CUresult expected) {
  if (check_races) setenv("CUDREAM_VGPU_BLOCK_RACES", "1", 1);
  VirtualCard card;
  card.load("faults.ptx");
  constexpr unsigned kBlocks = 3, kThreads = 64, kAll = kBlocks * kThreads;
  const CardArray<float> y(2 * kAll);
  check(card.launch_together("blocks_meet", kBlocks, kThreads, 0, y.get(), static_cast<int>(how)), "blocks_meet");
  const CUresult result = cuCtxSynchronize();
  if (result != expected) std::_Exit(1);
  if (result == CUDA_SUCCESS) {
    const std::vector<float> values = y.values();
    for (unsigned i = 0; i < kAll; i++)
      if (values[kAll + i] != static_cast<float>((i + kThreads) % kAll)) std::_Exit(1);
  }
  std::_Exit(0);
}

TEST(CooperativeLaunch, BlocksMeet) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto zero = testing::ExitedWithCode(0);
  for (const bool races : {false, true}) EXPECT_EXIT(run_meeting(kMeets, races, CUDA_SUCCESS), zero, "^$");
  EXPECT_EXIT(run_meeting(kWithoutMeeting, false, kFailed), zero, "never written.*\n *in kernel blocks_meet");
  for (const Meeting how : {kWithoutMeeting, kWithoutFence, kWithoutAcquire})
    EXPECT_EXIT(run_meeting(how, true, kFailed), zero,
                "race between blocks on global memory.*\n *in kernel blocks_meet|never written");
}

TEST(CooperativeLaunch, ADeadlockIsReported) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto zero = testing::ExitedWithCode(0);
  for (const Meeting how : {kOneStaysAway, kOneStaysAwayAndNoneSleeps})
    EXPECT_EXIT(run_meeting(how, false, CUDA_ERROR_LAUNCH_TIMEOUT), zero,
                "deadlock: every block that is left of a cooperative launch waits\n  in kernel blocks_meet, PTX line [0-9]+");
}

// Blocks of an ordinary launch run one after the other here, as they may on a card.
TEST(CooperativeLaunch, MeetingInAnOrdinaryLaunchIsADeadlock) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto run = [] {
    VirtualCard card;
    card.load("faults.ptx");
    const CardArray<float> y(256);
    check(card.launch("blocks_meet", 2, 64, 0, y.get(), static_cast<int>(kMeets)), "blocks_meet");
    std::_Exit(cuCtxSynchronize() == CUDA_ERROR_LAUNCH_TIMEOUT ? 0 : 1);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "deadlock: a block waits .*ordinary launch.*\n *in kernel blocks_meet");
}

// An A100 has 108 multiprocessors, and holds one block of 1024 threads on each where the compiler was told nothing of others.
TEST(CooperativeLaunch, AGridThatIsNotResidentIsRefused) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto run = [] {
    VirtualCard card;
    card.load("faults.ptx");
    const CardArray<float> y(2 * 108 * 1024);
    const bool fits = card.launch_together("blocks_meet", 108, 1024, 0, y.get(), static_cast<int>(kMeets)) == CUDA_SUCCESS;
    const CUresult more = card.launch_together("blocks_meet", 109, 1024, 0, y.get(), static_cast<int>(kMeets));
    std::_Exit(fits && more == CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE ? 0 : 1);
  };
  EXPECT_EXIT(run(), testing::ExitedWithCode(0), "blocks_meet refused: 109 blocks, 108 are resident at once");
}

// Reading what nobody wrote, and what was given back.
[[noreturn]] void read_unwritten(bool write_first) {
  VirtualCard card;
  card.load("kernels.ptx");
  CardArray<float> a(64), b(std::vector<float>(64, 1.0f)), c(64);
  if (write_first) check(cuMemsetD32(a.get(), 0, 64), "cuMemsetD32");
  check(card.launch("add", 1, 64, 0, a.get(), b.get(), c.get(), 64), "add");
  std::_Exit(cuCtxSynchronize() == (write_first ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED) ? 0 : 1);
}
[[noreturn]] void read_freed() {
  VirtualCard card;
  card.load("kernels.ptx");
  CardArray<float> b(std::vector<float>(64, 1.0f)), c(64);
  CUdeviceptr a = 0;
  {
    CardArray<float> freed(std::vector<float>(64, 1.0f));
    a = freed.get();
  }
  check(card.launch("add", 1, 64, 0, a, b.get(), c.get(), 64), "add");
  std::_Exit(cuCtxSynchronize() == CUDA_ERROR_ILLEGAL_ADDRESS ? 0 : 1);
}

TEST(GlobalMemory, UnwrittenAndFreedReadsAreCaught) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(read_unwritten(true), testing::ExitedWithCode(0), "^$");
  EXPECT_EXIT(read_unwritten(false), testing::ExitedWithCode(0), "read of 4 bytes of global memory that was never written");
  EXPECT_EXIT(read_freed(), testing::ExitedWithCode(0), "byte 0 of the freed 256-byte allocation");
}

}  // namespace
}  // namespace cudream::vgpu
