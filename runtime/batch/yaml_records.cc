// A list of items with defaults (YAML 1.2), read by yaml-cpp. Aliases are references there; what they multiply to is counted
// while the records are made.
#include <yaml-cpp/yaml.h>

#include "core/error.h"
#include "runtime/batch/formats.h"

namespace cudream {
namespace {

constexpr size_t kMaxValues = 1'000'000;  // of one file, aliases written out

struct Budget {
  size_t left = kMaxValues;
  void take() {
    if (left-- == 0) throw fail(Code::bad_file, "more than {} values once its aliases are written out", kMaxValues);
  }
};

std::string scalar(const std::string& name, const YAML::Node& node, Budget& budget) {
  budget.take();
  if (!node.IsScalar()) throw fail(Code::usage, "\"{}\" must be a text, a number, or a list of these", name);
  return node.Scalar();
}

std::vector<Field> fields_of(const YAML::Node& node, Budget& budget) {
  if (node.IsScalar()) return {{"prompt", {scalar("prompt", node, budget)}}};
  if (!node.IsMap()) throw fail(Code::usage, "an item is a mapping, or just its prompt");
  std::vector<Field> fields;
  for (const auto& entry : node) {
    const std::string name = scalar("a name", entry.first, budget);
    Field field{.name = canonical_field(name), .values = {}};
    if (entry.second.IsSequence())
      for (const YAML::Node& value : entry.second) field.values.push_back(scalar(name, value, budget));
    else
      field.values.push_back(scalar(name, entry.second, budget));
    if (field.values.empty()) throw fail(Code::usage, "\"{}\" is an empty list", name);
    fields.push_back(std::move(field));
  }
  return fields;
}

std::vector<Record> records_of(const YAML::Node& root) {
  Budget budget;
  std::vector<Field> defaults;
  YAML::Node items = root;
  if (root.IsMap()) {
    if (!root["items"]) throw fail(Code::bad_file, "expected a list of items, or a mapping with \"items\"");
    for (const auto& entry : root)
      if (entry.first.Scalar() != "items" && entry.first.Scalar() != "defaults")
        throw fail(Code::bad_file, "\"{}\" beside \"items\"; only \"defaults\" may stand there", entry.first.Scalar());
    if (root["defaults"]) defaults = fields_of(root["defaults"], budget);
    items = root["items"];
  }
  if (!items.IsSequence()) throw fail(Code::bad_file, "its items are no list");
  std::vector<Record> records;
  for (const YAML::Node& item : items) {
    Record record{.where = "item " + std::to_string(records.size() + 1)};
    try {
      record.fields = over(defaults, fields_of(item, budget));
    } catch (const Error& e) {
      if (e.code() != Code::usage) throw;
      record.error = e.what();
    }
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace

std::vector<Record> yaml_records(const std::string& text) {
  try {
    const YAML::Node root = YAML::Load(text);
    if (!root || root.IsNull()) return {};
    return records_of(root);
  } catch (const YAML::Exception& e) {
    throw fail(Code::bad_file, "not YAML: {}", e.what());
  }
}

}  // namespace cudream
