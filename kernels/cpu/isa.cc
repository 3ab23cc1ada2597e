// CPUID through the compiler's own table, and Linux's permission for AMX.
#include "kernels/cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

namespace cudream {
namespace {

// The tile registers are 8 KiB of state, which Linux gives a process only when asked (Documentation/arch/x86/xstate.rst).
bool may_use_tiles() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;  // EDX, Intel SDM volume 2, CPUID
  return (d & kAmxBf16) != 0 && (d & kAmxTile) != 0 && syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

std::vector<Isa> supported_isas() {
  __builtin_cpu_init();
  std::vector<Isa> isas;
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  if (bf16 && may_use_tiles()) isas.push_back({"AMX bf16", &amx_bf16::kKernels, true});
  if (bf16) isas.push_back({"AVX-512 bf16", &avx512_bf16::kKernels, true});
  if (avx512) isas.push_back({"AVX-512", &avx512::kKernels, false});
  if (avx2) isas.push_back({"AVX2", &avx2::kKernels, false});
  return isas;
}

std::string processor_name() {
  std::array<unsigned, 12> words{};
  for (unsigned i = 0; i < 3; i++)
    if (__get_cpuid(0x80000002u + i, &words[4 * i], &words[4 * i + 1], &words[4 * i + 2], &words[4 * i + 3]) == 0)
      return "an unnamed processor";
  std::array<char, sizeof words + 1> text{};
  std::memcpy(text.data(), words.data(), sizeof words);
  std::string name(text.data());
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name.empty() ? "an unnamed processor" : name;
}

}  // namespace cudream
