// What each kernel is launched with: one struct per kind of kernel, the only parameter of its entries, read by host and
// device alike. Sizes are of one picture (one row of axis 0); the picture's number is blockIdx.z, so nothing here but
// strides speaks of the batch. A test compares every entry's parameter in the PTX with its struct.
#pragma once

#include <cstdint>

#include "core/types.h"

namespace cudream {

// One value per channel of a picture, [N,C] or [1,C]: Epilogue::add and gate. A stride of 0 means the same for all.
struct PerChannel {
  const void* data;  // null: absent
  int64_t stride;    // elements from one picture to the next
  DType type;
};

// y = residual + gate * act(sum + bias + add)
struct EpilogueParams {
  const float* bias;  // [outs] or null
  PerChannel add, gate;
  const void* residual;  // as out, or null
  Act act;
};

// out [N,rows,outs] = x [N,rows,depth] w^T, w [outs,depth]. For geglu w's rows alternate between value and gate and out is
// [N,rows,outs/2].
struct LinearParams {
  const void* x;
  const void* w;
  void* out;
  int rows, depth, outs;
  EpilogueParams epilogue;
};

// out [N,out_height,out_width,outs] = x [N,height,width,channels] through w [outs,kernel,kernel,channels]. The filter sees x
// enlarged to up_height x up_width by nearest neighbours (equal to height and width: not at all), with zeros around. With x2
// [N,height,width,channels2], which is not enlarged, its channels follow those of x, in w too.
struct ConvParams {
  const void* x;
  const void* x2;  // or null, and then channels2 is 0
  const void* w;
  void* out;
  int height, width, channels, channels2, up_height, up_width;
  int out_height, out_width, outs;
  int kernel, stride, pad;  // pad: zeros left and top; those right and bottom follow from the size of out
  EpilogueParams epilogue;
};

// A product in tiles on tensor cores (product.cuh): out [rows,outs] = A [rows,depth] w^T, w [outs,depth], rows of all pictures
// one below the other. For geglu w's rows alternate between value and gate, and out is [rows,outs/2].
struct ProductParams {
  const void* w;
  void* out;
  float* shares;          // where blocks share a tile: tiles x blocks x the tile's floats
  unsigned* arrived;      // likewise: one counter a tile, 0 before and after
  int rows, outs, steps;  // steps: depth / kTileStep
  int rows_per_picture;
  int first_tile;  // of this launch; tiles count along outs first
  EpilogueParams epilogue;
};

// A is x [rows,depth].
struct LinearProductParams {
  ProductParams product;
  const void* x;
};

// A's rows are the windows of x [N,height,width,channels] and, behind it, of x2 [N,height,width,channels2]; channels are
// multiples of kTileStep.
struct ConvProductParams {
  ProductParams product;
  const void* x;
  const void* x2;  // or null, and then channels2 is 0
  int height, width, channels, channels2, out_height, out_width;
  int kernel, stride, pad;  // pad: zeros left and top
  int doubled;              // 1: the filter sees x enlarged twice by nearest neighbours
};

// out [N,rows,outs] holds sums and becomes what the epilogue makes of them.
struct FinishParams {
  void* out;
  int rows, outs;
  EpilogueParams epilogue;
};

// [N,length,heads*size] in memory: elements from one picture, and from one token, to the next.
struct Tokens {
  const void* data;
  int64_t picture, token;
};

struct AttentionParams {
  Tokens q, k, v;
  void* out;               // [N,length,heads*size], dense
  const int* key_lengths;  // [N] or null: all keys count
  int length, keys, heads, size;
  float log2_scale;  // positive: scale log2(e), as exponentials are powers of two
  bool causal;
};

// out [N,pixels,channels], gain and bias [channels]; x [N,pixels,own_channels], the rest of the channels in x2. layer_norm:
// pixels is the number of rows in all, and x has all channels.
struct NormParams {
  const void* x;
  const void* x2;  // or null
  void* out;
  const float* gain;
  const float* bias;
  int pixels, channels, own_channels, groups;
  float eps;
  Act act;
};

// The blocks of a GroupNorm by slices.
struct SliceShape {
  int threads;  // the most of a block: one vector of channels each
  int blocks;   // on a multiprocessor
  int kept;     // vectors that a thread keeps in registers where shared memory has no room
};

// GroupNorm by slices of a picture's pixels, as many as the grid is wide, and chunks of its channels. A part is a chunk of a
// picture; as many are made at once as the grid is high, the others in turn. Where there are several slices the launch is
// cooperative: every block of it is resident.
struct SliceParams {
  static constexpr SliceShape kSmall{320, 2, 4}, kLarge{384, 1, 22};
  static constexpr int kMomentBytes = 16;  // of a slice in a group
  static constexpr int kRunBytes = 12;     // of a thread in a group
  NormParams norm;
  void* moments;       // [at once,2,groups of a chunk,slices] of Moments
  unsigned* barriers;  // [at once]: grid_barrier.cuh
  int parts;
  int slice;   // pixels
  int chunks;  // of a picture
  int chunk;   // channels, whole groups
  int groups;  // of a chunk
  int each;    // channels of a group
  int rows;    // pixels that a block reads at once
  int runs;    // groups that share a vector of channels, at most
  int held;    // vectors that a thread keeps in shared memory, at least one
};

// An array walked in the order of `Lattice`; strides in elements, outermost first, as many as Lattice::rank.
struct Operand {
  void* data;
  int64_t stride[Shape::kMaxRank];
  DType type;
};

// The elements of a pointwise verb, axes that lie behind one another in every operand joined into one.
struct Lattice {
  int n[Shape::kMaxRank];
  int rank, size;
};

struct ActParams {
  Operand out, x;
  Lattice lattice;
  Act act;
};
struct MultiplyParams {
  Operand out, a, b;
  Lattice lattice;
};
struct LerpParams {
  Operand out, a, b, weight;
  Lattice lattice;
};
struct CopyParams {
  Operand out, x;
  Lattice lattice;
};

struct CombineParams {
  static constexpr int kMaxTerms = 8;
  float* out;
  const float* x[kMaxTerms];
  float scale[kMaxTerms];
  int terms, size;
};

// out [rows,width] = table [entries,width] at ids [rows]
struct GatherParams {
  float* out;
  const void* table;
  const int* ids;
  DType type;  // of the table
  int rows, width, entries;
};

// out [rows,2*half], t [rows] a stride apart; the k-th frequency is 2^(rate k)
struct SinusoidParams {
  float* out;
  const float* t;
  int64_t stride;
  double rate;
  int rows, half;
  bool flip;
};

}  // namespace cudream
