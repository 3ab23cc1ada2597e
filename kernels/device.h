// The Device interface: the verbs a network is made of, and who must do what.
//
// The contract of every verb:
//  - Activations are NHWC, [N,H,W,C] or [N,L,C]; both are the same bytes. `out` is dense unless stated.
//  - Each row of axis 0 (one picture, one guidance branch) is computed as if it were alone: its bytes never depend on N,
//    on its place in the batch or on the number of threads. Whatever picks an algorithm may look at one row only.
//  - Sums are in float32. Inputs and outputs are f32, or the compute type the device was asked for (f32 or bf16 or f16).
//  - `out` may be the same memory as `Epilogue::residual`, or as the first input of act, multiply, combine and lerp.
//    Otherwise inputs and outputs do not overlap.
//  - Ops (ops.h) has checked shapes and types; a verb allocates nothing that outlives it, scratch space apart.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/types.h"

namespace cudream {

// How a weight is used decides its layout on a device. Stored shapes: linear and geglu [out,in]; conv [out,in,kh,kw];
// vector [n]; table [rows,width].
enum class Use : uint8_t { linear, geglu, conv, vector, table };

// A weight in a device's own layout. `shape` is the stored shape; `data` may be padded or blocked, so only the device
// that packed it may look inside (vectors apart: dense f32 on every device). `layout` is the device's private note.
struct Weight {
  std::string name;
  Use use = Use::vector;
  Shape shape;
  View data;
  std::shared_ptr<const void> layout;
};

struct Linear {
  const Weight* w = nullptr;
  const Weight* b = nullptr;  // null: no bias
};
struct Conv {
  const Weight* w = nullptr;
  const Weight* b = nullptr;
};
struct Norm {
  const Weight* g = nullptr;
  const Weight* b = nullptr;
  float eps = 1e-5f;
};

// y = residual + gate * act(x W + bias + add). add and gate are [N,C] or [1,C]: one value per channel of a picture.
// A device folds what it can and finishes the rest in place: an epilogue is a duty.
struct Epilogue {
  View add{}, gate{}, residual{};
  Act act = Act::none;
};

struct ConvArgs {
  int stride = 1;
  // Zeros around the picture. A 3x3 filter has 1 on each side, except the VAE's downsampling: none left and top.
  int pad_left_top = 1, pad_right_bottom = 1;
  // Nearest upsampling of x to this size before the filter runs (0: none). out is [N, up_height, up_width, O].
  int64_t up_height = 0, up_width = 0;
  Epilogue e{};
};

struct NormArgs {
  int groups = 32;  // GroupNorm only
  Act act = Act::none;
};

struct AttentionArgs {
  int heads = 1;
  float scale = 1;      // multiplies q k^T, usually 1/sqrt(head size)
  bool causal = false;  // row i sees keys 0..i
  View key_lengths{};   // i32 [N]: how many keys of a row count; empty: all
};

struct Term {
  float scale = 0;
  View x;
};

// What verbs a device offers beyond the required ones; Ops composes those it lacks.
enum class Fused : uint8_t { geglu, join };

// A recorded body that can be run again: a CUDA graph.
struct Replay {
  virtual ~Replay() = default;
  virtual void run() = 0;
};

struct DeviceInfo {
  std::string kind;         // "reference", "cpu", "cuda:0"
  std::string description;  // for people: "AMD EPYC, AVX-512 bf16, 2 threads"
  DType compute = DType::f32;
  int64_t memory_bytes = 0;  // what the device has in all
  int multiprocessors = 0;   // of a GPU; 0: this device makes one picture of a batch after the other
};

inline constexpr int64_t kBlockAlign = 256;  // bytes; slabs, blocks of arenas and packed weights begin on it

// The stored bytes of a weight, row-major: copies `to.size()` bytes from `offset`. May be called by several threads at once;
// what it throws ends the packing.
using RawBytes = std::function<void(std::span<std::byte> to, int64_t offset)>;

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  // The same device once more, computing in f32; null: this one does.
  virtual std::unique_ptr<Device> in_float() const { return nullptr; }
  // What besides kernels of our own had a part in the results so far: "cuBLASLt 13.1.0 (12 products)"; empty: nothing.
  virtual std::string libraries_used() const { return ""; }

