// One function a verb: a case of it from its sizes, those of one picture.
#pragma once

#include "tests/kernels/verb_stage.h"

namespace cudream::makers {

// Which parts of an epilogue a case has.
struct Ends {
  bool bias = true, add = false, add_shared = false, gate = false, residual = false, in_place = false;
  Act act = Act::none;
};

// y [rows,out] of x [rows,in].
VerbCase linear(int64_t rows, int64_t in, int64_t out, const Ends& ends = {});
// y [rows,out/2]. A device without the fused verb is given its composition, as Ops does.
VerbCase geglu(int64_t rows, int64_t in, int64_t out);

struct Filter {
  int64_t kernel = 3;
  int stride = 1, before = 1, after = 1;
  int64_t up_height = 0, up_width = 0;
};
VerbCase conv(int64_t height, int64_t width, int64_t in, int64_t out, const Filter& f = {}, const Ends& ends = {});
VerbCase pointwise_conv(int64_t height, int64_t width, int64_t in, int64_t out, const Ends& ends = {});

// Channels of two inputs, one behind the other.
struct Both {
  int64_t first, second;
};
// Of both inputs joined in memory, where the device does not read them where they lie.
VerbCase joined_linear(int64_t height, int64_t width, const Both& in, int64_t out, const Ends& ends = {});
VerbCase joined_group_norm(int64_t height, int64_t width, const Both& in, int groups, Act act);

struct Heads {
  int heads = 1;
  int64_t size = 64;
  bool causal = false, packed = false;  // packed: q, k and v are slices of one matrix
  std::vector<int32_t> lengths;         // of each picture
};
VerbCase attention(int64_t rows, int64_t keys, const Heads& h);

VerbCase group_norm(int64_t height, int64_t width, int64_t channels, int groups, Act act, float mean = 0.5f);
VerbCase layer_norm(int64_t rows, int64_t channels, float mean = 0.5f);

VerbCase act(int64_t rows, int64_t channels, Act a, bool strided, bool in_place = false);
VerbCase multiply(int64_t rows, int64_t channels);
VerbCase combine(int64_t elements, int terms);
VerbCase lerp(int64_t elements);
// A cast into a slice of a wider tensor, as concatenation does.
VerbCase copy(int64_t rows, int64_t channels, bool widen);
VerbCase gather(int64_t rows, int64_t width);
VerbCase sinusoid(int64_t channels, bool flip, float shift);

}  // namespace cudream::makers
