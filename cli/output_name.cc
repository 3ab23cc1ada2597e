// Patterns, cleaning, and the search for a free number.
#include "cli/output_name.h"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <optional>
#include <vector>

#include "core/error.h"
#include "runtime/picture/image.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr size_t kNameBytes = 200;  // leaves room for the temporary name beside it: most file systems allow 255
constexpr size_t kWidest = 100;     // {field:WIDTH}

// A pattern is text and fields in turn, with text first and last.
struct Part {
  std::string text;  // literal, or the field's name
  bool field = false;
  size_t width = 0;  // of {field:width}; 0: none given
};

Error bad_pattern(std::string_view pattern, std::string_view why) {
  return fail(
      Code::usage,
      "the name pattern \"{}\" {}; known fields are {{index}} {{seed}} {{steps}} {{width}} {{height}} {{prompt}} {{model}} "
      "{{sampler}}, with a width as in {{index:05}}, and {{{{ stands for a brace",
      pattern, why);
}

Part field_part(std::string_view pattern, std::string_view inside) {
  const size_t colon = inside.find(':');
  Part part{std::string(inside.substr(0, colon)), true};
  if (colon == std::string_view::npos) return part;
  const std::string_view digits = inside.substr(colon + 1);
  size_t width = 0;
  const auto [end, error] = std::from_chars(digits.begin(), digits.end(), width);
  if (error != std::errc() || end != digits.end() || width < 1 || width > kWidest)
    throw bad_pattern(pattern, fmt::format("has a width \"{}\" that is not 1 to {}", digits, kWidest));
  part.width = width;
  return part;
}

std::vector<Part> parse(std::string_view pattern) {
  std::vector<Part> parts(1);
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    const bool doubled = i + 1 < pattern.size() && pattern[i + 1] == c;
    if ((c != '{' && c != '}') || doubled) {
      parts.back().text += c;
      if (c == '{' || c == '}') ++i;
      continue;
    }
    const size_t end = pattern.find('}', i);
    if (c == '}' || end == std::string_view::npos) throw bad_pattern(pattern, "has a brace without its partner");
    parts.push_back(field_part(pattern, pattern.substr(i + 1, end - i - 1)));
    parts.emplace_back();
    i = end;
  }
  return parts;
}

const Part* find_field(const std::vector<Part>& parts, std::string_view name) {
  const auto at = std::find_if(parts.begin(), parts.end(), [&](const Part& part) { return part.field && part.text == name; });
  return at == parts.end() ? nullptr : &*at;
}

// The longest beginning of at most `bytes` bytes that splits no character of UTF-8.
std::string_view cut(std::string_view text, size_t bytes) {
  if (text.size() <= bytes) return text;
  while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xc0) == 0x80) --bytes;
  return text.substr(0, bytes);
}

// Every run of what a file name should not hold becomes one "_".
std::string cleaned(std::string_view text) {
  constexpr std::string_view kRefused = "/\\<>:\"|?*_";
  std::string out;
  while (!text.empty()) {
    utf8proc_int32_t point = 0;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                         static_cast<utf8proc_ssize_t>(text.size()), &point);
    const size_t bytes = length > 0 ? static_cast<size_t>(length) : 1;
    const auto category = length > 0 ? utf8proc_category(point) : UTF8PROC_CATEGORY_CN;
    // Unassigned, control, format (which can turn the direction of writing), private, and all kinds of blanks.
    const bool unseen = category == UTF8PROC_CATEGORY_CN || category >= UTF8PROC_CATEGORY_ZS;
    const bool refused = point < 0x80 && kRefused.find(static_cast<char>(point)) != std::string_view::npos;
    if (!unseen && !refused)
      out += text.substr(0, bytes);
    else if (!out.ends_with('_'))
      out += '_';
    text.remove_prefix(bytes);
  }
  return out;
}

std::optional<uint64_t> number_of(std::string_view field, const NameFields& fields) {
  if (field == "index") return fields.index;
  if (field == "seed") return fields.seed;
  if (field == "steps") return fields.steps;
  if (field == "width") return fields.width;
  if (field == "height") return fields.height;
  return {};
}

const std::string* text_of(std::string_view field, const NameFields& fields) {
  if (field == "prompt") return &fields.prompt;
  if (field == "model") return &fields.model;
  if (field == "sampler") return &fields.sampler;
  return nullptr;
}

