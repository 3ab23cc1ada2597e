// Finding a model's files.
#include "loader/folder.h"

#include <algorithm>
#include <array>
#include <set>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"
#include "loader/config.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMaxConfig = 4 << 20, kMaxIndex = 64 << 20;  // bytes

bool is_inside(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

// The folder that links of a Hugging Face snapshot may point into; empty when `root` is none.
fs::path blobs_of(const fs::path& root) {
  for (fs::path at = root; at.has_relative_path(); at = at.parent_path())
    if (at.filename() == "snapshots" && at.parent_path().filename().string().starts_with("models--"))
      return at.parent_path() / "blobs";
  return {};
}

// Files of one model folder, none of which may lie elsewhere.
class Folder {
 public:
  explicit Folder(const fs::path& root) : root_(fs::canonical(root)), blobs_(blobs_of(root_)) {}

  bool has(const fs::path& file) const { return fs::is_regular_file(file); }
  fs::path checked(const fs::path& file) const {
    const fs::path real = fs::canonical(file);
    if (!is_inside(real, root_) && (blobs_.empty() || !is_inside(real, blobs_)))
      throw fail(Code::bad_file, "{} is a link to {}, outside of the model's folder; replace the link by the file itself",
                 file.string(), real.string());
    return file;
  }
  std::string text(const fs::path& file, size_t limit) const { return read_text(checked(file), limit); }

 private:
  fs::path root_, blobs_;
};

// The files an index spreads one component over.
std::vector<fs::path> shards(const Folder& folder, const fs::path& index) {
  const auto map = Config(index.string(), folder.text(index, kMaxIndex)).object("weight_map");
  if (!map) throw fail(Code::bad_file, "{} has no weight_map", index.string());
  std::set<std::string> names;
  for (const std::string& tensor : map->keys()) names.insert(map->text(tensor).value_or(""));
  std::vector<fs::path> files;
  for (const std::string& name : names) {
    if (name.empty() || name == "." || name == ".." || name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos)
      throw fail(Code::bad_file, "{} names the file \"{}\", which is not a plain name in its own folder", index.string(),
                 printable(name));
    const fs::path file = index.parent_path() / name;
    if (!folder.has(file))
      throw fail(Code::bad_file, "{} names {}, which is not there; download the whole folder", index.string(), name);
    files.push_back(folder.checked(file));
  }
  return files;
}

// The tensor files of one component's folder, in the order in which the usual names are preferred. None: it has none.
std::vector<fs::path> weights_in(const Folder& folder, const fs::path& component) {
  for (const std::string base : {"diffusion_pytorch_model", "model"}) {
    for (const std::string variant : {"", ".fp16"}) {
      if (const fs::path file = component / (base + variant + ".safetensors"); folder.has(file)) return {folder.checked(file)};
      for (const std::string& index : {variant + ".safetensors.index", ".safetensors.index" + variant})
        if (const fs::path file = component / (base + index + ".json"); folder.has(file)) return shards(folder, file);
    }
  }
  return {};
}

bool has_pickle(const fs::path& component) {
  const auto entries = fs::directory_iterator(component);
  return std::any_of(begin(entries), end(entries), [](const fs::directory_entry& e) {
    return e.path().extension() == ".bin" || e.path().extension() == ".ckpt";
  });
}

bool is_network(std::string_view part) {
  return part == "unet" || part == "vae" || part == "text_encoder" || part == "text_encoder_2";
}

void read_config(ModelFiles& found, const Folder& folder, const std::string& component, const fs::path& file) {
  if (!folder.has(file) || found.configs.contains(component)) return;
  found.configs[component] = folder.text(file, kMaxConfig);
  found.config_files.push_back(file);
}

// The component a lone config.json describes, by its class; empty: none that is known.
std::string component_of(const Config& config) {
  const std::string name = config.text("_class_name").value_or(config.text("model_type").value_or(""));
  if (name == "AutoencoderKL" || name == "AutoencoderTiny") return "vae";
  if (name == "UNet2DConditionModel") return "unet";
  if (name == "ControlNetModel") return "controlnet";
  return name == "clip_text_model" ? "text_encoder" : "";
}

void read_component_config(ModelFiles& found, const Folder& folder, const fs::path& file) {
  if (!folder.has(file)) return;
  const std::string component = component_of(Config(file.string(), folder.text(file, kMaxConfig)));
  if (!component.empty()) read_config(found, folder, component, file);
}

ModelFiles single_file(const fs::path& path) {
  ModelFiles found;
  found.weights.push_back({"", path});
  const fs::path beside = fs::path(path).replace_extension(".config.json");
  if (fs::is_regular_file(beside)) {
    add_configs(found.configs, read_text(beside, kMaxConfig), beside.string());
    found.config_files.push_back(beside);
  }
  const std::string name = path.filename().string();
  if (name.starts_with("diffusion_pytorch_model") || name.starts_with("model."))
    read_component_config(found, Folder(path.parent_path().empty() ? "." : path.parent_path()),
                          path.parent_path() / "config.json");
  return found;
}

// A folder with one component a sub-folder.
ModelFiles pipeline(const Folder& folder, const fs::path& path) {
  ModelFiles found;
  std::vector<fs::path> components;
  for (const fs::directory_entry& e : fs::directory_iterator(path))
    if (e.is_directory()) components.push_back(e.path());
  std::sort(components.begin(), components.end());
  for (const fs::path& component : components) {
    const std::string part = component.filename().string();
    for (const fs::path& file : weights_in(folder, component)) found.weights.push_back({part, file});
    if (found.weights.empty() || found.weights.back().part != part) {
      if (is_network(part) && has_pickle(component))
        throw fail(Code::unsupported,
                   "{} holds PyTorch pickles only (.bin), which can run any code when they are opened. Get the folder's "
                   ".safetensors files.",
                   component.string());
    }
    if (is_network(part)) read_config(found, folder, part, component / "config.json");
    if (part == "scheduler") read_config(found, folder, part, component / "scheduler_config.json");
    if (part == "tokenizer" || part == "tokenizer_2") {
      read_config(found, folder, part, component / "special_tokens_map.json");
      read_config(found, folder, part, component / "tokenizer_config.json");
    }
  }
  if (const fs::path tokenizer = path / "tokenizer";
      folder.has(tokenizer / "vocab.json") && folder.has(tokenizer / "merges.txt")) {
    folder.checked(tokenizer / "vocab.json");
    folder.checked(tokenizer / "merges.txt");
    found.tokenizer = tokenizer;
  }
  return found;
}

}  // namespace

