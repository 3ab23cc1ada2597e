"""Optional speed-up for training on a CPU: GroupNorm for channels-last tensors and attention for many small heads,
as a few C++ loops built with the system compiler. `patch(model)` puts them in; without a compiler nothing changes."""
import ctypes
import datetime
import os
import subprocess
import tempfile

import torch
import torch.distributed as dist

SOURCE = r"""
#include <cstdint>
#include <cmath>
#include <cstring>
#include <vector>
#ifdef __AVX512F__
#include <immintrin.h>
#endif
typedef int64_t I;
static inline float ld(const float* p, I i) { return p[i]; }
static inline float ld(const uint16_t* p, I i) { uint32_t u = uint32_t(p[i]) << 16; float f; memcpy(&f, &u, 4); return f; }
static inline void st(float* p, I i, float v) { p[i] = v; }
static inline void st(uint16_t* p, I i, float v) { uint32_t u; memcpy(&u, &v, 4); p[i] = uint16_t((u + 0x7FFF + ((u >> 16) & 1)) >> 16); }

// GroupNorm: N pictures, L places, C channels (channel index fastest), G groups
template <class T> static void gn_fwd(const T* x, T* y, const float* w, const float* b, float* mean, float* rstd, I N, I L, I C, I G, float eps) {
  const I D = C / G;
  #pragma omp parallel for
  for (I n = 0; n < N; n++) {
    std::vector<float> s(C), q(C);
    const T* xn = x + n * L * C; T* yn = y + n * L * C;
    float* __restrict S = s.data(); float* __restrict Q = q.data();
    for (I l = 0; l < L; l++) for (I c = 0; c < C; c++) { float v = ld(xn, l * C + c); S[c] += v; Q[c] += v * v; }
    for (I g = 0; g < G; g++) {
      double a = 0, e = 0;
      for (I c = g * D; c < g * D + D; c++) { a += S[c]; e += Q[c]; }
      a /= double(L * D); e = e / double(L * D) - a * a;
      float r = 1 / std::sqrt(float(e < 0 ? 0 : e) + eps);
      mean[n * G + g] = float(a); rstd[n * G + g] = r;
      for (I c = g * D; c < g * D + D; c++) { S[c] = w[c] * r; Q[c] = b[c] - float(a) * S[c]; }
    }
    for (I l = 0; l < L; l++) for (I c = 0; c < C; c++) st(yn, l * C + c, ld(xn, l * C + c) * S[c] + Q[c]);
  }
}
template <class T> static void gn_bwd(const T* x, const T* dy, T* dx, const float* w, const float* mean, const float* rstd, float* dw, float* db, I N, I L, I C, I G) {
  const I D = C / G;
  #pragma omp parallel for
  for (I n = 0; n < N; n++) {
    std::vector<float> va(C), vb(C), vk(C), vw(C), vo(C);
    const T* xn = x + n * L * C; const T* dn = dy + n * L * C; T* on = dx + n * L * C;
    float* __restrict A = va.data(); float* __restrict B = vb.data(); float* __restrict K = vk.data();
    for (I l = 0; l < L; l++) for (I c = 0; c < C; c++) { float d = ld(dn, l * C + c); A[c] += d; B[c] += d * ld(xn, l * C + c); }
    for (I g = 0; g < G; g++) {
      float mu = mean[n * G + g], r = rstd[n * G + g], s1 = 0, s2 = 0;
      for (I c = g * D; c < g * D + D; c++) { vo[c] = A[c]; vw[c] = (B[c] - mu * A[c]) * r; s1 += w[c] * vo[c]; s2 += w[c] * vw[c]; }
      s1 /= L * D; s2 /= L * D;
      for (I c = g * D; c < g * D + D; c++) { A[c] = w[c] * r; B[c] = -r * r * s2; K[c] = -r * s1 + mu * r * r * s2; }
    }
    for (I l = 0; l < L; l++) for (I c = 0; c < C; c++) st(on, l * C + c, ld(dn, l * C + c) * A[c] + ld(xn, l * C + c) * B[c] + K[c]);
    #pragma omp critical
    for (I c = 0; c < C; c++) { dw[c] += vw[c]; db[c] += vo[c]; }
  }
}
extern "C" void group_norm(int bf, const void* x, void* y, const float* w, const float* b, float* mean, float* rstd, I N, I L, I C, I G, float eps) {
  bf ? gn_fwd((const uint16_t*)x, (uint16_t*)y, w, b, mean, rstd, N, L, C, G, eps) : gn_fwd((const float*)x, (float*)y, w, b, mean, rstd, N, L, C, G, eps);
}
extern "C" void group_norm_back(int bf, const void* x, const void* dy, void* dx, const float* w, const float* mean, const float* rstd, float* dw, float* db, I N, I L, I C, I G) {
  bf ? gn_bwd((const uint16_t*)x, (const uint16_t*)dy, (uint16_t*)dx, w, mean, rstd, dw, db, N, L, C, G) : gn_bwd((const float*)x, (const float*)dy, (float*)dx, w, mean, rstd, dw, db, N, L, C, G);
}

// Attention: q (B, L, H*d), k and v (B, M, H*d) in bf16. Sixteen queries (or, for the gradients of k and v, sixteen keys) are worked
// on side by side in the lanes of a vector. Scores are not shifted by their maximum: they are small here, and bounded by 60 to be sure.
typedef float V __attribute__((vector_size(64)));
typedef int32_t N __attribute__((vector_size(64)));
#ifdef __AVX512F__
static inline V vexp(V x) {                              // good enough for bf16
  const __m512 y = _mm512_mul_ps((__m512)x, _mm512_set1_ps(1.44269504f)), n = _mm512_roundscale_ps(y, 0);
  const V f = (V)_mm512_sub_ps(y, n), p = 1.0000253f + f * (0.69315451f + f * (0.23986089f + f * 0.05549102f));
  return (V)_mm512_scalef_ps((__m512)p, n);
}
static inline V cap(V s) { return (V)_mm512_min_ps((__m512)s, _mm512_set1_ps(60)); }
#else
static inline V vexp(V x) {
  x *= 1.44269504f; x = x < -120.f ? V{} - 120.f : x;
  const N n = __builtin_convertvector(x + 128.5f, N) - 128;
  const V f = x - __builtin_convertvector(n, V);
  return (1.0000253f + f * (0.69315451f + f * (0.23986089f + f * 0.05549102f))) * (V)((n + 127) << 23);
}
static inline V cap(V s) { return s > 60.f ? V{} + 60.f : s; }
#endif
template <int D> static inline void lanes(const uint16_t* p, I n, I C, V* t) {             // n <= 16 rows -> D vectors
  float b[D][16] = {};
  for (I j = 0; j < n; j++) for (int c = 0; c < D; c++) b[c][j] = ld(p, j * C + c);
  memcpy(t, b, sizeof b);
}
template <int D> static inline void unlanes(const V* t, I n, I C, uint16_t* p) {
  float b[D][16]; memcpy(b, t, sizeof b);
  for (I j = 0; j < n; j++) for (int c = 0; c < D; c++) st(p, j * C + c, b[c][j]);
}
template <int D> static inline void plain(const uint16_t* p, I n, I C, float* t) { for (I j = 0; j < n; j++) for (int c = 0; c < D; c++) t[j * D + c] = ld(p, j * C + c); }
static const N COUNT = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

template <int D> static void att_fwd(const uint16_t* q, const uint16_t* k, const uint16_t* v, uint16_t* o, float* lse, I B, I H, I L, I M, bool causal) {
  const I C = H * D; const float scale = 1 / std::sqrt(float(D));
  #pragma omp parallel for
  for (I bh = 0; bh < B * H; bh++) {
    const I b = bh / H, h = bh % H;
    std::vector<float> kt(M * D), vt(M * D);
    plain<D>(k + b * M * C + h * D, M, C, kt.data()); plain<D>(v + b * M * C + h * D, M, C, vt.data());
    for (I i = 0; i < L; i += 16) {
      const I n = L - i < 16 ? L - i : 16, r = (b * L + i) * C + h * D, m = causal && i + n < M ? i + n : M;
      V Q[D], O[D], sum = {};
      lanes<D>(q + r, n, C, Q);
      for (int c = 0; c < D; c++) { Q[c] *= scale; O[c] = V{}; }
      for (I j = 0; j < m; j++) {
        const float *K = &kt[j * D], *W = &vt[j * D];
        V s = Q[0] * K[0];
        for (int c = 1; c < D; c++) s += Q[c] * K[c];
        V p = vexp(cap(s));
        if (causal) p = COUNT + int32_t(i) < int32_t(j) ? V{} : p;
        sum += p;
        for (int c = 0; c < D; c++) O[c] += p * W[c];
      }
      for (int c = 0; c < D; c++) O[c] /= sum;
      unlanes<D>(O, n, C, o + r);
      for (I j = 0; j < n; j++) lse[bh * L + i + j] = std::log(sum[j]);
    }
  }
}
template <int D> static void att_bwd(const uint16_t* q, const uint16_t* k, const uint16_t* v, const uint16_t* o, const float* lse, const uint16_t* go,
                                     uint16_t* dq, uint16_t* dk, uint16_t* dv, I B, I H, I L, I M, bool causal) {
  const I C = H * D; const float scale = 1 / std::sqrt(float(D));
  #pragma omp parallel for
  for (I bh = 0; bh < B * H; bh++) {
    const I b = bh / H, h = bh % H;
    std::vector<float> kt(M * D), vt(M * D), qt(L * D), gt(L * D), dt(L + 16), zt(L + 16);
    plain<D>(k + b * M * C + h * D, M, C, kt.data()); plain<D>(v + b * M * C + h * D, M, C, vt.data());
    plain<D>(q + b * L * C + h * D, L, C, qt.data()); plain<D>(go + b * L * C + h * D, L, C, gt.data());
    for (I i = 0; i < L * D; i++) qt[i] *= scale;
    for (I i = 0; i < L; i++) {
      float e = 0;
      for (int c = 0; c < D; c++) e += gt[i * D + c] * ld(o, (b * L + i) * C + h * D + c);
      dt[i] = e; zt[i] = lse[bh * L + i];
    }
    for (I i = 0; i < L; i += 16) {                       // gradient of q
      const I n = L - i < 16 ? L - i : 16, r = (b * L + i) * C + h * D, m = causal && i + n < M ? i + n : M;
      V Q[D], G[D], A[D], z, e;
      lanes<D>(q + r, n, C, Q); lanes<D>(go + r, n, C, G);
      memcpy(&z, &zt[i], 64); memcpy(&e, &dt[i], 64);
      for (int c = 0; c < D; c++) { Q[c] *= scale; A[c] = V{}; }
      for (I j = 0; j < m; j++) {
        const float *K = &kt[j * D], *W = &vt[j * D];
        V s = Q[0] * K[0], t = G[0] * W[0];
        for (int c = 1; c < D; c++) { s += Q[c] * K[c]; t += G[c] * W[c]; }
        V p = vexp(cap(s) - z) * (t - e);
        if (causal) p = COUNT + int32_t(i) < int32_t(j) ? V{} : p;
        for (int c = 0; c < D; c++) A[c] += p * K[c];
      }
      for (int c = 0; c < D; c++) A[c] *= scale;
      unlanes<D>(A, n, C, dq + r);
    }
    for (I j = 0; j < M; j += 16) {                       // gradients of k and v
      const I n = M - j < 16 ? M - j : 16, r = (b * M + j) * C + h * D;
      V K[D], W[D], A[D], E[D];
      lanes<D>(k + r, n, C, K); lanes<D>(v + r, n, C, W);
      for (int c = 0; c < D; c++) A[c] = E[c] = V{};
      for (I i = causal ? j : 0; i < L; i++) {
        const float *Q = &qt[i * D], *G = &gt[i * D];
        V s = K[0] * Q[0], t = W[0] * G[0];
        for (int c = 1; c < D; c++) { s += K[c] * Q[c]; t += W[c] * G[c]; }
        V p = vexp(cap(s) - zt[i]);
        if (causal) p = COUNT + int32_t(j) > int32_t(i) ? V{} : p;
        t = p * (t - dt[i]);
        for (int c = 0; c < D; c++) { E[c] += p * G[c]; A[c] += t * Q[c]; }
      }
      unlanes<D>(A, n, C, dk + r); unlanes<D>(E, n, C, dv + r);
    }
  }
}
extern "C" void attention(const uint16_t* q, const uint16_t* k, const uint16_t* v, uint16_t* o, float* lse, I B, I H, I L, I M, I d, I causal) {
  (d == 8 ? att_fwd<8> : d == 12 ? att_fwd<12> : att_fwd<32>)(q, k, v, o, lse, B, H, L, M, causal);
}
extern "C" void attention_back(const uint16_t* q, const uint16_t* k, const uint16_t* v, const uint16_t* o, const float* lse, const uint16_t* go,
                               uint16_t* dq, uint16_t* dk, uint16_t* dv, I B, I H, I L, I M, I d, I causal) {
  (d == 8 ? att_bwd<8> : d == 12 ? att_bwd<12> : att_bwd<32>)(q, k, v, o, lse, go, dq, dk, dv, B, H, L, M, causal);
}
"""


