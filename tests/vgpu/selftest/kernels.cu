// Small kernels as nvcc compiles them, for comparison with C++.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

__constant__ float c_table[4] = {1.5f, -2.0f, 3.25f, 4.0f};
__device__ int g_counter = 7;

// c[64][64] = a[64][k] b[64][k]^T with the tensor cores: cp.async into swizzled shared memory, ldmatrix, mma.sync.
// One block of 4 warps, each with 16 rows. k a multiple of 32.
template <typename T>
__device__ void product(const T* a, const T* b, float* c, int k) {
  __shared__ __align__(128) T tile[2][2][64 * 32];
  const int t = threadIdx.x, warp = t / 32, lane = t % 32;
  const auto place = [](int row, int chunk) { return row * 32 + ((chunk ^ (row >> 1 & 3)) * 8); };
  const auto address = [](const T* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); };
  const auto fill = [&](int stage, int from) {
    for (int i = t; i < 256; i += 128) {
      const int row = i / 4, chunk = i % 4;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&tile[stage][0][place(row, chunk)])),
                   "l"(a + row * k + from + chunk * 8));
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address(&tile[stage][1][place(row, chunk)])),
                   "l"(b + row * k + from + chunk * 8));
    }
    asm volatile("cp.async.commit_group;" ::: "memory");
  };
  float sum[8][4] = {};
  fill(0, 0);
  for (int step = 0; step < k / 32; step++) {
    if (step + 1 < k / 32) {
      fill((step + 1) % 2, (step + 1) * 32);
      asm volatile("cp.async.wait_group 1;" ::: "memory");
    } else {
      asm volatile("cp.async.wait_group 0;" ::: "memory");
    }
    __syncthreads();
    for (int part = 0; part < 2; part++) {
      uint32_t fa[4];
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                   : "=r"(fa[0]), "=r"(fa[1]), "=r"(fa[2]), "=r"(fa[3])
                   : "r"(address(&tile[step % 2][0][place(warp * 16 + lane % 16, part * 2 + lane / 16)])));
      for (int n = 0; n < 8; n++) {
        uint32_t fb[2];
        asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                     : "=r"(fb[0]), "=r"(fb[1])
                     : "r"(address(&tile[step % 2][1][place(n * 8 + lane % 8, part * 2 + lane / 8 % 2)])));
        if constexpr (sizeof(T) == 2 && __is_same(T, __half)) {
          asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                       : "+f"(sum[n][0]), "+f"(sum[n][1]), "+f"(sum[n][2]), "+f"(sum[n][3])
                       : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
        } else {
          asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                       : "+f"(sum[n][0]), "+f"(sum[n][1]), "+f"(sum[n][2]), "+f"(sum[n][3])
                       : "r"(fa[0]), "r"(fa[1]), "r"(fa[2]), "r"(fa[3]), "r"(fb[0]), "r"(fb[1]));
        }
      }
    }
    __syncthreads();
  }
  for (int n = 0; n < 8; n++) {
    for (int i = 0; i < 4; i++) c[(warp * 16 + lane / 4 + i / 2 * 8) * 64 + n * 8 + lane % 4 * 2 + i % 2] = sum[n][i];
  }
}

extern "C" {

__global__ void add(const float* a, const float* b, float* c, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) c[i] = a[i] + b[i];
}

// Function `which` of math.h on each element.
struct MathArgs {
  const float* x;
  float* y;
  int n, which;
};
__global__ void math(const __grid_constant__ MathArgs a) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= a.n) return;
  const float v = a.x[i];
  float r = 0;
  switch (a.which) {
    case 0: r = expf(v); break;
    case 1: r = erff(v); break;
    case 2: r = logf(v); break;
    case 3: r = sinf(v); break;
    case 4: r = cosf(v); break;
    case 5: r = rsqrtf(v); break;
    case 6: r = sqrtf(v); break;
    case 7: r = 1.0f / v; break;
    case 8: r = tanhf(v); break;
    case 9: r = exp2f(v); break;
    case 10: r = log1pf(v); break;
    case 11: r = expm1f(v); break;
    case 12: r = v / (1.0f + __expf(-v)); break;
    case 13: r = rintf(v); break;
    case 14: r = floorf(v); break;
    case 15: r = fmodf(v, 3.0f); break;
    case 16: r = powf(fabsf(v), 1.7f); break;
    case 17: r = cbrtf(v); break;
  }
  a.y[i] = r;
}

