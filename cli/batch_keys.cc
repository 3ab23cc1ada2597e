// Finding the files and stamping them.
#include "cli/batch_keys.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "loader/hash.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

// What a model file is to a key: its name, its size and its first bytes, which hold the header. Reading all of it would cost
// more than making a picture; a folder's files are told apart by their sizes.
std::string stamp(const fs::path& path) {
  if (path.empty()) return "";
  std::string text = path.filename().string();
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::recursive_directory_iterator(path))
      if (entry.is_regular_file()) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  for (const fs::path& file : files) text += fmt::format(" {}:{}", file.filename().string(), fs::file_size(file));
  if (files.size() != 1) return text;
  const MappedFile map(files.front());
  std::vector<std::byte> first(std::min<size_t>(map.size(), 1 << 20));
  map.read(first, 0);
  return text + " " + sha256(first);
}

}  // namespace

std::string Stamps::of_models(const ModelNames& names) const {
  const auto stamp_of = [&](const std::string& name) {
    return name.empty() ? "" : stamp(choose_model(host_, name, Task::generate).path);
  };
  const ModelChoice model = choose_model(host_, names.model, names.task);
  return fmt::format("{}\n{}\n{}", stamp(model.path), stamp_of(names.vae), stamp_of(names.refiner));
}

std::string Stamps::named_beside(const BatchItem& item) {
  Job job = item.options.job;
  const std::string lists = wildcards_.lists_behind(job.prompt + "\n" + job.negative);
  std::string text = lists.empty() ? "" : "\n" + sha256(std::as_bytes(std::span(lists)));
  try {
    const Adapters adapters = find_adapters(catalog_, job);
    std::vector<fs::path> files = adapters.inversions;
    for (const LoraUse& use : adapters.loras) files.push_back(use.path);
    for (const fs::path& file : files) {
      std::string& hash = hashes_[file];
      if (hash.empty()) hash = cached_sha256_of_file(file);
      text += "\n" + hash;
    }
    for (const ControlUse& use : adapters.controls) text += "\n" + stamp(use.path);
  } catch (const Error& e) {
    log(LogLevel::debug, "{}: {}", item.where, e.what());  // when the item's turn comes, it fails for this reason
  }
  return text;
}

}  // namespace cudream
