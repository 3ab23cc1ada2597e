// Reading lists, drawing from them.
#include "runtime/wildcards.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/file.h"
#include "core/log.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr int kMaxDepth = 32;
constexpr size_t kMaxList = 16 << 20;  // bytes

// SplitMix64 ("Fast Splittable Pseudorandom Number Generators", Steele et al. 2014).
struct Generator {
  uint64_t state;
  uint64_t next() {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return static_cast<size_t>(next() % n); }
};

// The place of the "}" that closes the "{" at `open`, and the options between; empty: none closes it.
std::vector<std::string_view> options_at(std::string_view text, size_t open, size_t& close) {
  std::vector<std::string_view> options;
  int depth = 0;
  size_t from = open + 1;
  for (size_t i = open; i < text.size(); i++) {
    if (text[i] == '\\') {
      i++;
    } else if (text[i] == '{') {
      depth++;
    } else if (text[i] == '}' && --depth == 0) {
      options.push_back(text.substr(from, i - from));
      close = i;
      return options;
    } else if (text[i] == '|' && depth == 1) {
      options.push_back(text.substr(from, i - from));
      from = i + 1;
    }
  }
  return {};
}

// The name between two double underscores at `at`; empty: it is no wildcard.
std::string_view name_at(std::string_view text, size_t at) {
  if (text.substr(at, 2) != "__") return {};
  const size_t end = text.find("__", at + 2);
  if (end == std::string_view::npos) return {};
  const std::string_view name = text.substr(at + 2, end - at - 2);
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '/' ||
           c == '.';
  };
  return std::all_of(name.begin(), name.end(), plain) ? name : std::string_view();
}

}  // namespace

Wildcards::Wildcards(const fs::path& folder) : folder_(folder) {
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, fs::directory_options::skip_permission_denied, error), end;
       !error && at != end; at.increment(error)) {
    if (at->path().extension() != ".txt" || !at->is_regular_file()) continue;
    std::istringstream lines(read_text(at->path(), kMaxList));
    std::vector<std::string>& list = lists_[at->path().lexically_relative(folder).replace_extension().generic_string()];
    for (std::string line; std::getline(lines, line);) {
      if (line.ends_with('\r')) line.pop_back();
      if (!line.empty() && !line.starts_with('#')) list.push_back(line);
    }
  }
}

std::string Wildcards::expand(std::string_view text, uint64_t seed) const {
  Generator generator{seed};
  const auto expand_at = [&](const auto& self, std::string_view part, int depth) -> std::string {
    if (depth > kMaxDepth)
      throw fail(Code::usage, "the wildcards of this prompt lead back to themselves: \"{}\"", printable(part.substr(0, 80)));
    std::string out;
    for (size_t i = 0; i < part.size(); i++) {
      if (part[i] == '\\' && i + 1 < part.size()) {
        out += part.substr(i++, 2);
        continue;
      }
      size_t close = 0;
      if (const auto options = part[i] == '{' ? options_at(part, i, close) : std::vector<std::string_view>();
          options.size() > 1) {
        out += self(self, options[generator.below(options.size())], depth + 1);
        i = close;
        continue;
      }
      const std::string_view name = name_at(part, i);
      if (name.empty()) {
        out += part[i];
        continue;
      }
      const auto list = lists_.find(name);
      if (list == lists_.end() || list->second.empty())
        throw fail(Code::not_found, "there is no wildcard list \"{}\": put {}.txt into {}", printable(name), printable(name),
                   folder_.empty() ? "the folder that --wildcards names" : folder_.string());
      out += self(self, list->second[generator.below(list->second.size())], depth + 1);
      i += name.size() + 3;
    }
    return out;
  };
  return expand_at(expand_at, text, 0);
}

std::string Wildcards::lists_behind(std::string_view text) const {
  std::set<std::string> names;  // each list once, so that those that lead back to themselves end
  for (std::vector<std::string_view> unread{text}; !unread.empty();) {
    const std::string_view part = unread.back();
    unread.pop_back();
    for (size_t i = 0; i < part.size(); i++) {
      const auto list = lists_.find(name_at(part, i));
      if (list != lists_.end() && names.insert(list->first).second)
        unread.insert(unread.end(), list->second.begin(), list->second.end());
    }
  }
  std::string lists;
  for (const std::string& name : names) lists += fmt::format("__{}__\n{}\n", name, fmt::join(lists_.at(name), "\n"));
  return lists;
}

bool has_wildcards(std::string_view text) {
  for (size_t i = 0; i < text.size(); i++) {
    size_t close = 0;
    if (text[i] == '\\')
      i++;
    else if ((text[i] == '{' && options_at(text, i, close).size() > 1) || !name_at(text, i).empty())
      return true;
  }
  return false;
}

}  // namespace cudream
