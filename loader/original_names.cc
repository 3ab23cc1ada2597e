// The rules read backwards.
#include "loader/original_names.h"

#include <map>

#include "core/error.h"
#include "loader/name_rules.h"

namespace cudream {
namespace {

// What the marks of a rule's `to` stand for in a name, 'F' as 0, 1 or 2; none: it does not match.
struct Marks {
  std::map<char, int> values;
  std::string_view rest;  // "" or ".more"
};

std::optional<Marks> read_marks(std::string_view name, std::string_view to) {
  Marks marks;
  for (size_t i = 0; i < to.size(); i++) {
    if (to[i] != '$') {
      if (!name.starts_with(to[i])) return std::nullopt;
      name.remove_prefix(1);
      continue;
    }
    const char mark = to[++i];
    std::optional<int> n;
    if (mark != 'F') {
      n = take_number(name);
    } else if (const size_t letter = std::string_view("qkv").find(name.substr(0, 1)); letter != std::string_view::npos) {
      n = static_cast<int>(letter);
      name.remove_prefix(1);
    }
    if (!n) return std::nullopt;
    marks.values[mark] = *n;
  }
  if (!name.empty() && name.front() != '.') return std::nullopt;
  marks.rest = name;
  return marks;
}

// The numbers of `from`. A level's resampling follows the last block of it.
Numbers numbers_of(const Marks& marks, const Numbering& numbering) {
  const int each = numbering.blocks_per_level;
  const auto at = [&](char mark, int otherwise) {
    const auto found = marks.values.find(mark);
    return found == marks.values.end() ? otherwise : found->second;
  };
  Numbers n{at('0', 0), at('1', 0)};
  if (marks.values.contains('D')) n[0] = at('D', 0) * each + at('d', each - 1) + 1;
  if (marks.values.contains('U')) n[0] = at('U', 0) * each + at('u', each - 1);
  if (marks.values.contains('R')) n[0] = numbering.vae_levels - 1 - at('R', 0);
  return n;
}

std::string filled(std::string_view from, const Numbers& numbers) {
  std::string text;
  size_t count = 0;
  for (const char c : from) text += c == '#' ? std::to_string(numbers[count++]) : std::string(1, c);
  return text;
}

std::string original_tail(std::string_view rest, std::span<const Rule> tails) {
  Numbers none{};
  if (!rest.empty())
    for (size_t i = tails.size(); i-- > 0;)
      if (const auto more = match(rest.substr(1), tails[i].to, none))
        return "." + std::string(tails[i].from) + std::string(*more);
  return std::string(rest);
}

int count(const NameTable& names, const std::string& prefix, const std::string& suffix) {
  int n = 0;
  while (names.weights.contains(fmt::format("{}{}{}", prefix, n, suffix))) n++;
  return n;
}

}  // namespace

OriginalNames::OriginalNames(const NameTable& names, Family family)
    : names_(names),
      family_(family),
      blocks_per_level_(count(names, "unet.down_blocks.0.resnets.", ".conv1.weight") + 1),
      vae_levels_(count(names, "vae.decoder.up_blocks.", ".resnets.0.conv1.weight")) {}

std::string_view OriginalNames::prefix(std::string_view part) const {
  const bool xl = family_ == Family::sdxl;
  if (part == "unet") return "model.diffusion_model.";
  if (part == "vae") return "first_stage_model.";
  if (part == "text_encoder_2") return xl ? "conditioner.embedders.1.model." : "conditioner.embedders.0.model.";
  if (xl) return "conditioner.embedders.0.transformer.";
  return family_ == Family::sd2 ? "cond_stage_model.model." : "cond_stage_model.transformer.";
}

bool OriginalNames::has_attention(int up_level) const {
  const std::string start = fmt::format("unet.up_blocks.{}.attentions.", up_level);
  const auto at = names_.weights.lower_bound(start);
  return at != names_.weights.end() && at->first.starts_with(start);
}

OriginalPlace OriginalNames::operator()(std::string_view canonical) const {
  const size_t dot = canonical.find('.');
  const std::string_view part = canonical.substr(0, dot), name = canonical.substr(dot + 1);
  const std::string before(prefix(part));
  if (part.starts_with("text_encoder") && !before.ends_with(".model.")) return {.name = before + std::string(name)};
  const auto* rules = std::ranges::find(kParts, part, &PartRules::part);
  invariant(rules != std::end(kParts), "{} belongs to no part", canonical);
  for (size_t i = rules->heads.size(); i-- > 0;) {
    const Rule& rule = rules->heads[i];
    const std::optional<Marks> marks = read_marks(name, rule.to);
    // Upsampling follows the attention of its level, where there is one.
    if (!marks || (rule.from == "output_blocks.#.2.conv" && !has_attention(marks->values.at('U')))) continue;
    OriginalPlace place{.name = before + filled(rule.from, numbers_of(*marks, {blocks_per_level_, vae_levels_})) +
                                original_tail(marks->rest, rules->tails),
                        .transpose = rule.transpose};
    if (const auto third = marks->values.find('F'); third != marks->values.end()) {
      place.piece = third->second;
      place.pieces = 3;
    }
    return place;
  }
  return {.name = before + std::string(name)};
}

}  // namespace cudream