__global__ void halves(const float* x, const float* y, float* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const __half a = __float2half(x[i]), b = __float2half(y[i]);
  const __nv_bfloat16 c = __float2bfloat16(x[i]), d = __float2bfloat16(y[i]);
  float* o = out + 8 * i;
  o[0] = __half2float(__hadd(a, b));
  o[1] = __half2float(__hmul(a, b));
  o[2] = __half2float(__hfma(a, b, a));
  o[3] = __bfloat162float(__hadd(c, d));
  o[4] = __bfloat162float(__hmul(c, d));
  const __half2 pair = __floats2half2_rn(x[i], y[i]);
  o[5] = __low2float(pair) - __high2float(pair);
  o[6] = __half2float(__hmax(a, b));
  o[7] = __bfloat162float(__hmin(c, d));
}

// The sum of each block's elements by shuffles and shared memory, and of all by an atomic.
__global__ void sums(const float* x, float* block_sums, unsigned* total, int n) {
  extern __shared__ float partial[];
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  float v = i < n ? x[i] : 0.0f;
  for (int step = 16; step > 0; step /= 2) v += __shfl_xor_sync(0xffffffffu, v, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int w = 0; w < blockDim.x / 32; w++) sum += partial[w];
    block_sums[blockIdx.x] = sum;
    atomicAdd(total, static_cast<unsigned>(sum));
  }
}

// Lanes part ways and meet again: each runs its own number of rounds.
__global__ void collatz(const int* x, int* steps, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  int v = x[i], count = 0;
  while (v != 1) {
    v = v % 2 == 0 ? v / 2 : 3 * v + 1;
    count++;
  }
  steps[i] = count;
}

// Warp 0 waits for what warp 1 does, and lane 0 of each warp takes a lock that its neighbours wait for in turn.
__global__ void handshake(int* flag, int* lock, int* count) {
  if (threadIdx.x == 32) atomicExch(flag, 1);
  if (threadIdx.x == 0) {
    while (atomicAdd(flag, 0) == 0) {
    }
  }
  for (bool done = false; !done;) {
    if (atomicCAS(lock, 0, 1) == 0) {
      *count = *count + 1;
      __threadfence();
      atomicExch(lock, 0);
      done = true;
    }
  }
}

__global__ void warp_votes(const int* x, unsigned* out) {
  const int t = threadIdx.x, v = x[t];
  unsigned* o = out + 8 * t;
  o[0] = __ballot_sync(0xffffffffu, v > 5);
  o[1] = __any_sync(0xffffffffu, v == 9);
  o[2] = __all_sync(0xffffffffu, v >= 0);
  o[3] = __match_any_sync(0xffffffffu, v);
  o[4] = __reduce_add_sync(0xffffffffu, static_cast<unsigned>(v));
  o[5] = __syncthreads_count(v & 1);
  o[6] = __syncthreads_or(v == 100);
  o[7] = __shfl_up_sync(0xffffffffu, v, 3) * 1000 + __shfl_sync(0xffffffffu, v, 5, 8);
}

__global__ void variables(float* y) {
  float local[16];
  for (int i = 0; i < 16; i++) local[i] = c_table[i % 4] + i;
  for (int i = 0; i < 16; i++) local[(i * threadIdx.x) & 15] += 1;
  y[threadIdx.x] = local[threadIdx.x & 15];
  atomicAdd(&g_counter, 1);
}

__global__ void product_f16(const __half* a, const __half* b, float* c, int k) {
  product(a, b, c, k);
}
__global__ void product_bf16(const __nv_bfloat16* a, const __nv_bfloat16* b, float* c, int k) {
  product(a, b, c, k);
}

}  // extern "C"
