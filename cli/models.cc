// cudream models: what was found where, and THE folder.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"

namespace cudream {
namespace {

struct Options {
  HostOptions host;
  bool path = false;
  std::string make_default;
};

void print_json(const Catalog& catalog) {
  for (const CatalogEntry& e : catalog.list())
    fmt::print(
        "{}\n",
        nlohmann::json{{"name", e.name}, {"path", e.path.string()}, {"from", describe(e.origin)}, {"bytes", e.bytes}}.dump());
}

void print_table(const Catalog& catalog) {
  size_t width = 4;
  for (const CatalogEntry& e : catalog.list()) width = std::max(width, e.name.size());
  for (const CatalogEntry& e : catalog.list())
    fmt::print("{:<{}}  {:>8.1f} MB  {:<16}  {}\n", printable(e.name), width, static_cast<double>(e.bytes) / 1e6,
               describe(e.origin), printable(e.path.string()));
  fmt::print("Put SAFETENSORS files in {}\n", catalog.places().models.string());
}

int run(const Options& options) {
  const Catalog catalog = open_catalog(options.host);
  if (options.path) {
    std::filesystem::create_directories(catalog.places().models);
    fmt::print("{}\n", catalog.places().models.string());
    return 0;
  }
  if (!options.make_default.empty()) {
    const std::string name = catalog.find(options.make_default).name;
    configure_model(name);
    fmt::print("{} is now the model of commands without -m\n", printable(name));
    return 0;
  }
  if (options.host.json)
    print_json(catalog);
  else
    print_table(catalog);
  return 0;
}

}  // namespace

Command add_models(CLI::App& app) {
  auto options = std::make_shared<Options>();
  app.add_flag("--path", options->path, "Print the folder where models are looked for, creating it");
  app.add_option("--default", options->make_default, "Use this model when a command has no -m");
  app.add_flag("--json", options->host.json, "One object a line");
  add_models_dir_option(app, options->host);
  return [options] { return run(*options); };
}

}  // namespace cudream
