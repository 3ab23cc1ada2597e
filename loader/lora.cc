// Names of modules, their fit, and the product of the two halves.
#include "loader/lora.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "loader/fingerprints.h"

namespace cudream {
namespace {

enum class Half { down, up, mid, alpha };

struct Ending {
  std::string_view text;
  Half half;
};
constexpr Ending kEndings[] = {
    {".lora_down.weight", Half::down},
    {".lora_up.weight", Half::up},
    {".lora_mid.weight", Half::mid},
    {".alpha", Half::alpha},
    {".lora_A.weight", Half::down},
    {".lora_B.weight", Half::up},
    {".lora_A.default.weight", Half::down},
    {".lora_B.default.weight", Half::up},
    {".lora.down.weight", Half::down},
    {".lora.up.weight", Half::up},
    {"_lora.down.weight", Half::down},
    {"_lora.up.weight", Half::up},
    {":down", Half::down},
    {":up", Half::up},
};

std::optional<std::pair<std::string, Half>> split_name(std::string_view name) {
  for (const Ending& e : kEndings)
    if (name.ends_with(e.text)) return std::pair(std::string(name.substr(0, name.size() - e.text.size())), e.half);
  return std::nullopt;
}

std::string flat(std::string_view name) {
  std::string text(name);
  std::replace(text.begin(), text.end(), '.', '_');
  return text;
}

void replace(std::string& text, std::string_view from, std::string_view to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
}

// A module's name as "part/flat_name": "unet/down_blocks_0_attentions_0_proj_in".
std::string flat_key(std::string_view name, int blocks_per_level) {
  constexpr struct {
    std::string_view prefix, part;
  } kPrefixes[] = {{"lora_unet_", "unet"},
                   {"lora_te1_", "text_encoder"},
                   {"lora_te2_", "text_encoder_2"},
                   {"lora_te_", "text_encoder"},
                   {"base_model_model_", "unet"},
                   {"unet_", "unet"},
                   {"text_encoder_2_", "text_encoder_2"},
                   {"text_encoder_", "text_encoder"},
                   {"", "unet"}};
  const std::string whole = flat(name);
  const auto* prefix = std::begin(kPrefixes);
  while (!whole.starts_with(prefix->prefix)) prefix++;
  std::string rest = whole.substr(prefix->prefix.size());
  replace(rest, "_processor", "");
  if (prefix->part == "unet") {
    rest = diffusers_flat_name(rest, blocks_per_level);
    if (rest.ends_with("_to_out")) rest += "_0";
  } else {  // diffusers before PEFT called the projections of the text encoder as the UNet's
    for (const std::string letter : {"q", "k", "v"}) replace(rest, "_attn_to_" + letter, "_attn_" + letter + "_proj");
    replace(rest, "_attn_to_out", "_attn_out_proj");
  }
  return fmt::format("{}/{}", prefix->part, rest);
}

// The modules of cloneofsimo/lora have numbers: linear layers of attentions and GEGLU in the order in which diffusers of its
// time (0.10) registered them, down, up, middle; and of the text encoder's attentions.
std::vector<std::string> numbered_modules(const NameTable& names, std::string_view part) {
  std::vector<std::string> found;
  if (part == "text_encoder") {
    for (int i = 0; names.weights.contains(fmt::format("text_encoder.text_model.encoder.layers.{}.layer_norm1.weight", i)); i++)
      for (const std::string_view leaf : {"k_proj", "v_proj", "q_proj", "out_proj"})
        found.push_back(fmt::format("text_encoder.text_model.encoder.layers.{}.self_attn.{}", i, leaf));
    return found;
  }
  const auto add_attention = [&](const std::string& place) {
    for (int k = 0; names.weights.contains(fmt::format("{}.transformer_blocks.{}.norm1.weight", place, k)); k++)
      for (const std::string_view leaf : {"attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "ff.net.0.proj",
                                          "attn2.to_q", "attn2.to_k", "attn2.to_v", "attn2.to_out.0"})
        found.push_back(fmt::format("{}.transformer_blocks.{}.{}", place, k, leaf));
  };
  constexpr int kMost = 16;  // levels and attentions of a level
  for (const std::string_view way : {"down_blocks", "up_blocks"})
    for (int level = 0; level < kMost; level++)
      for (int j = 0; j < kMost; j++) add_attention(fmt::format("unet.{}.{}.attentions.{}", way, level, j));
  add_attention("unet.mid_block.attentions.0");
  return found;
}

// From the names that a file may use for a module to the canonical weight.
class Targets {
 public:
  Targets(const NameTable& names, const ModelSpec& spec)
      : names_(names), blocks_per_level_(spec.unet ? static_cast<int>(spec.unet->down_depth.front().size()) + 1 : 1) {
    for (const auto& [name, unused] : names.weights) {
      const size_t dot = name.find('.');
      if (!name.ends_with(".weight")) continue;
      by_flat_[fmt::format("{}/{}", name.substr(0, dot), flat(name.substr(dot + 1, name.size() - dot - 8)))] = name;
    }
  }

  // The canonical weight; empty: the model has no such module.
  std::string find(const std::string& module) {
    const size_t colon = module.find(':');
    if (colon != std::string::npos) return numbered(module.substr(0, colon), std::string_view(module).substr(colon + 1));
    const auto at = by_flat_.find(flat_key(module, blocks_per_level_));
    return at == by_flat_.end() ? "" : at->second;
  }

 private:
  std::string numbered(const std::string& part, std::string_view number) {
    auto [modules, fresh] = numbered_.try_emplace(part);
    if (fresh) modules->second = numbered_modules(names_, part);
    size_t i = 0;
    if (std::from_chars(number.begin(), number.end(), i).ec != std::errc() || i >= modules->second.size()) return "";
    return modules->second[i] + ".weight";
  }

