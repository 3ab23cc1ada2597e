// Parsing items with the option table of `generate`, so that a batch can ask for whatever the program can make.
#include "cli/batch_items.h"

#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "loader/hash.h"

namespace cudream {
namespace {

bool readable(const std::filesystem::path& file) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(file, ignored) && ::access(file.c_str(), R_OK) == 0;
}

// The files that a job has from one of its options.
std::vector<std::filesystem::path> files_of(const Job& job, const std::string& option) {
  if (option == "image") return {job.image};
  if (option == "mask" && job.mask != kAlphaMask) return {job.mask};
  if (option == "control-image") return job.control_images;
  return {};
}

}  // namespace

struct ItemParser::Table {
  JobOptions options;
  CLI::App app;
};

ItemParser::ItemParser() : table_(std::make_unique<Table>()) {
  CLI::App& app = table_->app;
  app.set_help_flag();
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.add_option("--prompt", table_->options.job.prompt);
  add_job_options(app, table_->options);
  for (const CLI::Option* option : app.get_options()) {
    const std::string& name = option->get_lnames().front();
    for (const std::string& other : option->get_snames()) long_names_[other] = name;
  }
}

ItemParser::~ItemParser() = default;

std::string ItemParser::long_name(const std::string& field) const {
  const auto found = long_names_.find(field);
  return found == long_names_.end() ? field : found->second;
}

JobOptions ItemParser::parse(const Combination& fields) {
  std::vector<std::string> arguments;  // last first, as CLI11 takes them
  for (auto field = fields.rbegin(); field != fields.rend(); ++field)
    arguments.push_back("--" + field->first + "=" + field->second);
  table_->options = {};
  try {
    table_->app.parse(std::move(arguments));
  } catch (const CLI::ParseError& e) {
    throw fail(Code::usage, "{}", e.what());
  }
  return table_->options;
}

std::vector<Field> ItemParser::given(const CLI::App& command) const {
  std::vector<Field> fields;
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0 || option->get_lnames().empty()) continue;
    const std::string& name = option->get_lnames().front();
    if (table_->app.get_option_no_throw("--" + name) == nullptr) continue;
    const auto& values = option->results();
    const std::string list(1, option->get_delimiter());  // NUL where it takes one value, which is the last
    fields.push_back({name, {list[0] == 0 ? values.back() : fmt::format("{}", fmt::join(values, list))}});
  }
  return fields;
}

std::vector<BatchItem> batch_items(ItemParser& parser, const std::vector<Record>& records, const std::vector<Field>& defaults,
                                   uint64_t most) {
  std::vector<BatchItem> items;
  for (Record record : records) {
    if (!record.error.empty()) {
      items.push_back({.where = record.where, .error = record.error});
      continue;
    }
    for (Field& field : record.fields) field.name = parser.long_name(field.name);
    record.fields = over(defaults, std::move(record.fields));
    for (Combination& fields : expand(record, most - items.size())) {
      BatchItem item{.where = record.where, .fields = std::move(fields)};
      try {
        item.options = parser.parse(item.fields);
      } catch (const Error& e) {
        item.error = e.what();
      }
      const int count = item.error.empty() ? item.options.count : 1;
      if (static_cast<uint64_t>(count) > most - items.size())
        throw fail(Code::usage, "{} brings the batch to more than {} pictures; shorten its lists and ranges", item.where, most);
      for (; item.nth < count; item.nth++) items.push_back(item);
    }
  }
  return items;
}

void check_files(const BatchItem& item) {
  for (const auto& [name, value] : item.fields)
    for (const std::filesystem::path& file : files_of(item.options.job, name))
      if (!readable(file)) throw fail(Code::not_found, "--{} {}: no file that can be read", name, printable(file.string()));
}

std::string ItemParser::key(const BatchItem& item, const std::string& setting, int occurrence) const {
  Combination fields = item.fields;
  std::sort(fields.begin(), fields.end());
  std::string text = fmt::format("{}\nnth={}\n", setting, item.nth);
  for (const auto& [name, value] : fields) {
    if (name == "count") continue;
    text += fmt::format("{}={}:{}\n", name, value.size(), value);
    for (const std::filesystem::path& file : files_of(item.options.job, name))
      if (readable(file)) text += sha256_of_file(file) + "\n";
  }
  if (!item.options.seed) text += fmt::format("occurrence={}\n", occurrence);
  return sha256(std::as_bytes(std::span(text)));
}

}  // namespace cudream
