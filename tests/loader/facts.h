// Headers of real models (data/headers.json.gz), made into files of true size whose data is a hole.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>

namespace cudream {

// The facts of all models by name: "tensors" (name: [dtype, shape]) or "files" (path: tensors), "expect", "configs", ...
const nlohmann::json& header_facts();

// Writes the file, or the folder, that a fact describes, sparse, into `folder`; returns its path.
std::filesystem::path make_sparse(const std::string& name, const std::filesystem::path& folder);

}  // namespace cudream
