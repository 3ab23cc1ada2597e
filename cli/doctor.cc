// cudream doctor: what this machine offers, a verdict a line.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/session.h"
#include "core/error.h"

namespace cudream {
namespace {

struct Finding {
  bool ok = true;
  std::string subject, text;
};

Finding check_device(const std::string& name, const std::string& precision) {
  const std::string subject = "device " + name + (precision == "auto" ? "" : " " + precision);
  try {
    HostOptions host{.device = name, .precision = precision};
    const auto device = open_device(host.device_options());
    return {true, subject, fmt::format("{}, computes in {}", device->info().description, name_of(device->info().compute))};
  } catch (const Error& e) {
    return {false, subject, e.what()};
  }
}

Finding check_memory() {
  const double total = static_cast<double>(sysconf(_SC_PHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  const double free = static_cast<double>(sysconf(_SC_AVPHYS_PAGES)) * static_cast<double>(sysconf(_SC_PAGE_SIZE));
  return {total > 3e9, "memory",
          fmt::format("{:.1f} GB, {:.1f} GB free; Stable Diffusion 1.x needs about 3 GB", total / 1e9, free / 1e9)};
}

Finding check_models_folder(const ModelPlaces& places) {
  std::error_code ignored;
  const std::string path = places.models.string();
  if (!std::filesystem::is_directory(places.models, ignored))
    return {true, "models folder", path + " (not there yet: `cudream models --path` makes it)"};
  if (::access(path.c_str(), R_OK | X_OK) != 0) return {false, "models folder", path + " cannot be read by this user"};
  return {true, "models folder", path};
}

int run(bool as_json) {
  std::vector<Finding> findings{check_memory(), check_device("cpu", "auto")};
  if (const Finding exact = check_device("cpu", "f32"); findings.back().text != exact.text) findings.push_back(exact);
  Finding cuda = check_device("cuda", "auto");
  if (!cuda.ok) cuda = {true, cuda.subject, "not used: " + cuda.text};  // pictures are made on the processor then
  findings.push_back(cuda);
  if (cuda.ok && !cuda.text.starts_with("not used"))
    for (const LibraryState& library : cuda_libraries()) findings.push_back({true, library.name, library.text});
  const Catalog catalog = open_catalog({});
  findings.push_back(check_models_folder(catalog.places()));
  findings.push_back({!catalog.list().empty(), "models", fmt::format("{} found", catalog.list().size())});

  bool all = true;
  for (const Finding& f : findings) {
    all = all && f.ok;
    if (as_json)
      fmt::print("{}\n", nlohmann::json{{"subject", f.subject}, {"ok", f.ok}, {"text", f.text}}.dump());
    else
      fmt::print("{:<4} {:<16} {}\n", f.ok ? "ok" : "bad", f.subject, printable(f.text));
  }
  return all ? 0 : static_cast<int>(Code::device);
}

}  // namespace

Command add_doctor(CLI::App& app) {
  auto as_json = std::make_shared<bool>(false);
  app.add_flag("--json", *as_json, "One object a line");
  return [as_json] { return run(*as_json); };
}

}  // namespace cudream