def layout(t):
    """The tensor with its channel index fastest in memory."""
    return t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t.transpose(1, 2).contiguous().transpose(1, 2)


def ptr(t):
    return ctypes.c_void_p(t.data_ptr())


def num(*n):
    return [ctypes.c_int64(i) for i in n]


class Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b, groups, eps):
        x = layout(x)
        y, stats = torch.empty_like(x), torch.empty(2, len(x), groups)
        n, c, l = x.shape[0], x.shape[1], x[0, 0].numel()
        lib.group_norm(int(x.dtype == torch.bfloat16), ptr(x), ptr(y), ptr(w), ptr(b), ptr(stats[0]), ptr(stats[1]), *num(n, l, c, groups), ctypes.c_float(eps))
        ctx.save_for_backward(x, w, stats)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, w, stats = ctx.saved_tensors
        dy = layout(dy.to(x.dtype))
        dx, dw, db = torch.empty_like(x), torch.zeros_like(w), torch.zeros_like(w)
        n, c, l = x.shape[0], x.shape[1], x[0, 0].numel()
        lib.group_norm_back(int(x.dtype == torch.bfloat16), ptr(x), ptr(dy), ptr(dx), ptr(w), ptr(stats[0]), ptr(stats[1]), ptr(dw), ptr(db), *num(n, l, c, stats.shape[2]))
        return dx, dw, db, None, None


class Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, heads, causal=False):
        q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        assert q.dtype == torch.bfloat16 and q.shape[2] // heads in (8, 12, 32)
        o, lse = torch.empty_like(q), torch.empty(q.shape[0] * heads, q.shape[1])
        ctx.dims = num(q.shape[0], heads, q.shape[1], k.shape[1], q.shape[2] // heads, int(causal))
        lib.attention(ptr(q), ptr(k), ptr(v), ptr(o), ptr(lse), *ctx.dims)
        ctx.save_for_backward(q, k, v, o, lse)
        return o

    @staticmethod
    def backward(ctx, go):
        q, k, v, o, lse = ctx.saved_tensors
        go = go.to(q.dtype).contiguous()
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        lib.attention_back(ptr(q), ptr(k), ptr(v), ptr(o), ptr(lse), ptr(go), ptr(dq), ptr(dk), ptr(dv), *ctx.dims)
        return dq, dk, dv, None, None


class Processor:
    """Attention processor for diffusers' transformer blocks (no mask, no group norm, no residual of its own)."""

    def __call__(self, attn, x, encoder_hidden_states=None, attention_mask=None, **_):
        c = x if encoder_hidden_states is None else encoder_hidden_states
        o = Attend.apply(attn.to_q(x), attn.to_k(c), attn.to_v(c), attn.heads)
        return attn.to_out[0](o)


def attend_text(module, q, k, v, mask, **_):
    """Causal attention for the text encoder, in the form transformers asks for."""
    q, k, v = (t.transpose(1, 2).flatten(2) for t in (q, k, v))
    return Attend.apply(q, k, v, module.num_heads, True).unflatten(2, (module.num_heads, -1)), None


def connect():
    """Joins the other training processes when started by torchrun; gives this process's number."""
    torch.set_num_threads(1)             # one thread a process: oneDNN's threads wait for each other by spinning
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("gloo", timeout=datetime.timedelta(hours=1))
        return dist.get_rank()
    return 0


@torch.no_grad()
def average(grads, *numbers):
    """Averages gradients, and some numbers to agree on, over all processes; gives the numbers."""
    if not dist.is_initialized():
        return numbers
    flat = torch.cat([g.flatten() for g in grads] + [torch.tensor(numbers, dtype=torch.float32)])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    at = 0
    for g in grads:
        g.copy_(flat[at:at + g.numel()].view_as(g))
        at += g.numel()
    return flat[at:].tolist()


lib = None


def patch(unet=None, text=None):
    """Makes every torch.nn.GroupNorm fast (its weights must stay float32), and the attention of a bf16 `unet` and `text`."""
    global lib
    if lib is None:
        where = tempfile.mkdtemp()
        src, obj, so = (os.path.join(where, "fastops" + e) for e in (".cpp", ".o", ".so"))
        open(src, "w").write(SOURCE)
        flags = ["-O3", "-march=native", "-mprefer-vector-width=512", "-ffast-math", "-fopenmp", "-fPIC"]
        try:
            subprocess.run(["g++", *flags, "-c", src, "-o", obj], check=True)
            subprocess.run(["g++", "-shared", obj, "-o", so], check=True)     # OpenMP: the copy torch has loaded
            lib = ctypes.CDLL(so)
        except (OSError, subprocess.CalledProcessError) as e:
            print("fast operations left out:", e)
            return
        torch.nn.GroupNorm.forward = lambda m, x: Norm.apply(x, m.weight, m.bias, m.num_groups, m.eps)
    if unet is not None:
        unet.set_attn_processor(Processor())
    if text is not None:
        from transformers import AttentionInterface
        AttentionInterface.register("fast_causal", attend_text)
        text.set_attn_implementation("fast_causal")