  const NameTable& names_;
  int blocks_per_level_;
  std::map<std::string, std::string> by_flat_;
  std::map<std::string, std::vector<std::string>> numbered_;
};

}  // namespace

Lora::Lora(const std::filesystem::path& path) : file_(std::make_shared<const SafetensorsFile>(path)) {
  const std::optional<Identity> id = recognise_other(name_tensors({{"", &file_->header()}}));
  if (!id || id->verdict != Verdict::adapter) throw fail(Code::bad_file, "{} is no LoRA", path.string());
  if (id->task != "lora" && id->task != "locon")
    throw fail(Code::unsupported, "{} is an adapter of the kind {}; LoRA and LoCon are supported", path.string(), id->task);
  family_ = id->family;
  std::map<std::string, Module> modules;
  for (const TensorInfo& t : file_->tensors()) {
    const auto split = split_name(t.name);
    if (!split) continue;
    Module& m = modules[split->first];
    m.name = split->first;
    (split->second == Half::down ? m.down : split->second == Half::up ? m.up : split->second == Half::mid ? m.mid : m.alpha) = &t;
  }
  for (const auto& [name, m] : modules) {
    if (m.down == nullptr || m.up == nullptr || m.down->shape.size() < 2 || m.up->shape.size() < 2)
      throw fail(Code::bad_file, "{} lacks a half of {}; download it again", path.string(), printable(name));
    modules_.push_back(m);
  }
}

bool Lora::fits(const Module& m, std::vector<uint64_t> shape) const {
  const auto size = [](const std::vector<uint64_t>& dims, size_t from) {
    uint64_t n = 1;
    for (size_t i = from; i < dims.size(); i++) n *= dims[i];
    return n;
  };
  const uint64_t rank = m.up->shape[1], kernel = m.mid ? size(m.mid->shape, 2) : 1;
  if (m.mid && (m.mid->shape.size() < 2 || m.mid->shape[0] != rank || m.mid->shape[1] != m.down->shape[0])) return false;
  return m.up->shape[0] == shape[0] && size(m.up->shape, 2) == 1 && (m.mid || m.down->shape[0] == rank) &&
         size(m.down->shape, 1) * kernel == size(shape, 1);
}

Lora::Fit Lora::fit(const NameTable& names, const ModelSpec& spec) const {
  Fit fit;
  std::string misfit;
  Targets targets(names, spec);
  for (size_t i = 0; i < modules_.size(); i++) {
    const std::string target = targets.find(modules_[i].name);
    if (target.empty()) {
      fit.unused.push_back(modules_[i].name);
    } else if (!fits(modules_[i], names.shape(names.weights.at(target)))) {
      misfit = fmt::format("{} has another shape than {}", printable(modules_[i].name), target);
    } else {
      fit.weights[target] = i;
    }
  }
  if (fit.weights.empty() || !misfit.empty())
    throw fail(Code::unsupported, "the LoRA {} does not fit the model: {}. It is made for {}; use it with a model of that family",
               path().string(), misfit.empty() ? fmt::format("none of its {} keys names a part of it", size()) : misfit, family_);
  return fit;
}

void Lora::add(size_t i, double strength, std::span<float> weight) const {
  const Module& m = modules_[i];
  std::vector<float> down = file_->floats(*m.down);
  const std::vector<float> up = file_->floats(*m.up);
  const size_t rank = m.up->shape[1], outputs = m.up->shape[0];
  double scale = strength;
  if (m.alpha) scale *= file_->floats(*m.alpha).front() / static_cast<double>(m.down->shape[0]);
  if (m.mid) {  // a convolution in three: 1x1 to the rank, the kernel, 1x1 back. The first two make one.
    const std::vector<float> mid = file_->floats(*m.mid), first = std::move(down);
    const size_t inner = m.down->shape[0], inputs = first.size() / inner, kernel = mid.size() / (rank * inner);
    down.assign(rank * inputs * kernel, 0.f);
    for (size_t a = 0; a < rank; a++)
      for (size_t b = 0; b < inner; b++)
        for (size_t c = 0; c < inputs; c++)
          for (size_t k = 0; k < kernel; k++)
            down[(a * inputs + c) * kernel + k] += mid[(a * inner + b) * kernel + k] * first[b * inputs + c];
  }
  const size_t width = down.size() / rank;
  std::vector<float> row(width);
  for (size_t o = 0; o < outputs; o++) {
    std::fill(row.begin(), row.end(), 0.f);
    for (size_t r = 0; r < rank; r++) {
      const float u = up[o * rank + r];
      const float* d = &down[r * width];
      for (size_t c = 0; c < width; c++) row[c] += u * d[c];
    }
    float* w = &weight[o * width];
    for (size_t c = 0; c < width; c++) w[c] += static_cast<float>(scale) * row[c];
  }
}

Lora::Fit WeightChanges::add(const std::shared_ptr<const Lora>& lora, double strength, const NameTable& names,
                             const ModelSpec& spec) {
  Lora::Fit fit = lora->fit(names, spec);
  for (const auto& [name, module] : fit.weights) changes_[name].push_back({lora, module, strength});
  return fit;
}

void WeightChanges::apply(std::string_view name, std::span<float> weight) const {
  const auto at = changes_.find(name);
  if (at == changes_.end()) return;
  for (const Change& change : at->second) change.lora->add(change.module, change.strength, weight);
}

std::set<std::string> WeightChanges::names() const {
  std::set<std::string> names;
  for (const auto& [name, unused] : changes_) names.insert(name);
  return names;
}

}  // namespace cudream
