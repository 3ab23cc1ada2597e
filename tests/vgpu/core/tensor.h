// The product that mma.sync computes, apart from registers.
#pragma once

#include <cstdint>

namespace cudream::vgpu {

enum class Brain : bool { no, yes };  // binary16 or bfloat16 factors

// One m16n8k(8 * steps) product in the lanes of a warp: fragments as PTX ISA 9.0 section 9.7.14.5.8 lays them out, a[2 * steps]
// and b[steps] registers of two halves, c and d four registers of float. Sums run over k in order, each step fused.
struct MmaFragments {
  const uint32_t* a[4];
  const uint32_t* b[2];
  const float* c[4];
  float* d[4];
};
using MmaFunction = void (*)(const MmaFragments&, uint32_t steps, Brain brain);

void mma_portable(const MmaFragments& f, uint32_t steps, Brain brain);
void mma_avx512(const MmaFragments& f, uint32_t steps, Brain brain);
// Whether this processor can run the AVX-512 form.
bool has_avx512();
// The form in use: AVX-512 where possible, unless CUDREAM_VGPU_PORTABLE is set.
MmaFunction mma_function();

// Binary16 or bfloat16 to float, by vectors where the compiler targets them.
void widen(const uint16_t* in, float* out, uint32_t n, Brain brain);

}  // namespace cudream::vgpu
