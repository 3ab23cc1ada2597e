// What an AtomicFile leaves when its process is killed: the file it was writing, beside its final name.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace cudream {

// Removes these from a folder, of files whose final name is `ours`.
void remove_leftovers(const std::filesystem::path& folder, const std::function<bool(const std::string& name)>& ours);

}  // namespace cudream
