// Kernels with one mistake each, which the virtual GPU must catch, and beside some of them the same kernel put right.
#include <cstdint>

namespace {

__device__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
__device__ void copy_async(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
}
__device__ void commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int kPending>
__device__ void wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

}  // namespace

// Where nothing else is said they are launched with one block of 128 threads and arrays of 128 elements that hold their indices.
extern "C" {

__global__ void global_write_beyond(float* y, int n) {
  y[threadIdx.x + n] = 1;
}
__global__ void global_read_before(float* y, int n) {
  y[threadIdx.x] = y[static_cast<int>(threadIdx.x) - n];
}
__global__ void null_pointer(float* y, int n) {
  y[threadIdx.x] = n != 0 ? *reinterpret_cast<float*>(n * 16L) : 0.0f;
}
__global__ void global_misaligned(float* y, int n) {
  *reinterpret_cast<float4*>(y + n) = make_float4(1, 2, 3, 4);
}
__global__ void shared_write_beyond(float* y, int n) {
  __shared__ float s[128];
  s[threadIdx.x + n] = 1;
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x];
}
__global__ void shared_misaligned(float* y, int n) {
  __shared__ __align__(16) float s[128 + 4];
  s[threadIdx.x] = y[threadIdx.x];
  __syncthreads();
  const float2 pair = reinterpret_cast<float2*>(s + n)[threadIdx.x / 2];
  y[threadIdx.x] = pair.x + pair.y;
}
__global__ void shared_uninitialised(float* y, int n) {
  __shared__ float s[128];
  if (threadIdx.x >= n) s[threadIdx.x] = 1;
  __syncthreads();
  y[threadIdx.x] = s[127 - threadIdx.x];
}
__global__ void local_beyond(float* y, int n) {
  float a[8];
  for (int i = 0; i < 8; i++) a[i] = y[i];
  y[threadIdx.x] = a[(threadIdx.x & 7) + n * 8];
}

// n = 1: the barrier is missing.
__global__ void missing_barrier(float* y, int n) {
  __shared__ float s[128];
  s[threadIdx.x] = y[threadIdx.x];
  if (n == 0) __syncthreads();
  y[threadIdx.x] = s[127 - threadIdx.x];
}
// n = 1: the barrier before the buffer is written again is missing.
__global__ void missing_second_barrier(float* y, int n) {
  __shared__ float s[128];
  float sum = 0;
  for (int i = 0; i < 4; i++) {
    s[threadIdx.x] = y[threadIdx.x] + i;
    __syncthreads();
    sum += s[(threadIdx.x + 32) % 128];
    if (n == 0) __syncthreads();
  }
  y[threadIdx.x] = sum;
}
// n = 1: lanes of one warp exchange values without a warp barrier. Running them in step would hide it.
__global__ void missing_warp_barrier(float* y, int n) {
  __shared__ float s[128];
  s[threadIdx.x] = y[threadIdx.x];
  if (n == 0) __syncwarp();
  y[threadIdx.x] = s[threadIdx.x ^ 1];
}
// n = 1: two warps write different values to one place.
__global__ void two_writers(float* y, int n) {
  __shared__ float s;
  if (threadIdx.x % 64 == 0) s = n == 0 ? 5.0f : y[threadIdx.x];
  __syncthreads();
  y[threadIdx.x] = s;
}
// n = 1: a plain read of what others add to atomically.
__global__ void atomic_and_plain(int* y, int n) {
  __shared__ int s;
  if (threadIdx.x == 0) s = 0;
  __syncthreads();
  atomicAdd(&s, 1);
  if (n == 0) __syncthreads();
  y[threadIdx.x] = s;
}

// Half-word neighbours written by different threads do not race.
__global__ void narrow_neighbours(unsigned short* y, int n) {
  __shared__ unsigned short s[128];
  s[threadIdx.x] = y[threadIdx.x];
  if (n == 0) __syncthreads();
  y[threadIdx.x] = s[(threadIdx.x + 64 * n) % 128];
}

