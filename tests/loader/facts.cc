// Sparse files from header facts: wide types first, then names, unless the fact says that the file lies in name order.
#include "tests/loader/facts.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "loader/safetensors.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

// Beside the recorded tensors where CUDREAM_GOLDEN names them, as in a bundle of tests. Asked before main, by lists of cases.
fs::path headers() {
  const char* given = std::getenv("CUDREAM_GOLDEN");
  const fs::path bundled = fs::path(given != nullptr ? given : "") / "headers";
  return given != nullptr && fs::exists(bundled) ? bundled : fs::path(CUDREAM_SOURCE_DIR "/tests/loader/data/headers");
}

std::string unzipped(const fs::path& path) {
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) throw std::runtime_error("cannot open " + path.string());
  std::string text, chunk(1 << 20, '\0');
  for (int n = 1; n > 0; text.append(chunk, 0, static_cast<size_t>(n))) n = std::max(gzread(file, chunk.data(), 1 << 20), 0);
  gzclose(file);
  return text;
}

uint64_t bytes_of(const json& tensor) {
  uint64_t bits = static_cast<uint64_t>(bits_of(file_type(tensor[0].get<std::string>()).value()));
  for (const json& n : tensor[1]) bits *= n.get<uint64_t>();
  return bits / 8;
}

void write_file(const fs::path& path, const json& tensors, const json& metadata, bool in_name_order, size_t header_bytes) {
  std::vector<std::string> names;
  for (const auto& [name, unused] : tensors.items()) names.push_back(name);
  const auto width = [&](const std::string& name) { return bits_of(file_type(tensors[name][0].get<std::string>()).value()); };
  if (!in_name_order)
    std::sort(names.begin(), names.end(),
              [&](const std::string& a, const std::string& b) { return width(a) != width(b) ? width(a) > width(b) : a < b; });
  nlohmann::ordered_json header = json::object();
  if (!metadata.is_null()) header["__metadata__"] = metadata;
  uint64_t at = 0;
  auto& entries = header.get_ref<nlohmann::ordered_json::object_t&>();
  for (const std::string& name : names) {
    const json& tensor = tensors[name];
    const uint64_t end = at + bytes_of(tensor);
    entries.emplace_back(name, json{{"dtype", tensor[0]}, {"shape", tensor[1]}, {"data_offsets", {at, end}}});
    at = end;
  }
  std::string text = header.dump();
  text.resize(std::max(header_bytes, (text.size() + 7) / 8 * 8 * (header_bytes == 0 ? 1 : 0)), ' ');
  const uint64_t length = text.size();
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(&length), 8) << text;
  fs::resize_file(path, 8 + length + at);
}

// The index beside shards "STEM-00001-of-00003.safetensors".
void write_index(const fs::path& root, const json& files) {
  std::map<std::string, json> indices;
  for (const auto& [place, tensors] : files.items())
    if (const size_t number = place.rfind("-of-"); number != std::string::npos)
      for (const auto& [name, unused] : tensors.items())
        indices[place.substr(0, number - 6)]["weight_map"][name] = fs::path(place).filename().string();
  for (const auto& [stem, index] : indices) std::ofstream(root / (stem + ".safetensors.index.json")) << index;
}

}  // namespace

std::vector<std::string> header_names() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(headers())) names.push_back(entry.path().stem().stem().string());
  std::ranges::sort(names);
  return names;
}

json header_fact(const std::string& name) {
  return json::parse(unzipped(headers() / (name + ".json.gz")));
}

fs::path make_sparse(const std::string& name, const fs::path& folder) {
  const json fact = header_fact(name);
  if (fact.contains("tensors")) {
    fs::path path = folder / (name + ".safetensors");
    write_file(path, fact["tensors"], fact.value("metadata", json()), fact.value("order", "") == "name",
               fact.value("header_bytes", size_t{0}));
    return path;
  }
  for (const auto& [place, tensors] : fact["files"].items())
    write_file(folder / name / place, tensors, {{"format", "pt"}}, false, 0);
  write_index(folder / name, fact["files"]);
  const json configs = fact.value("configs", json::object());
  for (const auto& [place, config] : configs.items()) {
    fs::create_directories((folder / name / place).parent_path());
    std::ofstream(folder / name / place) << config;
  }
  return folder / name;
}

}  // namespace cudream
