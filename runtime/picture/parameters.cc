// A1111's text: its quoting, its reader's rules, and the repeats that make the round trip exact.
#include "runtime/picture/parameters.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace cudream {
namespace {

constexpr std::string_view kPromptKey = "Prompt", kNegativeKey = "Negative prompt", kNegativeLine = "Negative prompt:";
constexpr size_t kFewestPairs = 3;

bool is_blank(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}
bool is_word(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || static_cast<signed char>(c) < 0;
}
bool is_key(char c) {
  return is_word(c) || c == ' ' || c == '-' || c == '/';
}

std::string_view strip(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

// Bare where every reader takes it as it stands.
std::string quoted(const std::string& value) {
  const auto inner = [](char c) { return c == ',' || c == ':' || c == '"' || is_control(c); };
  const auto outer = [](char c) {
    return static_cast<signed char>(c) <= ' ';
  };  // also the bytes of other scripts, whose blanks readers strip
  const bool bare =
      !value.empty() && !outer(value.front()) && !outer(value.back()) && std::none_of(value.begin(), value.end(), inner);
  return bare ? value : json_string(value);
}

std::string unquoted(std::string_view value) {
  if (value.size() >= 2 && value.front() == '"' && value.back() == '"') {
    const auto json = nlohmann::json::parse(value, nullptr, false);
    if (json.is_string()) return json.get<std::string>();
  }
  return std::string(value);
}

// Where the JSON string at the beginning of `text` ends, if a comma or the end follows; else 0.
size_t quoted_length(std::string_view text) {
  if (text.empty() || text[0] != '"') return 0;
  for (size_t i = 1; i < text.size(); ++i) {
    if (text[i] == '\\') {
      ++i;
    } else if (text[i] == '"') {
      return i > 1 && (i + 1 == text.size() || text[i + 1] == ',') ? i + 1 : 0;
    }
  }
  return 0;
}

using Pairs = std::vector<std::pair<std::string, std::string>>;

// What A1111 finds by \s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$), in linear time.
Pairs find_pairs(std::string_view line) {
  Pairs pairs;
  size_t at = 0;
  while (at < line.size()) {
    const size_t end = static_cast<size_t>(std::find_if_not(line.begin() + at, line.end(), is_key) - line.begin());
    const size_t begin = static_cast<size_t>(std::find_if(line.begin() + at, line.begin() + end, is_word) - line.begin());
    at = end + 1;
    if (end == line.size() || line[end] != ':' || end - begin < 2) continue;
    while (at < line.size() && is_blank(line[at])) ++at;
    size_t length = quoted_length(line.substr(at));
    if (length == 0) length = std::min(line.find(',', at), line.size()) - at;
    pairs.emplace_back(line.substr(begin, end - begin), unquoted(line.substr(at, length)));
    at += length + 1;
  }
  return pairs;
}

void add_line(std::string& text, std::string_view line) {
  if (!text.empty()) text += '\n';
  text += line;
}

// The prompts as the lines before the last one give them.
void read_prompts(std::string_view text, Parameters& to) {
  std::string* current = &to.prompt;
  for (size_t from = 0; from <= text.size();) {
    const size_t end = std::min(text.find('\n', from), text.size());
    std::string_view line = strip(text.substr(from, end - from));
    from = end + 1;
    if (line.starts_with(kNegativeLine)) {
      current = &to.negative;
      line = strip(line.substr(kNegativeLine.size()));
    }
    add_line(*current, line);
  }
}

// A prompt made harmless among the lines of the text.
std::string plain(std::string prompt) {
  std::replace_if(
      prompt.begin(), prompt.end(), [](char c) { return c != '\n' && is_control(c); }, ' ');
  std::string out;
  size_t from = 0;
  for (size_t at = 0; (at = prompt.find(kNegativeLine, from)) != std::string::npos; from = at + kNegativeLine.size()) {
    out.append(prompt, from, at - from);
    out += "Negative  prompt:";
  }
  return out.append(prompt, from);
}

}  // namespace

const std::string* Parameters::find(std::string_view key) const {
  const auto at = std::find_if(values.begin(), values.end(), [&](const auto& pair) { return pair.first == key; });
  return at == values.end() ? nullptr : &at->second;
}

std::string write_parameters(const Parameters& parameters) {
  invariant(parameters.values.size() >= kFewestPairs, "{} values are too few for a parameters line", parameters.values.size());
  std::string line;
  const auto add_pair = [&](std::string_view key, const std::string& value) {
    if (!line.empty()) line += ", ";
    line += key;
    line += ": ";
    line += value;
  };
  for (const auto& [key, value] : parameters.values) {
    invariant(key.size() >= 2 && is_word(key[0]) && std::all_of(key.begin(), key.end(), is_key), "\"{}\" is no parameters key",
              key);
    add_pair(key, quoted(value));
  }
  std::string text = plain(parameters.prompt);
  if (!parameters.negative.empty()) add_line(text, std::string(kNegativeLine) + " " + plain(parameters.negative));

  const auto whole = [&] { return text + (text.empty() ? "" : "\n") + line; };
  const Parameters seen = read_parameters(whole());
  if (seen.prompt != parameters.prompt) add_pair(kPromptKey, json_string(parameters.prompt));
  if (seen.negative != parameters.negative) add_pair(kNegativeKey, json_string(parameters.negative));
  return whole();
}

Parameters read_parameters(std::string_view text) {
  Parameters parameters;
  text = strip(text);
  const size_t last = text.rfind('\n');
  Pairs pairs = find_pairs(last == std::string_view::npos ? text : text.substr(last + 1));
  if (pairs.size() < kFewestPairs) {
    read_prompts(text, parameters);
    return parameters;
  }
  read_prompts(text.substr(0, last == std::string_view::npos ? 0 : last), parameters);
  std::map<std::string, size_t> places;
  for (auto& [key, value] : pairs) {
    if (key == kPromptKey) {
      parameters.prompt = value;
    } else if (key == kNegativeKey) {
      parameters.negative = value;
    } else if (const auto [at, fresh] = places.try_emplace(key, parameters.values.size()); fresh) {
      parameters.values.emplace_back(std::move(key), std::move(value));
    } else {
      parameters.values[at->second].second = std::move(value);
    }
  }
  return parameters;
}

}  // namespace cudream
