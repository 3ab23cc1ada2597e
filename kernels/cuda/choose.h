// Which kernel serves a verb, and with what grid: pure functions of the layer, one picture's rows and, for a GroupNorm, the card.
// The number of pictures is the last grid dimension and decides nothing else, so a picture's bytes do not depend on its batch.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/types.h"
#include "kernels/cuda/card.h"

namespace cudream {

struct Dim {
  unsigned x = 1, y = 1, z = 1;
};

struct Launch {
  std::string kernel;  // the name of an entry
  Dim grid;
  unsigned block = 1;        // threads
  unsigned shared = 0;       // bytes of dynamic shared memory
  bool cooperative = false;  // all blocks are resident at once, so that they may wait for one another
};

// Every entry the choosers name, the image that holds it (images.h), the length of its parameter, and the most dynamic shared
// memory it is launched with.
struct Kernel {
  std::string name;
  std::string_view image;
  size_t parameter_bytes;
  unsigned dynamic_shared = 0;
};
std::span<const Kernel> kernels();

// What every card from compute capability 8.0 on can give a block, and all that a card can.
inline constexpr unsigned kSharedLimit = 99 * 1024, kAllShared = std::numeric_limits<unsigned>::max();

// `pictures` is N; types are those of the activations.
Launch choose_linear(DType type, int64_t rows, int64_t outs, int64_t pictures);
Launch choose_geglu(DType type, int64_t rows, int64_t outs, int64_t pictures);  // outs: before halving
// One picture's convolution: of the output height, width and channels; of the input channels.
struct ConvLayer {
  DType type;
  int64_t height, width, outs, channels;
  int64_t taps = 1;      // of a filter
  bool vectors = false;  // one input, not enlarged; its pixels and the filters begin at multiples of 16 bytes
};
Launch choose_conv(const ConvLayer& layer, int64_t pictures);
// What a library left to do (finish.cu); elements of one picture.
Launch choose_finish(DType type, int64_t elements, int64_t pictures);

// One picture's attention: [length,heads*size] over any number of keys.
struct AttentionLayer {
  DType type;
  int64_t length, heads, size;
  bool causal = false;
  bool vectors = false;  // rows of q, k and v begin at multiples of 16 bytes, and those of k and v are equally far apart
};
// Tensor cores for f16 and bf16 heads of 40, 64, 80, 160 and 512, not causal; else the plain kernel. Throws Error(unsupported)
// for a head that needs more than kSharedLimit there: beyond 740 elements.
Launch choose_attention(const AttentionLayer& layer, int64_t pictures);

// One picture's GroupNorm over x [pixels,channels].
struct GroupNormLayer {
  DType type;
  int64_t pixels, channels, groups;
  bool vectors = false;  // pixels begin at multiples of 16 bytes, those of out too
};
// GroupNorm by `count` slices of `pixels` pixels, and `chunks` chunks of `chunk` channels (SliceParams). With more than one slice
// the blocks of a part wait for one another, so a launch has no more than `at_once` parts side by side: then all its blocks are
// resident. The slices are so many that the branches of guidance fill the card. Where these are more than it can hold, fewer and
// narrower parts fill it and the others follow in the same launch.
struct Slices {
  int64_t pixels, count, chunks, chunk, rows, runs, held;
  int64_t again;  // pixels of a slice that there is no room for, and which are read twice
  int64_t at_once;
  Launch launch;  // of one part
};
std::optional<Slices> choose_slices(const GroupNormLayer& layer, const Card& card);  // nullopt: the plain kernel
inline constexpr int64_t kMomentsBytes = 4 << 20;  // of all slices of the parts at once, the most
Launch choose_group_norm(DType type, int64_t groups, int64_t pictures);

Launch choose_layer_norm(DType type, int64_t rows, int64_t channels, bool vectors);
// act, multiply, lerp, copy, combine, gather, sinusoid, whatever the type: one thread for every `each` elements, 1, 4 or 8
// (lattice.h).
Launch choose_pointwise(std::string_view verb, int64_t elements, int each);

}  // namespace cudream
