// Wildcards: parts of a prompt that are drawn anew for every picture.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace cudream {

// The lists behind __name__: a text file a list, an entry a line; empty lines and lines that begin with # are left out.
class Wildcards {
 public:
  Wildcards() = default;
  // Reads every .txt file of a folder; "animals/cats.txt" is named "animals/cats". A folder that is absent holds none.
  // Throws Error(bad_file) for a file above 16 MB.
  explicit Wildcards(const std::filesystem::path& folder);

  // "{red|green}" becomes one of its options, "__name__" a line of that list; both may hold more of them, 32 deep at most.
  // What is drawn depends on the seed and the template alone. A backslash keeps the next character as it is.
  // Throws Error(not_found) for a list that is not there, Error(usage) for one that leads back to itself.
  std::string expand(std::string_view text, uint64_t seed) const;
  // All that a text may draw from, as text: where it is the same, equal seeds draw the same.
  std::string lists_behind(std::string_view text) const;

 private:
  std::filesystem::path folder_;
  std::map<std::string, std::vector<std::string>, std::less<>> lists_;
};

bool has_wildcards(std::string_view text);

}  // namespace cudream
