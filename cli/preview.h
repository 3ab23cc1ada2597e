// What a run is going to show, while it is going on: in a file, or on the terminal.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "cli/progress.h"
#include "cli/terminal_picture.h"
#include "core/file.h"

namespace CLI {
class App;
}

namespace cudream {

struct PreviewOptions {
  int every = 0;  // steps; 0: none
  std::string as = "file";
};
void add_preview_options(CLI::App&, PreviewOptions&);

class Preview {
 public:
  // `output` is what --output says: the file lies beside it, NAME.preview.png, or preview.png in a folder. Throws Error(usage)
  // for pictures on what is no terminal, and Error(io) for a file that is there already and may not be replaced.
  Preview(const PreviewOptions&, const std::filesystem::path& output, Exists, Progress&);
  ~Preview();  // its file goes, unless a run ended early
  Preview(const Preview&) = delete;
  Preview& operator=(const Preview&) = delete;

  void show(const Image&);

 private:
  Progress& progress_;
  std::optional<TerminalPictures> terminal_;  // none: in a file
  std::filesystem::path file_;
  bool written_ = false;
  int exceptions_;  // in flight when it began
};

}  // namespace cudream
