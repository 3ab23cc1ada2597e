// Files and terminals.
#include "cli/preview.h"

#include <CLI/CLI.hpp>
#include <exception>

#include "core/error.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr int kRows = 20;  // of the terminal

std::optional<TerminalPictures> terminal_named(const std::string& name) {
  if (name == "kitty") return TerminalPictures::kitty;
  if (name == "iterm") return TerminalPictures::iterm;
  if (name == "sixel") return TerminalPictures::sixel;
  if (name == "blocks") return TerminalPictures::blocks;
  return {};
}

fs::path file_beside(const fs::path& output) {
  if (!output.has_filename() || fs::is_directory(output)) return output / "preview.png";
  const bool pattern = output.filename().string().find('{') != std::string::npos;
  return output.parent_path() / (pattern ? "preview.png" : output.stem().string() + ".preview.png");
}

}  // namespace

void add_preview_options(CLI::App& app, PreviewOptions& options) {
  app.add_option("--preview", options.every, "Every so many steps, show what the picture is going to be; 0: never")
      ->check(CLI::Range(0, 1000))
      ->type_name("STEPS");
  app.add_option("--preview-as", options.as,
                 "file (beside the output, until the picture is there), or on the terminal: kitty, iterm, sixel, blocks")
      ->check(CLI::IsMember({"file", "kitty", "iterm", "sixel", "blocks"}))
      ->capture_default_str();
}

Preview::Preview(const PreviewOptions& options, const fs::path& output, Exists exists, Progress& progress)
    : progress_(progress),
      terminal_(terminal_named(options.as)),
      file_(file_beside(output)),
      exceptions_(std::uncaught_exceptions()) {
  if (options.every == 0) return;
  if (terminal_ && !progress.on_terminal())
    throw fail(Code::usage, "--preview-as {}: standard error is no terminal that shows pictures; use --preview-as file",
               options.as);
  if (!terminal_ && exists == Exists::refuse && fs::exists(file_))
    throw fail(Code::io, "--preview: {} exists already, perhaps of a run that ended early; delete it, or pass --overwrite",
               file_.string());
}

Preview::~Preview() {
  std::error_code ignored;
  if (written_ && std::uncaught_exceptions() == exceptions_) fs::remove(file_, ignored);
}

void Preview::show(const Image& picture) {
  if (!terminal_) {
    write_image(file_, picture, {.generated = true}, Exists::replace);
    written_ = true;
    return;
  }
  const Cells cells = cells_of(picture, {progress_.columns(), kRows});
  progress_.show(terminal_picture(picture, *terminal_, cells), cells.rows);
}

}  // namespace cudream
