// A barrier for blocks of one cooperative launch: what each wrote to global memory before is seen by all behind it.
//
// One word counts those that have come in its lower bits, and its top bit turns over when the last one comes; the count is then
// zero again, for the next launch, of whatever number of blocks. Nothing is passed in from the host, so a launch may be recorded
// in a graph and replayed ("CUDA Driver API", version 13.0: CU_LAUNCH_ATTRIBUTE_COOPERATIVE is valid for graph nodes).
//
// Memory order by the patterns of the PTX ISA (version 9.0, section 8.8): every thread's fence and the barrier of its block make
// the arrival a release; the load that finds the bit turned over acquires, and the barrier behind it passes that on. The last
// to come acquires and releases by one fence between its two atomics.
#pragma once

namespace cudream {

__device__ inline unsigned load_acquire(const unsigned* at) {
  unsigned value;
  asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
  return value;
}

// Called by all threads of `blocks` blocks; *state is 0 before the first launch.
__device__ inline void wait_for_blocks(unsigned* state, unsigned blocks) {
  constexpr unsigned kTurned = 1u << 31, kNanoseconds = 64;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    const unsigned before = atomicAdd(state, 1u);
    if ((before & ~kTurned) == blocks - 1) {
      __threadfence();
      atomicExch(state, ~before & kTurned);
    } else {
      while (((load_acquire(state) ^ before) & kTurned) == 0) __nanosleep(kNanoseconds);
    }
  }
  __syncthreads();
}

}  // namespace cudream
