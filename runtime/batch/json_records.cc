// An object a line (jsonlines.org).
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/error.h"
#include "runtime/batch/formats.h"

namespace cudream {
namespace {

using json = nlohmann::ordered_json;  // fields stay in the order they are written: the last axis is the fastest

std::string as_text(const std::string& name, const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  throw fail(Code::usage, "\"{}\" cannot be {}", name, value.type_name());
}

std::vector<Field> fields_of(const json& object) {
  if (!object.is_object()) throw fail(Code::usage, "expected an object, not {}", object.type_name());
  std::vector<Field> fields;
  for (const auto& [name, value] : object.items()) {
    Field field{.name = canonical_field(name), .values = {}};
    if (value.is_array())
      for (const json& one : value) field.values.push_back(as_text(name, one));
    else
      field.values.push_back(as_text(name, value));
    if (field.values.empty()) throw fail(Code::usage, "\"{}\" is an empty list", name);
    fields.push_back(std::move(field));
  }
  return fields;
}

}  // namespace

std::vector<Record> jsonl_records(const std::string& text) {
  std::vector<Record> records;
  std::vector<Field> defaults;
  std::istringstream in(text);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    number++;
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    Record record{.where = "line " + std::to_string(number)};
    try {
      const json object = json::parse(line);
      if (object.is_object() && object.size() == 1 && object.contains("defaults")) {
        defaults = over(defaults, fields_of(object["defaults"]));
        continue;
      }
      record.fields = over(defaults, fields_of(object));
    } catch (const json::exception& e) {
      record.error = e.what();
    } catch (const Error& e) {
      record.error = e.what();
    }
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace cudream
