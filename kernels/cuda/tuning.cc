// Reading and writing the figures.
#include "kernels/cuda/tuning.h"

#include <cctype>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/file.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int kFormat = 1;
constexpr size_t kMostBytes = 16 << 20;

json to_json(const TuningOf& of) {
  return {{"format", kFormat}, {"card", of.card}, {"driver", of.driver}, {"cublaslt", of.cublaslt}, {"cudnn", of.cudnn}};
}

bool is_time(const json& value) {
  return value.is_number() && value.get<double>() > 0 && std::isfinite(value.get<double>());
}

}  // namespace

fs::path tuning_file(const std::string& card) {
  const char *cache = std::getenv("XDG_CACHE_HOME"), *home = std::getenv("HOME");
  const fs::path base = cache != nullptr && *cache != '\0' ? fs::path(cache) : fs::path(home != nullptr ? home : ".") / ".cache";
  std::string name = card;
  for (char& c : name)
    if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '-';
  return base / "cudream" / ("tuning-" + name + ".json");
}

Tuning Tuning::read(const fs::path& file, const TuningOf& of) {
  Tuning tuning(of);
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return tuning;
  const auto refuse = [&](const char* why) {
    return fail(Code::bad_file, "{}: {}; it is not used: measure again with --tune, or delete it", file.string(), why);
  };
  const json j = json::parse(read_text(file, kMostBytes), nullptr, false);
  if (!j.is_object() || !j.contains("of") || !j.contains("figures") || !j["figures"].is_object())
    throw refuse("not a file of figures that --tune wrote");
  if (j["of"] != to_json(of))
    throw refuse("measured on another card, or with another driver, library or version of this program");
  for (const auto& [key, figures] : j["figures"].items()) {
    if (!figures.is_object() || !is_time(figures.value("own_us", json())) || !is_time(figures.value("library_us", json())))
      throw refuse("it holds figures that are no times");
    tuning.add(key, {figures["own_us"], figures["library_us"]});
  }
  return tuning;
}

std::optional<Figures> Tuning::find(const std::string& key) const {
  const auto found = figures_.find(key);
  return found == figures_.end() ? std::nullopt : std::optional(found->second);
}

void Tuning::write(const fs::path& file) const {
  json figures = json::object();
  for (const auto& [key, f] : figures_) figures[key] = {{"own_us", f.own_us}, {"library_us", f.library_us}};
  std::error_code failed;
  fs::create_directories(file.parent_path(), failed);
  if (failed) throw fail(Code::io, "{}: {}", file.parent_path().string(), failed.message());
  AtomicFile out(file, Exists::replace);
  out.write(json{{"of", to_json(of_)}, {"figures", figures}}.dump(1) + "\n");
  out.commit();
}

}  // namespace cudream
