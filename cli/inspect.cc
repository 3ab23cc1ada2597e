// cudream inspect: what a model file, a model folder or a picture is, from its header alone.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "core/error.h"
#include "core/log.h"
#include "loader/hash.h"
#include "loader/model.h"
#include "loader/values.h"
#include "runtime/picture/image.h"

namespace cudream {
namespace {

using nlohmann::json;

struct Options {
  std::filesystem::path path;
  bool as_json = false, hash = false, check = false;
};

bool is_picture(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) return false;
  const MappedFile file(path);
  std::array<std::byte, 12> first{};
  if (file.size() < first.size()) return false;
  file.read(first, 0);
  const std::string_view start(reinterpret_cast<const char*>(first.data()), first.size());
  return start.starts_with("\x89PNG") || start.starts_with("\xff\xd8\xff") ||
         (start.starts_with("RIFF") && start.substr(8) == "WEBP");
}

int inspect_picture(const Options& options) {
  const Metadata m = read_metadata(options.path);
  if (options.as_json) {
    json j{{"file", options.path.string()},
           {"kind", "picture"},
           {"parameters", m.parameters},
           {"comfyui", m.comfyui},
           {"generated", m.generated}};
    j["job"] = m.job.empty() ? json() : json::parse(m.job, nullptr, false);
    if (j["job"].is_discarded()) j["job"] = nullptr;
    fmt::print("{}\n", j.dump(-1, ' ', false, json::error_handler_t::replace));
    return 0;
  }
  if (m.generated) log(LogLevel::info, "made by a model (IPTC trainedAlgorithmicMedia)");
  if (m.parameters.empty())
    fmt::print("{}: no settings stored{}\n", options.path.string(), m.comfyui ? " but a ComfyUI workflow" : "");
  std::string text;
  for (const char c : m.parameters) text += c == '\n' ? std::string("\n") : printable(std::string_view(&c, 1));
  if (!text.empty()) fmt::print("{}\n", text);
  return 0;
}

// How many bytes are stored in each element type.
std::map<std::string, uint64_t> precisions(const Model& model) {
  std::map<std::string, uint64_t> bytes;
  for (const auto& file : model.files())
    for (const TensorInfo& t : file->tensors()) bytes[std::string(name_of(t.type))] += t.bytes;
  return bytes;
}

struct Bad {
  uint64_t values = 0;
  std::vector<std::string> tensors;
};

Bad non_finite(const Model& model) {
  Bad bad;
  for (const auto& file : model.files())
    for (const TensorInfo& t : file->tensors()) {
      const uint64_t count = count_non_finite(*file, t);
      bad.values += count;
      if (count > 0) bad.tensors.push_back(fmt::format("{} ({})", printable(t.name), count));
    }
  return bad;
}

void print_text(const Options& options, const Model& model) {
  const Identity& id = model.identity();
  fmt::print("{}: {}\n", options.path.string(), name_of(id.verdict));
  fmt::print("  family      {}\n  task        {}\n  prediction  {}\n", id.family, id.task, id.prediction);
  fmt::print("  parts       {}\n", fmt::join(id.parts, ", "));
  if (!id.missing.empty()) fmt::print("  missing     {}\n", fmt::join(id.missing, ", "));
  for (const std::string& extra : id.extra) fmt::print("  extra       {}\n", printable(extra));
  for (const auto& [type, bytes] : precisions(model)) fmt::print("  {:<10}  {:.1f} MB\n", type, static_cast<double>(bytes) / 1e6);
  for (const std::string& assumed : id.spec.assumed) fmt::print("  assumed     {}\n", assumed);
  if (!id.obstacle.empty()) fmt::print("  {}\n", id.obstacle);
}

int inspect_model(const Options& options) {
  const Model model = open_model(options.path);
  const Identity& id = model.identity();
  json j{{"file", options.path.string()},
         {"kind", "model"},
         {"verdict", name_of(id.verdict)},
         {"family", id.family},
         {"task", id.task},
         {"parts", id.parts},
         {"prediction", id.prediction},
         {"missing", id.missing},
         {"extra", id.extra},
         {"obstacle", id.obstacle},
         {"assumed", id.spec.assumed},
         {"bytes", precisions(model)}};
  if (!options.as_json) print_text(options, model);
  if (options.hash)
    for (const auto& file : model.files()) {
      // Inside a folder, files of the same name lie in different parts.
      const bool folder = std::filesystem::is_directory(options.path);
      const std::string name = (folder ? file->path().lexically_relative(options.path) : file->path().filename()).string();
      const std::string digest = cached_sha256_of_file(file->path());
      j["sha256"][name] = digest;
      if (!options.as_json) fmt::print("  sha256      {}  (A1111: {})  {}\n", digest, short_hash(digest), printable(name));
    }
  if (options.check) {
    const Bad bad = non_finite(model);
    j["non_finite"] = {{"values", bad.values}, {"tensors", bad.tensors}};
    if (!options.as_json)
      fmt::print("  non-finite  {}{}{}\n", bad.values, bad.tensors.empty() ? "" : ": ", fmt::join(bad.tensors, ", "));
  }
  if (options.as_json) fmt::print("{}\n", j.dump(-1, ' ', false, json::error_handler_t::replace));
  return 0;
}

}  // namespace

Command add_inspect(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_option("path", options->path, "A model file, a model folder or a picture")->required();
  app.add_flag("--json", options->as_json, "One object");
  app.add_flag("--hash", options->hash, "Also the SHA-256 of each file, and A1111's short hash");
  app.add_flag("--check", options->check, "Also count values that are not finite");
  return [options] { return is_picture(options->path) ? inspect_picture(*options) : inspect_model(*options); };
}

}  // namespace cudream
