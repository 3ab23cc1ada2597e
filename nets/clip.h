// The CLIP text encoder: a causal transformer ("Learning Transferable Visual Models From Natural Language Supervision",
// Radford et al. 2021, section 2.4).
#pragma once

#include <vector>

#include "core/spec.h"
#include "kernels/ops.h"
#include "kernels/weight.h"

namespace cudream {

class ClipTextEncoder {
 public:
  ClipTextEncoder(const Weights& w, const TextEncoderSpec& spec);
  const TextEncoderSpec& spec() const { return spec_; }

  // ids i32 [N,77] -> [N,77,width]: the state after all but the last `skip` layers, through the final LayerNorm if asked.
  Tensor operator()(Ops& o, View ids, int skip, bool final_norm) const;

 private:
  struct Layer {
    Norm norm1, norm2;
    Linear qkv, out, up, down;
  };
  TextEncoderSpec spec_;
  const Weight *token_embedding_, *position_embedding_;
  std::vector<Layer> layers_;
  Norm final_norm_;
};

}  // namespace cudream
