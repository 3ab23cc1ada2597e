// Opening a model: find its files, check their headers, name the tensors, find out what it is.
#include "loader/model.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"
#include "core/log.h"
#include "loader/checkpoint.h"
#include "loader/folder.h"
#include "loader/kind.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

// Runs `action`; what it throws about tensors and configurations gets the model's path in front.
template <typename Action>
auto about(const fs::path& path, Action action) {
  try {
    return action();
  } catch (const Error& e) {
    throw Error(e.code(), path.string() + ": " + e.what());
  }
}

// Tensors that a network of this spec has no use for, though its family's files hold them: the last layer of SD 2.x, and
// the projection of an encoder whose pooled state is not used.
bool is_unused(std::string_view name, std::string_view part, const TextEncoderSpec& spec) {
  if (name == fmt::format("{}.text_projection.weight", part)) return spec.projection == 0;
  const std::string layers = fmt::format("{}.text_model.encoder.layers.", part);
  if (!name.starts_with(layers)) return false;
  int layer = 0;
  std::from_chars(name.data() + layers.size(), name.data() + name.size(), layer);
  return layer >= spec.layers;
}

void drop_unused(NameTable& names, const ModelSpec& spec) {
  size_t next = 0;
  for (const std::string_view part : {"text_encoder", "text_encoder_2"}) {
    if (!names.has_part(part) || next == spec.text_encoders.size()) continue;
    const TextEncoderSpec& encoder = spec.text_encoders[next++];
    std::erase_if(names.weights, [&](const auto& entry) { return is_unused(entry.first, part, encoder); });
  }
}

std::shared_ptr<const SafetensorsFile> open_file(const fs::path& path, Checkpoints checkpoints) {
  if (checkpoints == Checkpoints::refused || kind_of(path) != FileKind::zip_pickle)
    return std::make_shared<const SafetensorsFile>(path);
  MappedFile map(path);
  SafetensorsHeader header = read_checkpoint(
      {.name = path.string(), .size = map.size(), .read = [&](auto to, uint64_t offset) { map.read(to, offset); }});
  return std::make_shared<const SafetensorsFile>(std::move(map), std::move(header));
}

std::string joined(const std::vector<std::string>& texts) {
  return fmt::format("{}", fmt::join(texts, ", "));
}

}  // namespace

Model open_model(const fs::path& path, Checkpoints checkpoints) {
  ModelFiles found = find_model_files(path);
  Model model;
  model.path_ = path;
  model.tokenizer_ = found.tokenizer;
  model.configs_ = found.config_files;
  std::vector<PlacedHeader> placed;
  Configs configs;
  for (const ModelFiles::Weights& w : found.weights) {
    model.files_.push_back(open_file(w.path, checkpoints));
    placed.push_back({w.part, &model.files_.back()->header()});
    // What a file says of itself goes before what lies beside it. (Other programs put other things under this key.)
    const HeaderMetadata& metadata = model.files_.back()->header().metadata;
    if (const auto own = metadata.find("config"); own != metadata.end() && w.part.empty() && own->second.starts_with('{'))
      add_configs(configs, own->second, w.path.string() + " (metadata \"config\")");
  }
  configs.merge(found.configs);
  model.config_texts_ = std::move(configs);
  about(path, [&] {
    model.names_ = name_tensors(std::move(placed));
    model.identity_ = identify(model.names_, model.config_texts_);
    drop_unused(model.names_, model.identity_.spec);
  });
  return model;
}

void Model::replace_vae(const fs::path& path) {
  const Model other = open_model(path);
  if (!other.names_.has_part("vae"))
    throw fail(Code::bad_file, "{} holds no VAE ({} {}); give a VAE or a model that has one", path.string(),
               other.identity_.family, other.identity_.task);
  if (!other.spec().vae->decoder)
    throw fail(Code::bad_file, "{} holds only the encoder of a tiny autoencoder; give the file with its decoder, or with both",
               path.string());
  if (spec().unet && other.spec().vae->latent_channels != spec().unet->out_channels)
    throw fail(Code::bad_file, "the VAE {} has {} latent channels, but the model makes {}", path.string(),
               other.spec().vae->latent_channels, spec().unet->out_channels);
  std::erase_if(names_.weights, [](const auto& entry) { return entry.first.starts_with("vae."); });
  const auto offset = static_cast<uint32_t>(files_.size());
  for (const auto& [name, source] : other.names_.weights) {
    if (!name.starts_with("vae.")) continue;
    Source moved = source;
    moved.file += offset;
    names_.weights.emplace(name, moved);
  }
  files_.insert(files_.end(), other.files_.begin(), other.files_.end());
  for (const PlacedHeader& placed : other.names_.files) names_.files.push_back({"vae", placed.header});
  config_texts_.erase("vae");
  if (const auto config = other.config_texts_.find("vae"); config != other.config_texts_.end()) config_texts_.insert(*config);
  about(path, [&] { identity_ = identify(names_, config_texts_); });
}

void require_runnable(const Model& model) {
  const Identity& id = model.identity();
  const std::string path = model.path().string();
  switch (id.verdict) {
    case Verdict::open: break;
    case Verdict::part:
      throw fail(Code::unsupported, "{} is a part of a model ({}), not a whole one: it holds {}", path, id.family,
                 joined(id.parts));
    case Verdict::adapter:
      throw fail(Code::unsupported, "{} is an adapter ({} for {}), not a model: give the model that it belongs to{}", path,
                 id.task, id.family, id.spec.controlnet ? ", and this with --control" : "");
    case Verdict::refuse: throw fail(Code::unsupported, "{} cannot be used: {}", path, id.obstacle);
  }
  if (!id.obstacle.empty()) throw fail(Code::unsupported, "{} cannot be used: {}", path, id.obstacle);
  if (!model.names().has_part("vae")) throw fail(Code::unsupported, "{} has no VAE: pass one with --vae FILE", path);
  for (const std::string& part : id.missing)
    if (part == "text_encoder" || part == "text_encoder_2")
      throw fail(Code::unsupported, "{} has no {}, only {}: use a whole checkpoint or a folder that has one", path,
                 part == "text_encoder" ? "text encoder" : "second text encoder", joined(id.parts));
}

}  // namespace cudream
