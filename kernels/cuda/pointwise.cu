// The verbs that touch each element once: act, multiply, lerp, copy, combine, gather, sinusoid.
//
// A thread makes one element; where all operands are aligned four neighbours (`_by4`: 16 bytes of float), or eight if all are of
// 16 bits (`_by8`); 256 threads a block. Memory is the whole cost, so one entry serves every type: the branch on it is the same
// in all threads. Where operands may be strided, the host has joined the axes that lie behind one another in all of them (a dense
// verb has one axis and divides nothing). Prepacking is `copy` too: a cast along permuted strides.
#include "kernels/cuda/vector.cuh"

namespace cudream {
namespace {

constexpr int kThreads = 256;

// The first of this thread's elements.
template <int kCount>
__device__ int element() {
  return static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * kCount;
}

// Coordinates of element i, in row-major order.
struct Place {
  int at[Shape::kMaxRank];
  __device__ Place(const Lattice& lattice, int i) {
#pragma unroll
    for (int axis = Shape::kMaxRank - 1; axis > 0; axis--) {
      at[axis] = 0;
      if (axis >= lattice.rank) continue;
      const int above = i / lattice.n[axis];
      at[axis] = i - above * lattice.n[axis];
      i = above;
    }
    at[0] = i;
  }
  __device__ int64_t in(const Operand& operand) const {
    int64_t offset = 0;
#pragma unroll
    for (int axis = 0; axis < Shape::kMaxRank; axis++) offset += at[axis] * operand.stride[axis];
    return offset;
  }
};

// kCount neighbours from element i on.
template <int kCount>
__device__ void get(const void* data, DType type, int64_t i, float (&values)[kCount]) {
  if constexpr (kCount == 1)
    values[0] = load(data, type, i);
  else if (type == DType::f16)
    load_neighbours(static_cast<const __half*>(data) + i, values);
  else if (type == DType::bf16)
    load_neighbours(static_cast<const __nv_bfloat16*>(data) + i, values);
  else if constexpr (kCount == 4)
    load_neighbours(static_cast<const float*>(data) + i, values);
}
template <int kCount>
__device__ void set(void* data, DType type, int64_t i, const float (&values)[kCount]) {
  if constexpr (kCount == 1)
    store(data, type, i, values[0]);
  else if (type == DType::f16)
    store_neighbours(static_cast<__half*>(data) + i, values);
  else if (type == DType::bf16)
    store_neighbours(static_cast<__nv_bfloat16*>(data) + i, values);
  else if constexpr (kCount == 4)
    store_neighbours(static_cast<float*>(data) + i, values);
}
template <int kCount>
__device__ void get(const Operand& x, const Place& place, float (&values)[kCount]) {
  get(x.data, x.type, place.in(x), values);
}
template <int kCount>
__device__ void set(const Operand& out, const Place& place, const float (&values)[kCount]) {
  set(out.data, out.type, place.in(out), values);
}

template <int kCount>
__device__ void act_elements(const ActParams& p) {
  if (element<kCount>() >= p.lattice.size) return;
  const Place place(p.lattice, element<kCount>());
  float x[kCount];
  get(p.x, place, x);
#pragma unroll
  for (float& value : x) value = activate(value, p.act);
  set(p.out, place, x);
}

template <int kCount>
__device__ void multiply_elements(const MultiplyParams& p) {
  if (element<kCount>() >= p.lattice.size) return;
  const Place place(p.lattice, element<kCount>());
  float a[kCount], b[kCount];
  get(p.a, place, a);
  get(p.b, place, b);
#pragma unroll
  for (int i = 0; i < kCount; i++) a[i] *= b[i];
  set(p.out, place, a);
}

template <int kCount>
__device__ void lerp_elements(const LerpParams& p) {
  if (element<kCount>() >= p.lattice.size) return;
  const Place place(p.lattice, element<kCount>());
  float a[kCount], b[kCount], weight[kCount];
  get(p.a, place, a);
  get(p.b, place, b);
  get(p.weight, place, weight);
#pragma unroll
  for (int i = 0; i < kCount; i++) a[i] += weight[i] * (b[i] - a[i]);
  set(p.out, place, a);
}

template <int kCount>
__device__ void copy_elements(const CopyParams& p) {
  if (element<kCount>() >= p.lattice.size) return;
  const Place place(p.lattice, element<kCount>());
  float x[kCount];
  get(p.x, place, x);
  set(p.out, place, x);
}

template <int kCount>
__device__ void combine_elements(const CombineParams& p) {
  const int i = element<kCount>();
  if (i >= p.size) return;
  float sum[kCount] = {};
#pragma unroll
  for (int term = 0; term < CombineParams::kMaxTerms; term++) {
    if (term >= p.terms) continue;
    float x[kCount];
    get(p.x[term], DType::f32, i, x);
#pragma unroll
    for (int k = 0; k < kCount; k++) sum[k] = fmaf(p.scale[term], x[k], sum[k]);
  }
  set(p.out, DType::f32, i, sum);
}

// An id outside the table cannot be reported from here: its row is NaN, so the picture cannot pass for a good one.
template <int kCount>
__device__ void gather_elements(const GatherParams& p) {
  const int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kCount;
  if (i >= static_cast<int64_t>(p.rows) * p.width) return;
  const int64_t row = i / p.width;
  const int id = p.ids[row];
  float values[kCount];
  if (id >= 0 && id < p.entries) {
    get(p.table, p.type, static_cast<int64_t>(id) * p.width + (i - row * p.width), values);
  } else {
#pragma unroll
    for (float& value : values) value = __int_as_float(0x7fffffff);
  }
  set(p.out, DType::f32, i, values);
}

}  // namespace

extern "C" {

#define POINTWISE(entry, verb, count, Params)                                           \
  __global__ void __launch_bounds__(kThreads) entry(const __grid_constant__ Params p) { \
    verb##_elements<count>(p);                                                          \
  }
POINTWISE(act, act, 1, ActParams)
POINTWISE(act_by4, act, 4, ActParams)
POINTWISE(act_by8, act, 8, ActParams)
POINTWISE(multiply, multiply, 1, MultiplyParams)
POINTWISE(multiply_by4, multiply, 4, MultiplyParams)
POINTWISE(multiply_by8, multiply, 8, MultiplyParams)
POINTWISE(copy, copy, 1, CopyParams)
POINTWISE(copy_by4, copy, 4, CopyParams)
POINTWISE(copy_by8, copy, 8, CopyParams)
POINTWISE(lerp, lerp, 1, LerpParams)
POINTWISE(lerp_by4, lerp, 4, LerpParams)
POINTWISE(combine, combine, 1, CombineParams)
POINTWISE(combine_by4, combine, 4, CombineParams)
POINTWISE(gather, gather, 1, GatherParams)
POINTWISE(gather_by4, gather, 4, GatherParams)

// Frequency and sine are made in double: the angle reaches 1000, where a float's last digit is 6e-5, so the frequency must be
// the float nearest to the true one, and the reduction by turns exact. A few hundred values a step.
__global__ void __launch_bounds__(kThreads) sinusoid(const __grid_constant__ SinusoidParams p) {
  const int i = element<1>();
  if (i >= p.rows * p.half) return;
  const int row = i / p.half, k = i - row * p.half;
  const float frequency = static_cast<float>(exp2(p.rate * k));
  const float angle = p.t[row * p.stride] * frequency;
  const double turns = static_cast<double>(angle) * 0.159154943091895335769;  // 1 / (2 pi)
  float sine, cosine;
  sincospif(static_cast<float>(2 * (turns - rint(turns))), &sine, &cosine);
  float* out = p.out + static_cast<int64_t>(row) * 2 * p.half + k;
  out[p.flip ? p.half : 0] = sine;
  out[p.flip ? 0 : p.half] = cosine;
}
}

}  // namespace cudream
