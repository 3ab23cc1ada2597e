// A barrier for blocks of one cooperative launch: what each wrote to global memory before is seen by all behind it.
//
// The top bit of one word turns over when the last block has come: the first block adds 2^31 less one for each other one, and
// those add one. What the lower bits then hold is zero again, for the next launch, of whatever number of blocks. Nothing is
// passed in from the host, so a launch may be recorded in a graph and replayed ("CUDA Driver API", version 13.0:
// CU_LAUNCH_ATTRIBUTE_COOPERATIVE is valid for graph nodes).
//
// Memory order by the patterns of the PTX ISA (version 9.0, section 8.8): every thread's fence and the barrier of its block make
// the arrival a release; the load that finds the bit turned over acquires, and the barrier behind it passes that on.
#pragma once

namespace cudream {

__device__ inline unsigned load_acquire(const unsigned* at) {
  unsigned value;
  asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

// Called by all threads of `blocks` blocks that share a word; just one of them is the `first`. *state is 0 before the first
// launch.
__device__ inline void wait_for_blocks(unsigned* state, unsigned blocks, bool first) {
  constexpr unsigned kTurned = 1u << 31, kNanoseconds = 20;
  asm volatile("fence.acq_rel.gpu;" ::: "memory");
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned before = atomicAdd(state, first ? kTurned - (blocks - 1) : 1u);
    while (((load_acquire(state) ^ before) & kTurned) == 0) __nanosleep(kNanoseconds);
  }
  __syncthreads();
}

}  // namespace cudream