__global__ void divergent_barrier(float* y, int n) {
  __shared__ float s[128];
  s[threadIdx.x] = y[threadIdx.x];
  if (threadIdx.x < n) {
    __syncthreads();
    y[threadIdx.x] = s[127 - threadIdx.x];
  } else {
    y[threadIdx.x] = 2;
    __syncthreads();
  }
}
__global__ void divergent_shuffle(float* y, int n) {
  float v = y[threadIdx.x];
  if (threadIdx.x < n) {
    v = __shfl_down_sync(0xffffffffu, v, 1);
  } else {
    v = __shfl_up_sync(0xffffffffu, v, 1) + 1;
  }
  y[threadIdx.x] = v;
}
// Threads that have returned do not take part in a barrier: legal.
__global__ void early_return(float* y, int n) {
  if (threadIdx.x >= 128 - n) return;
  __syncthreads();
  y[threadIdx.x] = 3;
}

// n pending groups are let be: 0 is right, 1 reads too early. Each thread reads its own copy, then another's.
__global__ void async_wait(const float4* x, float4* y, int n) {
  __shared__ float4 s[128];
  copy_async(s + threadIdx.x, x + threadIdx.x);
  commit();
  if (n == 0) {
    wait<0>();
  } else {
    wait<1>();
  }
  __syncthreads();
  y[threadIdx.x] = s[threadIdx.x ^ 32];
}
// n = 1: waited for, but without the barrier that makes another thread's copy visible.
__global__ void async_barrier(const float4* x, float4* y, int n) {
  __shared__ float4 s[128];
  copy_async(s + threadIdx.x, x + threadIdx.x);
  commit();
  wait<0>();
  if (n == 0) __syncthreads();
  y[threadIdx.x] = s[threadIdx.x ^ 32];
}
// n = 1: the buffer is filled again while it is still being read.
__global__ void async_overwrite(const float4* x, float4* y, int n) {
  __shared__ float4 s[128];
  float4 sum = make_float4(0, 0, 0, 0);
  for (int i = 0; i < 2; i++) {
    copy_async(s + threadIdx.x, x + threadIdx.x);
    commit();
    wait<0>();
    __syncthreads();
    sum.x += s[threadIdx.x ^ 32].x;
    if (n == 0) __syncthreads();
  }
  y[threadIdx.x] = sum;
}

// Two blocks. n = 1: both write the same places.
__global__ void blocks_write(float* y, int n) {
  if (threadIdx.x < 64) y[threadIdx.x + (n == 0 ? blockIdx.x * 64 : 0)] = 1;
}
// Two blocks; the one that arrives last adds up what both wrote. n = 1: without the fence, n = 2: both believe to be last.
__device__ unsigned arrived;
__global__ void blocks_sum(float* y, int n) {
  __shared__ unsigned order;
  if (threadIdx.x < 64) y[blockIdx.x * 64 + threadIdx.x] = 1;
  if (n != 1) __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) order = n == 2 ? 1 : atomicAdd(&arrived, 1u);
  __syncthreads();
  if (order != 1 || threadIdx.x != 0) return;
  float sum = 0;
  for (int i = 0; i < 128; i++) sum += y[i];
  y[0] = sum;
}

// Blocks of a cooperative launch, of 64 threads each, meet; then each reads what the next one wrote. y holds what they write, and
// behind it what they read. kMeets is right.
enum Meeting { kMeets, kWithoutMeeting, kWithoutFence, kWithoutAcquire, kOneStaysAway, kOneStaysAwayAndNoneSleeps };
__device__ unsigned met;
__device__ unsigned look(bool acquire) {
  unsigned value;
  if (acquire)
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(&met) : "memory");
  else
    value = *static_cast<volatile unsigned*>(&met);
  return value;
}
__global__ void blocks_meet(float* y, int n) {
  const unsigned all = gridDim.x * blockDim.x, i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = i;
  if (n != kWithoutFence) __threadfence();
  __syncthreads();
  const bool comes = n != kWithoutMeeting && (n < kOneStaysAway || blockIdx.x != 0);
  if (threadIdx.x == 0 && comes) {
    atomicAdd(&met, 1u);
    while (look(n != kWithoutAcquire) < gridDim.x)
      if (n != kOneStaysAwayAndNoneSleeps) __nanosleep(64);
  }
  __syncthreads();
  if (comes || n == kWithoutMeeting) y[all + i] = y[(i + blockDim.x) % all];
}

__global__ void trapped(float* y, int n) {
  if (threadIdx.x == n) __trap();
  y[threadIdx.x] = 1;
}

}  // extern "C"