// One string for each part. The texts share what the literals and numbers leave of a name's bytes: the number that tells
// two pictures apart is never cut off.
std::vector<std::string> expand(std::string_view pattern, const std::vector<Part>& parts, const NameFields& fields) {
  std::vector<std::string> pieces;
  size_t fixed = 1;  // for the "_" that may come before
  for (const Part& part : parts) {
    const auto number = part.field ? number_of(part.text, fields) : std::nullopt;
    if (part.field && !number && text_of(part.text, fields) == nullptr)
      throw bad_pattern(pattern, fmt::format("has an unknown field \"{}\"", part.text));
    pieces.push_back(number ? fmt::format("{:0{}}", *number, std::max(part.width, size_t{1})) : part.field ? "" : part.text);
    fixed += pieces.back().size();
  }
  if (fixed > kNameBytes) throw bad_pattern(pattern, fmt::format("makes names of more than {} bytes", kNameBytes));
  size_t left = kNameBytes - fixed;
  for (size_t i = 0; i < parts.size(); ++i) {
    const std::string* text = parts[i].field ? text_of(parts[i].text, fields) : nullptr;
    if (text == nullptr) continue;
    pieces[i] = cut(cleaned(*text), std::min(left, parts[i].width == 0 ? kWidest : parts[i].width));
    left -= pieces[i].size();
  }
  return pieces;
}

// CON, con.txt, LPT1.png ...: Windows opens the device, in every folder.
bool is_device(std::string_view name) {
  std::string stem(name.substr(0, name.find('.')));
  std::transform(stem.begin(), stem.end(), stem.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  constexpr std::array<std::string_view, 4> kDevices = {"CON", "PRN", "AUX", "NUL"};
  const bool port = stem.size() == 4 && (stem.starts_with("COM") || stem.starts_with("LPT")) && stem[3] >= '1' && stem[3] <= '9';
  return port || std::find(kDevices.begin(), kDevices.end(), stem) != kDevices.end();
}

// Neither hidden nor an option of the next command.
std::string with_plain_start(std::string name) {
  if (name.starts_with('.') || name.starts_with('-')) name.insert(0, "_");
  return name;
}

// The names of a folder that only differ in what stands at {index}.
struct Series {
  std::string beginning;
  size_t width;
};

std::optional<Series> series_of(std::string_view pattern, const NameFields& fields) {
  const std::vector<Part> parts = parse(pattern);
  const Part* index = find_field(parts, "index");
  if (index == nullptr) return {};
  const auto pieces = expand(pattern, parts, fields);
  std::string beginning;
  for (std::ptrdiff_t i = 0; i < index - parts.data(); ++i) beginning += pieces[static_cast<size_t>(i)];
  return Series{with_plain_start(beginning), std::max(index->width, size_t{1})};
}

uint64_t first_free(const fs::path& folder, const Series& series) {
  constexpr size_t kMostDigits = 18;
  uint64_t next = 1;
  std::error_code unreadable;  // then writing into it will say so
  for (const auto& entry : fs::directory_iterator(folder.empty() ? "." : folder, unreadable)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(series.beginning)) continue;
    const std::string_view rest = std::string_view(name).substr(series.beginning.size());
    const size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
    uint64_t number = 0;
    std::from_chars(rest.begin(), rest.begin() + digits, number);
    if (digits >= series.width && digits <= std::max(series.width, kMostDigits)) next = std::max(next, number + 1);
  }
  return next;
}

}  // namespace

std::string output_name(std::string_view pattern, const NameFields& fields) {
  const std::vector<Part> parts = parse(pattern);
  std::string name;
  for (const std::string& piece : expand(pattern, parts, fields)) name += piece;
  if (parts.size() == 1) return name;
  return is_device(name) ? "_" + name : with_plain_start(name);
}

OutputNames::OutputNames(const fs::path& output, bool several, Exists exists) : exists_(exists) {
  const bool folder = !output.has_filename() || fs::is_directory(output);
  folder_ = folder ? output : output.parent_path();
  pattern_ = folder ? std::string(kDefaultName) : output.filename().string();
  const std::vector<Part> parts = parse(pattern_);
  const std::string suffix = fs::path(pattern_).extension().string();
  if (several && find_field(parts, "index") == nullptr && find_field(parts, "seed") == nullptr)
    pattern_.insert(pattern_.size() - suffix.size(), "-{index}");
  const fs::path example = folder_ / output_name(pattern_, {});
  image_format(example);

  std::error_code error;
  if (folder) fs::create_directories(folder_, error);
  if (error) throw fail(Code::io, "cannot make the folder {}: {}", folder_.string(), error.message());
  if (!folder_.empty() && !fs::is_directory(folder_))
    throw fail(Code::not_found, "the folder {} of {} does not exist; make it first", folder_.string(), output.string());
  if (exists_ == Exists::refuse && parts.size() == 1 && !several && fs::exists(fs::symlink_status(example)))
    throw fail(Code::io, "{} exists already; choose another name or pass --overwrite", example.string());
}

fs::path OutputNames::next(NameFields fields) {
  if (const auto series = series_of(pattern_, fields)) {
    const auto [at, fresh] = next_index_.try_emplace(series->beginning, 1);
    if (fresh && exists_ == Exists::refuse) at->second = first_free(folder_, *series);
    fields.index = at->second++;
  }
  return folder_ / output_name(pattern_, fields);
}

}  // namespace cudream
