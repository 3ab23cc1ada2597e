// The verbs that touch each element once: act, multiply, lerp, copy, combine, gather, sinusoid.
//
// A thread makes one element, 256 a block, grid over all elements. Memory is the whole cost, so one entry serves every type:
// the branch on it is the same in all threads. Where operands may be strided, the host has joined the axes that lie behind one
// another in all of them (a dense verb has one axis and divides nothing). Prepacking is `copy` too: a cast along permuted
// strides.
#include "kernels/cuda/value.cuh"

namespace cudream {
namespace {

constexpr int kThreads = 256;

__device__ inline int element() {
  return static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
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

__device__ inline float get(const Operand& x, const Place& place) {
  return load(x.data, x.type, place.in(x));
}
__device__ inline void set(const Operand& out, const Place& place, float value) {
  store(out.data, out.type, place.in(out), value);
}

}  // namespace

extern "C" {

__global__ void __launch_bounds__(kThreads) act(const __grid_constant__ ActParams p) {
  if (element() >= p.lattice.size) return;
  const Place place(p.lattice, element());
  set(p.out, place, activate(get(p.x, place), p.act));
}

__global__ void __launch_bounds__(kThreads) multiply(const __grid_constant__ MultiplyParams p) {
  if (element() >= p.lattice.size) return;
  const Place place(p.lattice, element());
  set(p.out, place, get(p.a, place) * get(p.b, place));
}

__global__ void __launch_bounds__(kThreads) lerp(const __grid_constant__ LerpParams p) {
  if (element() >= p.lattice.size) return;
  const Place place(p.lattice, element());
  const float a = get(p.a, place);
  set(p.out, place, a + get(p.weight, place) * (get(p.b, place) - a));
}

__global__ void __launch_bounds__(kThreads) copy(const __grid_constant__ CopyParams p) {
  if (element() >= p.lattice.size) return;
  const Place place(p.lattice, element());
  set(p.out, place, get(p.x, place));
}

__global__ void __launch_bounds__(kThreads) combine(const __grid_constant__ CombineParams p) {
  const int i = element();
  if (i >= p.size) return;
  float sum = 0;
#pragma unroll
  for (int term = 0; term < CombineParams::kMaxTerms; term++)
    if (term < p.terms) sum = fmaf(p.scale[term], p.x[term][i], sum);
  p.out[i] = sum;
}

// An id outside the table cannot be reported from here: its row is NaN, so the picture cannot pass for a good one.
__global__ void __launch_bounds__(kThreads) gather(const __grid_constant__ GatherParams p) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= static_cast<int64_t>(p.rows) * p.width) return;
  const int64_t row = i / p.width;
  const int id = p.ids[row];
  const bool known = id >= 0 && id < p.entries;
  p.out[i] = known ? load(p.table, p.type, static_cast<int64_t>(id) * p.width + (i - row * p.width)) : __int_as_float(0x7fffffff);
}

// Frequency and sine are made in double: the angle reaches 1000, where a float's last digit is 6e-5, so the frequency must be
// the float nearest to the true one, and the reduction by turns exact. A few hundred values a step.
__global__ void __launch_bounds__(kThreads) sinusoid(const __grid_constant__ SinusoidParams p) {
  const int i = element();
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