  // Memory: slabs for arenas and weights. Throws Error(out_of_memory). The bytes held now, and the most held at once, count
  // these slabs alone: what a plan foretells.
  void* allocate(int64_t bytes);
  void release(void* slab, int64_t bytes) noexcept;
  int64_t held_bytes() const { return held_; }
  int64_t most_bytes() const { return most_; }
  virtual int64_t free_bytes() const;  // what can still be allocated; here: of the host's memory
  // Memory of the host from which uploads run at full speed and need not be waited for.
  virtual void* allocate_host(int64_t bytes);
  virtual void release_host(void* at) noexcept;
  virtual void upload(View to, std::span<const std::byte> from) = 0;  // dense, same bytes
  virtual void download(std::span<std::byte> to, View from) = 0;      // dense; waits for the work queued before
  // Packs one stored weight, of any float type, into this device's own layout and type, in place: `at` has packed_bytes() and
  // lies on kBlockAlign.
  virtual int64_t packed_bytes(Use, DType stored, const Shape&) const = 0;
  virtual Weight prepack(Use, DType stored, const Shape&, const RawBytes& raw, void* at) = 0;
  Weight prepack(Use, DType stored, const Shape&, std::span<const std::byte> raw);  // into a slab of its own
  // What packing takes beside the weights; end_packing(), after the last of many, gives it back.
  virtual int64_t packing_bytes() const { return 0; }
  virtual void end_packing() {}
  // Runs `body` and returns how to run it again, with the addresses it has now; null: this device keeps no recordings. The body
  // calls verbs and nothing else.
  virtual std::unique_ptr<Replay> record(const std::function<void()>& body) {
    body();
    return nullptr;
  }

  // Required verbs.
  // out [N,...,O] = x [N,...,I] through w [O,I]
  virtual void linear(View out, View x, const Linear&, const Epilogue&) = 0;
  // out [N,Ho,Wo,O] = x [N,H,W,I] through w [O,I,k,k], k 1 or 3
  virtual void conv2d(View out, View x, const Conv&, const ConvArgs&) = 0;
  // out [N,L,D*heads] dense; q [N,L,D*heads], k and v [N,T,D*heads] may be strided slices of one packed matrix
  virtual void attention(View out, View q, View k, View v, const AttentionArgs&) = 0;
  virtual void group_norm(View out, View x, const Norm&, const NormArgs&) = 0;  // over H, W and the channels of a group
  virtual void layer_norm(View out, View x, const Norm&) = 0;                   // over the last axis
  virtual void act(View out, View x, Act) = 0;                                  // x may be a strided slice
  virtual void multiply(View out, View a, View b) = 0;                          // same shape; a and b may be strided
  virtual void combine(View out, std::span<const Term>) = 0;                    // f32, eight terms at most
  virtual void lerp(View out, View a, View b, View weight) = 0;                 // f32: a + weight * (b - a)
  virtual void copy(View out, View x) = 0;                                      // strides and types may differ on both
  virtual void gather(View out, const Weight& table, View ids) = 0;             // out f32 [N,L,C], ids i32 [N,L]
  // out f32 [N,C] = sinusoids of t f32 [N]: cos then sin (flip), or sin then cos; C/2 frequencies
  // max_period^(-i / (C/2 - shift)), i = 0..C/2-1 ("Attention is all you need", section 3.5, as DDPM writes it)
  virtual void sinusoid(View out, View t, float max_period, bool flip, float shift) = 0;

  // Offered verbs.
  virtual bool has(Fused) const { return false; }
  // out [N,L,O/2] = (first half of y) * gelu(second half of y), y = x W + b, w packed for Use::geglu
  virtual void geglu(View, View, const Linear&) {}
  // Fused::join: linear and group_norm of x and x2 [N,H,W,...], the channels of x2 behind those of x, without joining them in
  // memory.
  virtual void joined_linear(View, View, View, const Linear&, const Epilogue&) {}
  virtual void joined_group_norm(View, View, View, const Norm&, const NormArgs&) {}

 protected:
  virtual void* take(int64_t bytes) = 0;
  virtual void give(void* slab) noexcept = 0;

 private:
  int64_t held_ = 0, most_ = 0;
};

}  // namespace cudream
