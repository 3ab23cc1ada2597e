// Reading, naming and multiplying records.
#include "runtime/batch/records.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <iostream>
#include <iterator>
#include <optional>

#include "core/error.h"
#include "core/file.h"
#include "runtime/batch/formats.h"

namespace cudream {
namespace {

constexpr size_t kMaxFile = size_t{64} << 20;

// "1..8" and "1..8..2": whole numbers that count up.
struct Range {
  int64_t first = 0, last = 0, step = 1;
  uint64_t count() const {
    return (static_cast<uint64_t>(last) - static_cast<uint64_t>(first)) / static_cast<uint64_t>(step) + 1;
  }
};

std::optional<int64_t> whole_number(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<Range> as_range(std::string_view text) {
  const size_t dots = text.find("..");
  if (dots == std::string_view::npos) return std::nullopt;
  const std::string_view rest = text.substr(dots + 2);
  const size_t more = rest.find("..");
  const auto first = whole_number(text.substr(0, dots)), last = whole_number(rest.substr(0, more));
  const auto step = more == std::string_view::npos ? std::optional<int64_t>(1) : whole_number(rest.substr(more + 2));
  if (!first || !last || !step || *step < 1 || *last < *first) return std::nullopt;
  return Range{*first, *last, *step};
}

// Words are never ranges.
std::optional<Range> range_of(const Field& field, std::string_view value) {
  return field.name == "prompt" || field.name == "negative" ? std::nullopt : as_range(value);
}

uint64_t values_of(const Field& field) {
  uint64_t count = 0;
  for (const std::string& value : field.values) {
    const auto range = range_of(field, value);
    if (__builtin_add_overflow(count, range ? range->count() : 1, &count)) return UINT64_MAX;
  }
  return count;
}

std::vector<std::string> spelled_out(const Field& field) {
  std::vector<std::string> values;
  for (const std::string& value : field.values) {
    const auto range = range_of(field, value);
    if (!range) values.push_back(value);
    for (uint64_t i = 0; range && i < range->count(); i++)
      values.push_back(std::to_string(range->first + static_cast<int64_t>(i) * range->step));
  }
  return values;
}

std::string from_standard_input() {
  std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  if (text.size() > kMaxFile) throw fail(Code::bad_file, "standard input: more than {} MB of prompts", kMaxFile >> 20);
  return text;
}

}  // namespace

BatchFormat batch_format(const std::filesystem::path& path) {
  std::string suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
  if (suffix == ".csv") return BatchFormat::csv;
  if (suffix == ".jsonl" || suffix == ".ndjson") return BatchFormat::jsonl;
  if (suffix == ".yaml" || suffix == ".yml") return BatchFormat::yaml;
  return BatchFormat::text;
}

std::vector<Record> parse_records(const std::string& text, BatchFormat format) {
  switch (format) {
    case BatchFormat::csv: return csv_records(text);
    case BatchFormat::jsonl: return jsonl_records(text);
    case BatchFormat::yaml: return yaml_records(text);
    case BatchFormat::text: break;
  }
  return text_records(text);
}

std::vector<Record> read_records(const std::filesystem::path& path, BatchFormat format) {
  try {
    return parse_records(path == "-" ? from_standard_input() : read_text(path, kMaxFile), format);
  } catch (const Error& e) {
    if (e.code() != Code::bad_file || path == "-") throw;
    throw fail(Code::bad_file, "{}: {}", path.string(), e.what());
  }
}

std::vector<Field> over(const std::vector<Field>& defaults, std::vector<Field> given) {
  std::vector<Field> all;
  for (const Field& field : defaults) {
    const auto same = [&](const Field& other) { return other.name == field.name; };
    if (std::find_if(given.begin(), given.end(), same) == given.end()) all.push_back(field);
  }
  all.insert(all.end(), std::make_move_iterator(given.begin()), std::make_move_iterator(given.end()));
  return all;
}

std::string canonical_field(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 12> kOthers{{
      {"cfg", "guidance"},
      {"cfg-scale", "guidance"},
      {"guidance-scale", "guidance"},
      {"negative-prompt", "negative"},
      {"sampler-name", "sampler"},
      {"scheduler", "schedule"},
      {"n-iter", "count"},
      {"batch-count", "count"},
      {"denoising-strength", "strength"},
      {"subseed", "variation-seed"},
      {"subseed-strength", "variation-strength"},
      {"sd-model", "model"},
  }};
  std::string canonical(name);
  std::replace(canonical.begin(), canonical.end(), '_', '-');
  for (const auto& [other, ours] : kOthers)
    if (canonical == other) return std::string(ours);
  return canonical;
}

uint64_t combinations(const Record& record) {
  uint64_t count = 1;
  for (const Field& field : record.fields)
    if (__builtin_mul_overflow(count, values_of(field), &count)) return UINT64_MAX;
  return count;
}

std::vector<Combination> expand(const Record& record, uint64_t most) {
  const uint64_t count = combinations(record);
  if (count > most)
    throw fail(Code::usage, "{} makes {} pictures; a batch may have {}. Shorten its lists and ranges", record.where,
               count == UINT64_MAX ? "more than 10^19" : std::to_string(count), most);
  std::vector<Combination> all(count);
  uint64_t repeat = count;  // of each value of this field, before the next
  for (const Field& field : record.fields) {
    const std::vector<std::string> values = spelled_out(field);
    repeat /= values.size();
    for (uint64_t i = 0; i < count; i++) all[i].emplace_back(field.name, values[i / repeat % values.size()]);
  }
  return all;
}

}  // namespace cudream