void add_configs(Configs& to, std::string_view json, const std::string& origin) {
  const Config all(origin, json);
  for (const std::string component :
       {"unet", "controlnet", "vae", "text_encoder", "text_encoder_2", "scheduler", "tokenizer", "tokenizer_2"})
    if (const auto config = all.object(component)) to.emplace(component, config->dump());
}

ModelFiles find_model_files(const fs::path& path) try {
  const fs::file_status status = fs::status(path);
  if (!fs::exists(status)) throw fail(Code::not_found, "there is no file or folder {}", path.string());
  if (fs::is_regular_file(status)) return single_file(path);
  if (!fs::is_directory(status)) throw fail(Code::bad_file, "{} is neither a file nor a folder", path.string());
  const Folder folder(path);
  ModelFiles found = pipeline(folder, path);
  if (found.weights.empty()) {
    for (const fs::path& file : weights_in(folder, path)) found.weights.push_back({"", file});
    read_component_config(found, folder, path / "config.json");
  }
  if (found.weights.empty())
    throw fail(
        Code::not_found,
        "{} holds no model: expected sub-folders such as unet/diffusion_pytorch_model.safetensors. For a single file, name "
        "the file.",
        path.string());
  return found;
} catch (const fs::filesystem_error& e) {
  throw fail(Code::io, "cannot read {}: {}", e.path1().empty() ? path.string() : e.path1().string(), e.code().message());
}

}  // namespace cudream
