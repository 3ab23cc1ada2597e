// The CLIP text encoder: a causal transformer ("Learning Transferable Visual Models From Natural Language Supervision",
// Radford et al. 2021, section 2.4).
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "core/spec.h"
#include "kernels/ops.h"
#include "kernels/weight.h"

namespace cudream {

// A vector in place of the embedding of a token, for textual inversions: that of token `position` of prompt `row`.
struct TokenVector {
  int64_t row = 0, position = 0;
  std::span<const float> values;  // [width]
};

// Where a text ends: the row of ids that is its first chunk, and the position of the end token there.
struct TextEnd {
  int64_t row = 0, position = 0;
};

class ClipTextEncoder {
 public:
  ClipTextEncoder(const Weights& w, const TextEncoderSpec& spec);
  const TextEncoderSpec& spec() const { return spec_; }

  // ids i32 [N,77] -> [N,77,width]: the state after all but the last `skip` layers, through the final LayerNorm if asked.
  Tensor operator()(Ops& o, View ids, int skip, bool final_norm, std::span<const TokenVector> vectors = {}) const;
  // The same, and of each text the pooled state: all layers, the final LayerNorm, what stands at its end token, projected; copied
  // to `pooled` f32 [texts,projection].
  Tensor with_pooled(Ops& o, View ids, int skip, bool final_norm, std::span<const TextEnd> ends, View pooled,
                     std::span<const TokenVector> vectors = {}) const;

 private:
  struct Layer {
    Norm norm1, norm2;
    Linear qkv, out, up, down;
  };
  Tensor embed(Ops& o, View ids, std::span<const TokenVector> vectors) const;
  Tensor run(Ops& o, Tensor x, int from, int to) const;  // layers [from, to)
  TextEncoderSpec spec_;
  const Weight *token_embedding_, *position_embedding_;
  std::vector<Layer> layers_;
  Norm final_norm_;
  std::optional<Linear> projection_;
};

// The text encoders of a model: "text_encoder", and "text_encoder_2" for one that projects.
std::vector<ClipTextEncoder> clip_text_encoders(const Weights& root, std::span<const TextEncoderSpec> specs);

}  // namespace cudream
