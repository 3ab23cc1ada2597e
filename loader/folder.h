// Which files a model is made of: the tensor files and configurations of a single file or of a diffusers folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "loader/identify.h"

namespace cudream {

struct ModelFiles {
  struct Weights {
    std::string part;  // the sub-folder's name; empty for a file that stands alone
    std::filesystem::path path;
  };
  std::vector<Weights> weights;
  Configs configs;                                  // from the files beside the weights
  std::vector<std::filesystem::path> config_files;  // where they were read
  std::filesystem::path tokenizer;                  // a folder with vocab.json and merges.txt, or empty
};

// Throws Error(not_found) when there is nothing at `path` or the folder holds no model, Error(unsupported) when its weights
// are pickles only, and Error(bad_file) when a file of the folder, or one that an index names, lies outside of it. Links
// may leave the folder only as the Hugging Face cache lays them out: models--X/snapshots/REV -> models--X/blobs.
ModelFiles find_model_files(const std::filesystem::path& path);

// The configurations in one JSON object with an entry a component, as NAME.config.json and a file's metadata hold them.
// `origin` is for messages. Components that are there already are kept.
void add_configs(Configs& to, std::string_view json, const std::string& origin);

}  // namespace cudream
