// Headers of real models (data/headers), made into files of true size whose data is a hole.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace cudream {

// The names of all.
std::vector<std::string> header_names();

// The facts of one: "tensors" (name: [dtype, shape]) or "files" (path: tensors), "expect", "configs", ...
nlohmann::json header_fact(const std::string& name);

// Writes the file, or the folder, that a fact describes, sparse, into `folder`; returns its path.
std::filesystem::path make_sparse(const std::string& name, const std::filesystem::path& folder);

}  // namespace cudream
