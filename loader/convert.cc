// The plan of what is written, the values, and the two layouts.
#include "loader/convert.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/half.h"
#include "core/log.h"
#include "loader/diffusers_configs.h"
#include "loader/original_names.h"
#include "loader/values.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using Layout = Conversion::Layout;

// A tensor to write, made of canonical weights one below the other.
struct Target {
  std::vector<std::string> weights;
  bool transpose = false;
  std::vector<uint64_t> shape;
};

size_t width_of(FileType type) {
  return static_cast<size_t>(bits_of(type)) / 8;
}

// Swaps rows and columns of `bytes`, a matrix of `columns` elements a row.
std::vector<std::byte> transposed(const std::vector<std::byte>& bytes, uint64_t columns, size_t width) {
  std::vector<std::byte> out(bytes.size());
  const uint64_t rows = bytes.size() / width / columns;
  for (uint64_t r = 0; r < rows; r++)
    for (uint64_t c = 0; c < columns; c++) std::copy_n(&bytes[(r * columns + c) * width], width, &out[(c * rows + r) * width]);
  return out;
}

template <typename T>
std::vector<std::byte> rounded(std::span<const float> values, const std::string& name, FileType type) {
  std::vector<T> out(values.size());
  for (size_t i = 0; i < values.size(); i++) {
    out[i] = T(values[i]);
    if (std::isfinite(values[i]) && !std::isfinite(static_cast<float>(out[i])))
      throw fail(Code::unsupported, "{} holds the value {}, which {} cannot hold; use --precision {}", printable(name), values[i],
                 name_of(type), type == FileType::f16 ? "bf16 or fp32" : "fp32");
  }
  const auto bytes = std::as_bytes(std::span(out));
  return {bytes.begin(), bytes.end()};
}

// What becomes of the weights.
class Writer {
 public:
  Writer(const Model& model, const Conversion& conversion) : model_(model), conversion_(conversion) {}

  TensorSource source(const std::string& name, const Target& target) const {
    const FileType type = type_of(target);
    return {.name = name, .type = type, .shape = target.shape, .bytes = [this, target, type] { return bytes(target, type); }};
  }

 private:
  const Source& at(const std::string& weight) const { return model_.names().weights.find(weight)->second; }
  const TensorInfo& stored(const std::string& weight) const { return model_.names().stored(at(weight)); }
  bool changed(const std::string& weight) const { return conversion_.changes != nullptr && conversion_.changes->touches(weight); }

  FileType type_of(const Target& target) const {
    if (conversion_.precision) return *conversion_.precision;
    const FileType first = stored(target.weights.front()).type;
    if (std::ranges::any_of(target.weights, [&](const auto& w) { return stored(w).type != first; })) return FileType::f32;
    const bool is_changed = std::ranges::any_of(target.weights, [&](const auto& w) { return changed(w); });
    return is_changed && width_of(first) == 1 ? FileType::f16 : first;
  }

  // The canonical weight as it is stored, row-major.
  std::vector<std::byte> raw(const std::string& weight) const {
    const Source& s = at(weight);
    const TensorInfo& t = stored(weight);
    std::vector<std::byte> bytes(t.bytes / s.pieces);
    model_.files()[s.file]->map().read(bytes, t.offset + bytes.size() * s.piece);
    return s.transpose ? transposed(bytes, t.shape[1], width_of(t.type)) : bytes;
  }

  std::vector<std::byte> converted(const std::string& weight, FileType type) const {
    std::vector<std::byte> bytes = raw(weight);
    const FileType from = stored(weight).type;
    if (from == type && !changed(weight)) return bytes;
    std::vector<float> values(bytes.size() / width_of(from));
    to_float(values, from, bytes);
    if (changed(weight)) conversion_.changes->apply(weight, values);
    if (type == FileType::f16) return rounded<f16>(values, weight, type);
    if (type == FileType::bf16) return rounded<bf16>(values, weight, type);
    if (type == FileType::f32) return rounded<float>(values, weight, type);
    throw fail(Code::unsupported, "{} is stored as {}, which is not written anew; pass --precision", printable(weight),
               name_of(type));
  }

  std::vector<std::byte> bytes(const Target& target, FileType type) const {
    std::vector<std::byte> all;
    for (const std::string& weight : target.weights) {
      const std::vector<std::byte> one = converted(weight, type);
      all.insert(all.end(), one.begin(), one.end());
    }
    return target.transpose ? transposed(all, target.shape[0], width_of(type)) : all;
  }

  const Model& model_;
  const Conversion& conversion_;
};

// The attention of the VAE is a convolution of 1x1 in the original layout, and a matrix in diffusers'.
void shape_attention(std::string_view weight, std::vector<uint64_t>& shape, Layout layout) {
  if (!weight.starts_with("vae.") || weight.find(".attentions.0.to_") == std::string_view::npos || shape.size() < 2) return;
  shape.resize(2);
  if (layout == Layout::single_file) shape.resize(4, 1);
}

std::map<std::string, Target> single_file_targets(const Model& model) {
  const OriginalNames original(model.names(), model.spec().family);
  std::map<std::string, Target> targets;
  for (const auto& [weight, source] : model.names().weights) {
    const OriginalPlace place = original(weight);
    Target& target = targets[place.name];
    target.weights.resize(static_cast<size_t>(place.pieces));
    target.weights[static_cast<size_t>(place.piece)] = weight;
    target.transpose = place.transpose;
    target.shape = model.names().shape(source);
    target.shape[0] *= static_cast<uint64_t>(place.pieces);
    if (place.transpose) std::ranges::reverse(target.shape);
    shape_attention(weight, target.shape, Layout::single_file);
  }
  for (const auto& [name, target] : targets)
    for (const std::string& weight : target.weights)
      if (weight.empty()) throw fail(Code::bad_file, "{} cannot be written: a part of q, k and v is missing", name);
  return targets;
}

