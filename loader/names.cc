// Matching names against the rules, and the table that comes of it.
#include "loader/names.h"

#include <algorithm>
#include <optional>
#include <span>
#include <string>

#include "core/error.h"
#include "core/log.h"
#include "loader/name_rules.h"

namespace cudream {
namespace {

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
      case 'T':
        text += fmt::format("{}.layers.{}", numbering.tiny_half, n[0] - (numbering.tiny_half == "decoder" ? 1 : 0));
        break;
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

// Which half of TAESD a file of its own holds; empty: it is no such file.
std::string_view tiny_half(const SafetensorsHeader& h) {
  if (h.find("1.weight") && h.find("3.conv.0.weight")) return "decoder";
  if (h.find("0.weight") && h.find("1.conv.0.weight")) return "encoder";
  return "";
}

// The part of a file whose names have no prefix, told by names that only it has.
std::string_view bare_part(const SafetensorsHeader& h) {
  if (h.find("input_hint_block.0.weight") || h.find("controlnet_cond_embedding.conv_in.weight")) return "controlnet";
  if (h.find("input_blocks.0.0.weight") || (h.find("conv_in.weight") && h.find("time_embedding.linear_1.weight"))) return "unet";
  for (const std::string_view name :
       {"decoder.conv_in.weight", "encoder.conv_in.weight", "decoder.layers.0.weight", "encoder.layers.0.weight"})
    if (h.find(name)) return "vae";
  if (!tiny_half(h).empty()) return "vae";
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
  Numbering found{.tiny_half = tiny_half(header)};
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
