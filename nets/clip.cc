// Token and position embeddings, pre-norm transformer layers, a final LayerNorm.
#include "nets/clip.h"

#include <cmath>
#include <numeric>

#include "core/error.h"

namespace cudream {

ClipTextEncoder::ClipTextEncoder(const Weights& root, const TextEncoderSpec& spec) : spec_(spec) {
  const Weights w = root / "text_model";
  token_embedding_ = w.get("embeddings.token_embedding.weight", Use::table, {spec.vocabulary, spec.width});
  position_embedding_ = w.get("embeddings.position_embedding.weight", Use::table, {spec.positions, spec.width});
  for (int i = 0; i < spec.layers; i++) {
    const Weights layer = w / "encoder" / "layers" / i;
    layers_.push_back({.norm1 = norm(layer / "layer_norm1", spec.width, spec.eps),
                       .norm2 = norm(layer / "layer_norm2", spec.width, spec.eps),
                       .qkv = joined_linear(layer / "self_attn", {"q_proj", "k_proj", "v_proj"}, spec.width, spec.width, true),
                       .out = linear(layer / "self_attn" / "out_proj", spec.width, spec.width),
                       .up = linear(layer / "mlp" / "fc1", spec.width, spec.intermediate),
                       .down = linear(layer / "mlp" / "fc2", spec.intermediate, spec.width)});
  }
  final_norm_ = norm(w / "final_layer_norm", spec.width, spec.eps);
  if (spec.projection > 0) projection_ = linear(root / "text_projection", spec.width, spec.projection, false);
}

Tensor ClipTextEncoder::embed(Ops& o, View ids, std::span<const TokenVector> vectors) const {
  const int64_t n = ids.shape[0], length = ids.shape[1];
  // Every row has the same positions 0, 1, 2, ...
  std::vector<int32_t> places(static_cast<size_t>(n * length));
  for (size_t i = 0; i < places.size(); i++) places[i] = static_cast<int32_t>(static_cast<int64_t>(i) % length);
  const Tensor positions = o.upload(DType::i32, ids.shape, std::span<const int32_t>(places));
  Tensor token = o.gather(*token_embedding_, ids), position = o.gather(*position_embedding_, positions);
  for (const TokenVector& v : vectors) {
    const Tensor own = o.upload(DType::f32, {1, 1, spec_.width}, v.values);
    o.copy(token.slice(0, v.row, v.row + 1).slice(1, v.position, v.position + 1), own);
  }
  Tensor x = o.combine({{1, token}, {1, position}});
  x = o.cast(x, o.compute());
  o.tap(x, "hidden.0");
  return x;
}

Tensor ClipTextEncoder::run(Ops& o, Tensor x, int from, int to) const {
  const int64_t width = spec_.width;
  const AttentionArgs attention{
      .heads = spec_.heads, .scale = 1 / std::sqrt(static_cast<float>(width) / static_cast<float>(spec_.heads)), .causal = true};
  for (int i = from; i < to; i++) {
    const Layer& layer = layers_[static_cast<size_t>(i)];
    Tensor h = o.layer_norm(x, layer.norm1);
    h = o.linear(h, layer.qkv);
    h = o.attention(h.slice(2, 0, width), h.slice(2, width, 2 * width), h.slice(2, 2 * width, 3 * width), attention);
    x = o.linear(h, layer.out, {.residual = x});
    h = o.layer_norm(x, layer.norm2);
    h = o.linear(h, layer.up, {.act = spec_.act});
    x = o.linear(h, layer.down, {.residual = x});
    o.tap(x, "hidden.{}", i + 1);
  }
  return x;
}

Tensor ClipTextEncoder::operator()(Ops& o, View ids, int skip, bool final_norm, std::span<const TokenVector> vectors) const {
  invariant(skip >= 0 && skip < spec_.layers, "{} of {} text layers skipped", skip, spec_.layers);
  Tensor x = run(o, embed(o, ids, vectors), 0, spec_.layers - skip);
  return final_norm ? o.layer_norm(x, final_norm_) : std::move(x);
}

Tensor ClipTextEncoder::with_pooled(Ops& o, View ids, int skip, bool final_norm, std::span<const TextEnd> ends, View pooled,
                                    std::span<const TokenVector> vectors) const {
  invariant(projection_ && skip >= 0 && skip < spec_.layers, "a pooled state of an encoder without projection");
  const Tensor read = run(o, embed(o, ids, vectors), 0, spec_.layers - skip);
  Tensor states = final_norm ? o.layer_norm(read, final_norm_) : o.cast(read, o.compute());
  const auto texts = static_cast<int64_t>(ends.size());
  Tensor x = o.make(o.compute(), read.shape().with(0, texts));
  for (int64_t i = 0; i < texts; i++) {
    const int64_t row = ends[static_cast<size_t>(i)].row;
    o.copy(x.slice(0, i, i + 1), read.slice(0, row, row + 1));
  }
  x = run(o, std::move(x), spec_.layers - skip, spec_.layers);
  x = o.layer_norm(x, final_norm_);
  const Tensor rows = o.make(o.compute(), {texts, 1, spec_.width});
  for (int64_t i = 0; i < texts; i++) {
    const int64_t end = ends[static_cast<size_t>(i)].position;
    o.copy(rows.slice(0, i, i + 1), x.slice(0, i, i + 1).slice(1, end, end + 1));
  }
  const Tensor projected = o.linear(rows, *projection_);
  o.copy(pooled, projected.view().reshape(pooled.shape));
  return states;
}

std::vector<ClipTextEncoder> clip_text_encoders(const Weights& root, std::span<const TextEncoderSpec> specs) {
  std::vector<ClipTextEncoder> encoders;
  for (const TextEncoderSpec& spec : specs)
    encoders.emplace_back(root / (spec.projection > 0 ? "text_encoder_2" : "text_encoder"), spec);
  return encoders;
}

}  // namespace cudream
