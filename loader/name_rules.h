// The naming rules, read from stored names to canonical ones by names.cc and the other way by original_names.cc.
//
// A rule's `from` matches whole leading segments of a name; '#' stands for a number. In `to`:
//   $0 $1   the first and second number
//   $D $d   level and index within it of the down path, whose blocks the original layout numbers through from 1
//   $U $u   the same of the up path, numbered through from 0
//   $h      a convolution of a ControlNet's picture, which the original layout numbers with the activations between
//   $R      a level of the VAE's decoder, which the original layout numbers from the other end
//   $F      q, k and v: three equal ranges of rows of one stored tensor
//   $T      a layer of one half of TAESD, whose own files number these through; the decoder's first bounds the latent
// What follows the match is kept, unless it begins with the `from` of one of the part's tail rules.
// Where several rules lead to one canonical name, the last is that of the original layout.
#pragma once

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace cudream {

struct Rule {
  std::string_view from, to;
  bool transpose = false;
};

inline constexpr Rule kUnetHeads[] = {
    {"conv_in", "conv_in"},
    {"conv_norm_out", "conv_norm_out"},
    {"conv_out", "conv_out"},
    {"time_embedding", "time_embedding"},
    {"add_embedding", "add_embedding"},
    {"down_blocks", "down_blocks"},
    {"mid_block", "mid_block"},
    {"up_blocks", "up_blocks"},
    {"time_embed.0", "time_embedding.linear_1"},
    {"time_embed.2", "time_embedding.linear_2"},
    {"label_emb.0.0", "add_embedding.linear_1"},
    {"label_emb.0.2", "add_embedding.linear_2"},
    {"input_blocks.0.0", "conv_in"},
    {"input_blocks.#.0.op", "down_blocks.$D.downsamplers.0.conv"},
    {"input_blocks.#.0", "down_blocks.$D.resnets.$d"},
    {"input_blocks.#.1", "down_blocks.$D.attentions.$d"},
    {"middle_block.0", "mid_block.resnets.0"},
    {"middle_block.1", "mid_block.attentions.0"},
    {"middle_block.2", "mid_block.resnets.1"},
    {"output_blocks.#.0", "up_blocks.$U.resnets.$u"},
    {"output_blocks.#.1.conv", "up_blocks.$U.upsamplers.0.conv"},
    {"output_blocks.#.2.conv", "up_blocks.$U.upsamplers.0.conv"},
    {"output_blocks.#.1", "up_blocks.$U.attentions.$u"},
    {"out.0", "conv_norm_out"},
    {"out.2", "conv_out"},
};
inline constexpr Rule kUnetTails[] = {
    {"in_layers.0", "norm1"},  {"in_layers.2", "conv1"},  {"emb_layers.1", "time_emb_proj"},
    {"out_layers.0", "norm2"}, {"out_layers.3", "conv2"}, {"skip_connection", "conv_shortcut"},
};

// What a ControlNet has beside the names of a UNet.
inline constexpr Rule kControlHeads[] = {
    {"controlnet_cond_embedding", "controlnet_cond_embedding"},
    {"controlnet_down_blocks", "controlnet_down_blocks"},
    {"controlnet_mid_block", "controlnet_mid_block"},
    {"input_hint_block.0", "controlnet_cond_embedding.conv_in"},
    {"input_hint_block.14", "controlnet_cond_embedding.conv_out"},
    {"input_hint_block.#", "controlnet_cond_embedding.blocks.$h"},
    {"zero_convs.#.0", "controlnet_down_blocks.$0"},
    {"middle_block_out.0", "controlnet_mid_block"},
};

inline constexpr Rule kVaeHeads[] = {
    {"quant_conv", "quant_conv"},
    {"post_quant_conv", "post_quant_conv"},
    {"encoder.conv_in", "encoder.conv_in"},
    {"encoder.conv_out", "encoder.conv_out"},
    {"encoder.conv_norm_out", "encoder.conv_norm_out"},
    {"encoder.down_blocks", "encoder.down_blocks"},
    {"encoder.mid_block.attentions.0", "encoder.mid_block.attentions.0"},
    {"encoder.mid_block.resnets", "encoder.mid_block.resnets"},
    {"encoder.norm_out", "encoder.conv_norm_out"},
    {"encoder.down.#.block.#", "encoder.down_blocks.$0.resnets.$1"},
    {"encoder.down.#.downsample.conv", "encoder.down_blocks.$0.downsamplers.0.conv"},
    {"encoder.mid.block_1", "encoder.mid_block.resnets.0"},
    {"encoder.mid.block_2", "encoder.mid_block.resnets.1"},
    {"encoder.mid.attn_1", "encoder.mid_block.attentions.0"},
    {"decoder.conv_in", "decoder.conv_in"},
    {"decoder.conv_out", "decoder.conv_out"},
    {"decoder.conv_norm_out", "decoder.conv_norm_out"},
    {"decoder.up_blocks", "decoder.up_blocks"},
    {"decoder.mid_block.attentions.0", "decoder.mid_block.attentions.0"},
    {"decoder.mid_block.resnets", "decoder.mid_block.resnets"},
    {"decoder.norm_out", "decoder.conv_norm_out"},
    {"decoder.up.#.block.#", "decoder.up_blocks.$R.resnets.$1"},
    {"decoder.up.#.upsample.conv", "decoder.up_blocks.$R.upsamplers.0.conv"},
    {"decoder.mid.block_1", "decoder.mid_block.resnets.0"},
    {"decoder.mid.block_2", "decoder.mid_block.resnets.1"},
    {"decoder.mid.attn_1", "decoder.mid_block.attentions.0"},
    {"encoder.layers", "encoder.layers"},
    {"decoder.layers", "decoder.layers"},
    {"#", "$T"},
};
// The middle attention has three namings: diffusers', diffusers' before 0.17, and the original one.
inline constexpr Rule kVaeTails[] = {
    {"nin_shortcut", "conv_shortcut"}, {"norm", "group_norm"}, {"query", "to_q"}, {"key", "to_k"}, {"value", "to_v"},
    {"proj_attn", "to_out.0"},         {"q", "to_q"},          {"k", "to_k"},     {"v", "to_v"},   {"proj_out", "to_out.0"},
};

inline constexpr Rule kTextHeads[] = {
    {"text_model.embeddings", "text_model.embeddings"},
    {"text_model.encoder", "text_model.encoder"},
    {"text_model.final_layer_norm", "text_model.final_layer_norm"},
    {"text_projection.weight", "text_projection.weight"},
    {"embeddings", "text_model.embeddings"},
    {"encoder.layers", "text_model.encoder.layers"},
    {"final_layer_norm", "text_model.final_layer_norm"},
    {"token_embedding", "text_model.embeddings.token_embedding"},
    {"positional_embedding", "text_model.embeddings.position_embedding.weight"},
    {"ln_final", "text_model.final_layer_norm"},
    {"text_projection", "text_projection.weight", true},
    {"transformer.resblocks.#.ln_1", "text_model.encoder.layers.$0.layer_norm1"},
    {"transformer.resblocks.#.ln_2", "text_model.encoder.layers.$0.layer_norm2"},
    {"transformer.resblocks.#.attn.in_proj_weight", "text_model.encoder.layers.$0.self_attn.$F_proj.weight"},
    {"transformer.resblocks.#.attn.in_proj_bias", "text_model.encoder.layers.$0.self_attn.$F_proj.bias"},
    {"transformer.resblocks.#.attn.out_proj", "text_model.encoder.layers.$0.self_attn.out_proj"},
    {"transformer.resblocks.#.mlp.c_fc", "text_model.encoder.layers.$0.mlp.fc1"},
    {"transformer.resblocks.#.mlp.c_proj", "text_model.encoder.layers.$0.mlp.fc2"},
};

struct PartRules {
  std::string_view part;
  std::span<const Rule> heads, tails;
};
// A part may have several tables: the first that knows a name counts.
inline constexpr PartRules kParts[] = {
    {"unet", kUnetHeads, kUnetTails}, {"controlnet", kControlHeads, {}}, {"controlnet", kUnetHeads, kUnetTails},
    {"vae", kVaeHeads, kVaeTails},    {"text_encoder", kTextHeads, {}},  {"text_encoder_2", kTextHeads, {}},
};

struct Prefix {
  std::string_view prefix, part;
};
inline constexpr Prefix kPrefixes[] = {
    {"model.diffusion_model.", "unet"},
    {"diffusion_model.", "unet"},
    {"control_model.", "controlnet"},
    {"first_stage_model.", "vae"},
    {"cond_stage_model.transformer.", "text_encoder"},
    {"cond_stage_model.model.", "text_encoder"},
    {"conditioner.embedders.0.transformer.", "text_encoder"},
    {"conditioner.embedders.0.model.", "text_encoder_2"},
    {"conditioner.embedders.1.model.", "text_encoder_2"},
    {"unet.", "unet"},
    {"vae.", "vae"},
    {"text_encoder.", "text_encoder"},
    {"text_encoder_2.", "text_encoder_2"},
};

using Numbers = std::array<int, 2>;

// The number at the start of `text`, which is cut off it; none when there is none or it is absurd.
inline std::optional<int> take_number(std::string_view& text) {
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || n < 0 || n > 10000) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return n;
}

// Whether `name` begins with the segments of `pattern`: then the rest ("" or ".more") and the numbers. `dot` is what stands
// between the segments of the name.
inline std::optional<std::string_view> match(std::string_view name, std::string_view pattern, Numbers& numbers, char dot = '.') {
  size_t count = 0;
  for (const char c : pattern) {
    if (c == '#') {
      const std::optional<int> n = take_number(name);
      if (!n) return std::nullopt;
      numbers[count++] = *n;
    } else {
      if (!name.starts_with(c == '.' ? dot : c)) return std::nullopt;
      name.remove_prefix(1);
    }
  }
  return name.empty() || name.front() == dot ? std::optional(name) : std::nullopt;
}

// How the original layout numbers blocks through, read off the names of one file.
struct Numbering {
  int blocks_per_level = 1;  // of the UNet's paths: the residual blocks of a down level and its downsampling
  int vae_levels = 1;
  std::string_view tiny_half{};  // "encoder" or "decoder", of a file of TAESD's own
};

}  // namespace cudream
