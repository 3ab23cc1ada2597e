// Finding them by their names: ".NAME.PROCESS.NUMBER.part".
#include "core/leftovers.h"

#include <algorithm>
#include <string_view>
#include <vector>

namespace cudream {

namespace fs = std::filesystem;

void remove_leftovers(const fs::path& folder, const std::function<bool(const std::string& name)>& ours) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with(".") || !name.ends_with(".part")) continue;
    std::string written = name.substr(1, name.size() - std::string_view("..part").size());
    for (int numbers = 0; numbers < 2; numbers++) written.resize(std::min(written.rfind('.'), written.size()));
    if (ours(written)) leftovers.push_back(entry.path());
  }
  for (const fs::path& file : leftovers) fs::remove(file);
}

}  // namespace cudream