// By part, under the names within it.
std::map<std::string, std::map<std::string, Target>> folder_targets(const Model& model) {
  std::map<std::string, std::map<std::string, Target>> parts;
  for (const auto& [weight, source] : model.names().weights) {
    const size_t dot = weight.find('.');
    Target target{.weights = {weight}, .transpose = false, .shape = model.names().shape(source)};
    shape_attention(weight, target.shape, Layout::folder);
    parts[weight.substr(0, dot)].emplace(weight.substr(dot + 1), std::move(target));
  }
  return parts;
}

// None: nobody knows.
std::optional<Prediction> prediction_of(const Model& model, const Conversion& conversion) {
  if (conversion.prediction || !model.spec().prediction_known) return conversion.prediction;
  return model.spec().noise.prediction;
}

HeaderMetadata kept_metadata(const Model& model, const Conversion& conversion) {
  HeaderMetadata kept = conversion.added;
  for (const auto& file : model.files())
    for (const auto& [key, value] : file->header().metadata)
      if (key != "config" && key.find("hash") == std::string::npos) kept.emplace(key, value);
  return kept;
}

std::vector<TensorSource> sources(const Writer& writer, const std::map<std::string, Target>& targets) {
  std::vector<TensorSource> all;
  all.reserve(targets.size());
  for (const auto& [name, target] : targets) all.push_back(writer.source(name, target));
  return all;
}

void write_single_file(const Model& model, const Conversion& conversion, const fs::path& to) {
  const Writer writer(model, conversion);
  std::vector<TensorSource> tensors = sources(writer, single_file_targets(model));
  // How the web interfaces are told that an SDXL file predicts v.
  const auto mark = [&](const char* name) {
    tensors.push_back({name, FileType::f32, {0}, [] { return std::vector<std::byte>(); }});
  };
  if (model.spec().family == Family::sdxl && prediction_of(model, conversion) == Prediction::v) mark("v_pred");
  if (model.spec().family == Family::sdxl && model.spec().noise.zero_terminal_snr) mark("ztsnr");

  HeaderMetadata metadata = kept_metadata(model, conversion);
  nlohmann::json config;
  for (const auto& [part, text] : diffusers_configs(model, prediction_of(model, conversion)))
    config[part] = nlohmann::json::parse(text);
  metadata["config"] = config.dump();
  stream_safetensors(to, std::move(tensors), metadata, conversion.exists);
}

void write_text(const fs::path& file, const std::string& text) {
  AtomicFile out(file, Exists::refuse);
  out.write(text);
  out.commit();
}

fs::path config_file(const std::string& part) {
  if (part == "scheduler") return "scheduler_config.json";
  return part.starts_with("tokenizer") ? "tokenizer_config.json" : "config.json";
}

void write_folder(const Model& model, const Conversion& conversion, const fs::path& to) {
  const std::optional<Prediction> prediction = prediction_of(model, conversion);
  if (model.spec().unet && !prediction)
    throw fail(Code::usage,
               "{}: its header does not tell what it predicts, and a folder has to: pass --prediction v (as SD 2.1 of "
               "768 pixels) or epsilon (of 512)",
               model.path().string());
  const Writer writer(model, conversion);
  HeaderMetadata metadata = kept_metadata(model, conversion);
  metadata["format"] = "pt";  // without it transformers refuses the file
  for (const auto& [part, targets] : folder_targets(model)) {
    fs::create_directories(to / part);
    const char* name = part.starts_with("text_encoder") ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
    stream_safetensors(to / part / name, sources(writer, targets), metadata);
  }
  for (const auto& [part, text] : diffusers_configs(model, prediction)) {
    fs::create_directories(to / part);
    write_text(to / part / config_file(part), nlohmann::json::parse(text).dump(2) + "\n");
  }
  if (model.spec().unet) write_text(to / "model_index.json", model_index(model.spec()));
  if (!model.tokenizer().empty())
    for (const char* name : {"vocab.json", "merges.txt"}) fs::copy_file(model.tokenizer() / name, to / "tokenizer" / name);
}

// Removes a folder that was not finished.
struct Unfinished {
  fs::path path;
  ~Unfinished() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

void convert_model(const Model& model, const Conversion& conversion, const fs::path& to) try {
  const Identity& id = model.identity();
  if (id.verdict != Verdict::open && id.verdict != Verdict::part)
    throw fail(Code::unsupported, "{} is not converted: it is no model of a family that is known here{}{}", model.path().string(),
               id.obstacle.empty() ? "" : ": ", id.obstacle);
  if (id.spec.unet && id.spec.vae && id.spec.vae->tiny)
    throw fail(Code::unsupported, "{}: its autoencoder is a tiny one (TAESD), which files of whole models do not hold; {}",
               model.path().string(), "pass another one with --vae");
  if (conversion.layout == Layout::single_file) return write_single_file(model, conversion, to);
  if (fs::exists(fs::symlink_status(to))) throw fail(Code::io, "{} exists already; choose another name", to.string());
  const fs::path whole = fs::absolute(to).lexically_normal(), folder = whole.has_filename() ? whole : whole.parent_path();
  const Unfinished part{folder.parent_path() / fmt::format(".{}.{}.part", folder.filename().string(), ::getpid())};
  write_folder(model, conversion, part.path);
  fs::rename(part.path, folder);
} catch (const fs::filesystem_error& e) {
  throw fail(Code::io, "{}", e.what());
}

}  // namespace cudream
