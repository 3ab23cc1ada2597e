// The rule tables, and the matching of a name against them.
//
// A rule's `from` matches whole leading segments of a name; '#' stands for a number. In `to`:
//   $0 $1   the first and second number
//   $D $d   level and index within it of the down path, whose blocks the original layout numbers through from 1
//   $U $u   the same of the up path, numbered through from 0
//   $h      a convolution of a ControlNet's picture, which the original layout numbers with the activations between
//   $R      a level of the VAE's decoder, which the original layout numbers from the other end
//   $F      q, k and v: three equal ranges of rows of one stored tensor
// What follows the match is kept, unless it begins with the `from` of one of the part's tail rules.
#include "loader/names.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>
#include <string>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

struct Rule {
  std::string_view from, to;
  bool transpose = false;
};

constexpr Rule kUnetHeads[] = {
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
constexpr Rule kUnetTails[] = {
    {"in_layers.0", "norm1"},  {"in_layers.2", "conv1"},  {"emb_layers.1", "time_emb_proj"},
    {"out_layers.0", "norm2"}, {"out_layers.3", "conv2"}, {"skip_connection", "conv_shortcut"},
};

// What a ControlNet has beside the names of a UNet.
constexpr Rule kControlHeads[] = {
    {"controlnet_cond_embedding", "controlnet_cond_embedding"},
    {"controlnet_down_blocks", "controlnet_down_blocks"},
    {"controlnet_mid_block", "controlnet_mid_block"},
    {"input_hint_block.0", "controlnet_cond_embedding.conv_in"},
    {"input_hint_block.14", "controlnet_cond_embedding.conv_out"},
    {"input_hint_block.#", "controlnet_cond_embedding.blocks.$h"},
    {"zero_convs.#.0", "controlnet_down_blocks.$0"},
    {"middle_block_out.0", "controlnet_mid_block"},
};

constexpr Rule kVaeHeads[] = {
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
};
// The middle attention has three namings: diffusers', diffusers' before 0.17, and the original one.
constexpr Rule kVaeTails[] = {
    {"nin_shortcut", "conv_shortcut"}, {"norm", "group_norm"}, {"query", "to_q"}, {"key", "to_k"}, {"value", "to_v"},
    {"proj_attn", "to_out.0"},         {"q", "to_q"},          {"k", "to_k"},     {"v", "to_v"},   {"proj_out", "to_out.0"},
};

constexpr Rule kTextHeads[] = {
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
constexpr PartRules kParts[] = {
    {"unet", kUnetHeads, kUnetTails}, {"controlnet", kControlHeads, {}}, {"controlnet", kUnetHeads, kUnetTails},
    {"vae", kVaeHeads, kVaeTails},    {"text_encoder", kTextHeads, {}},  {"text_encoder_2", kTextHeads, {}},
};

struct Prefix {
  std::string_view prefix, part;
};
constexpr Prefix kPrefixes[] = {
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

constexpr std::string_view kBuffers[] = {
    "betas",
    "alphas_cumprod",
    "alphas_cumprod_prev",
    "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod",
    "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod",
    "posterior_variance",
    "posterior_log_variance_clipped",
    "posterior_mean_coef1",
    "posterior_mean_coef2",
    "logvar",
    "denoiser.sigmas",
    "v_pred",
    "ztsnr",
};

bool is_buffer(std::string_view name) {
  return name.starts_with("model_ema.") || name.ends_with("position_ids") || name.ends_with("logit_scale") ||
         std::find(std::begin(kBuffers), std::end(kBuffers), name) != std::end(kBuffers);
}

// How the original layout numbers blocks through, read off the names of one file.
struct Numbering {
  int blocks_per_level = 1;  // of the UNet's paths: the residual blocks of a down level and its downsampling
  int vae_levels = 1;
};

using Numbers = std::array<int, 2>;

// The number at the start of `text`, which is cut off it; none when there is none or it is absurd.
std::optional<int> take_number(std::string_view& text) {
  int n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || n < 0 || n > 10000) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return n;
}

// Whether `name` begins with the segments of `pattern`: then the rest ("" or ".more") and the numbers. `dot` is what stands
// between the segments of the name.
std::optional<std::string_view> match(std::string_view name, std::string_view pattern, Numbers& numbers, char dot = '.') {
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

std::string expand(std::string_view to, const Numbers& n, const Numbering& numbering, std::string_view fused) {
  const int each = numbering.blocks_per_level;
  std::string text;
  for (size_t i = 0; i < to.size(); i++) {
    if (to[i] != '$') {
      text += to[i];
      continue;
    }
    switch (to[++i]) {
      case '0': text += std::to_string(n[0]); break;
      case '1': text += std::to_string(n[1]); break;
      case 'D': text += std::to_string((n[0] - 1) / each); break;
      case 'd': text += std::to_string((n[0] - 1) % each); break;
      case 'U': text += std::to_string(n[0] / each); break;
      case 'u': text += std::to_string(n[0] % each); break;
      case 'h': text += std::to_string(n[0] / 2 - 1); break;
      case 'R': text += std::to_string(numbering.vae_levels - 1 - n[0]); break;
      case 'F': text += fused; break;
      default: invariant(false, "rule {} has an unknown mark", to);
    }
  }
  return text;
}

std::string with_tail(std::string_view rest, std::span<const Rule> tails, char dot = '.') {
  if (rest.empty()) return "";
  Numbers none{};
  for (const Rule& rule : tails)
    if (const auto more = match(rest.substr(1), rule.from, none, dot)) return dot + std::string(rule.to) + std::string(*more);
  return std::string(rest);
}

bool is_part(std::string_view name) {
  return std::any_of(std::begin(kParts), std::end(kParts), [&](const PartRules& p) { return p.part == name; });
}

// The part of a file whose names have no prefix, told by names that only it has.
std::string_view bare_part(const SafetensorsHeader& h) {
  if (h.find("input_hint_block.0.weight") || h.find("controlnet_cond_embedding.conv_in.weight")) return "controlnet";
  if (h.find("input_blocks.0.0.weight") || (h.find("conv_in.weight") && h.find("time_embedding.linear_1.weight"))) return "unet";
  if (h.find("decoder.conv_in.weight") || h.find("encoder.conv_in.weight")) return "vae";
  for (const std::string_view name :
       {"text_model.embeddings.token_embedding.weight", "embeddings.token_embedding.weight", "token_embedding.weight"})
    if (const TensorInfo* t = h.find(name))
      return t->shape.size() == 2 && t->shape[1] == 1280 ? "text_encoder_2" : "text_encoder";
  return "";
}

struct PartName {
  std::string_view part, name;  // name: without the prefix
};

PartName split_part(std::string_view name, std::string_view place) {
  if (!place.empty()) return {place, name};
  for (const Prefix& p : kPrefixes)
    if (name.starts_with(p.prefix)) return {p.part, name.substr(p.prefix.size())};
  return {"", name};
}

Numbering numbering_of(const SafetensorsHeader& header, std::string_view place) {
  Numbering found;
  int blocks = 0, first_downsampling = 0;
  for (const TensorInfo& t : header.tensors) {
    const auto [part, name] = split_part(t.name, place);
    Numbers n{};
    const bool numbered = part == "unet" || part == "controlnet";
    if (numbered && match(name, "input_blocks.#.0.op", n))
      first_downsampling = first_downsampling ? std::min(first_downsampling, n[0]) : n[0];
    if (numbered && match(name, "input_blocks.#.0", n)) blocks = std::max(blocks, n[0]);
    if (part == "vae" && match(name, "decoder.up.#.block.#", n)) found.vae_levels = std::max(found.vae_levels, n[0] + 1);
  }
  found.blocks_per_level = std::max(1, first_downsampling ? first_downsampling : blocks + 1);
  return found;
}

class Namer {
 public:
  explicit Namer(NameTable& table) : table_(table) {}

  void add(uint32_t file) {
    const PlacedHeader& placed = table_.files[file];
    const std::string place = placed.part.empty() ? std::string(bare_part(*placed.header)) : placed.part;
    numbering_ = numbering_of(*placed.header, place);
    for (uint32_t i = 0; i < placed.header->tensors.size(); i++) {
      const Source source{.file = file, .tensor = i};
      const std::string& name = table_.stored(source).name;
      const bool is_ours = place.empty() || is_part(place);  // not a safety checker's folder
      if (is_ours && is_buffer(name)) {
        table_.buffers.push_back(source);
      } else if (!add_weight(split_part(name, place), source)) {
        table_.unknown.push_back(source);
      }
    }
  }

 private:
  bool add_weight(const PartName& split, const Source& source) {
    for (const PartRules& rules : kParts)
      for (const Rule& rule : rules.heads) {
        Numbers numbers{};
        if (rules.part != split.part) break;
        const auto rest = match(split.name, rule.from, numbers);
        if (!rest) continue;
        add_pieces(rules, rule, numbers, *rest, source);
        return true;
      }
    return false;
  }

  void add_pieces(const PartRules& rules, const Rule& rule, const Numbers& numbers, std::string_view rest, Source source) {
    const bool fused = rule.to.find("$F") != std::string_view::npos;
    source.transpose = rule.transpose;
    source.pieces = fused ? 3 : 1;
    for (source.piece = 0; source.piece < source.pieces; source.piece++) {
      const std::string_view letter = std::string_view("qkv").substr(source.piece, 1);
      insert(fmt::format("{}.{}{}", rules.part, expand(rule.to, numbers, numbering_, letter), with_tail(rest, rules.tails)),
             source);
    }
  }

  void insert(const std::string& name, const Source& source) {
    const TensorInfo& stored = table_.stored(source);
    const bool divides = source.pieces == 1 || (!stored.shape.empty() && stored.shape[0] % source.pieces == 0);
    if (!divides || (source.transpose && stored.shape.size() != 2))
      throw fail(Code::bad_file, "the tensor {} has the shape {}, which cannot be read as {}", printable(stored.name),
                 stored.str(), printable(name));
    const auto [at, is_new] = table_.weights.emplace(name, source);
    if (!is_new)
      throw fail(Code::bad_file, "the tensors {} and {} both mean {}; the file mixes two models",
                 printable(table_.stored(at->second).name), printable(stored.name), printable(name));
  }

  NameTable& table_;
  Numbering numbering_;
};

}  // namespace

std::string diffusers_flat_name(std::string_view flat, int blocks_per_level) {
  for (const Rule& rule : kUnetHeads) {
    Numbers numbers{};
    const auto rest = match(flat, rule.from, numbers, '_');
    if (!rest) continue;
    std::string name = expand(rule.to, numbers, {.blocks_per_level = blocks_per_level}, "") + with_tail(*rest, kUnetTails, '_');
    std::replace(name.begin(), name.end(), '.', '_');
    return name;
  }
  return std::string(flat);
}

std::vector<uint64_t> NameTable::shape(const Source& s) const {
  std::vector<uint64_t> shape = stored(s).shape;
  if (s.pieces > 1) shape[0] /= s.pieces;
  if (s.transpose) std::reverse(shape.begin(), shape.end());
  return shape;
}

bool NameTable::has_part(std::string_view part) const {
  const std::string prefix = std::string(part) + ".";
  const auto at = weights.lower_bound(prefix);
  return at != weights.end() && at->first.starts_with(prefix);
}

NameTable name_tensors(std::vector<PlacedHeader> files) {
  NameTable table;
  table.files = std::move(files);
  Namer namer(table);
  for (uint32_t i = 0; i < table.files.size(); i++) namer.add(i);
  return table;
}

}  // namespace cudream
