// Typed reading of JSON objects.
#include "loader/config.h"

#include "core/error.h"
#include "core/log.h"

namespace cudream {

using nlohmann::json;

Config::Config(std::string name, std::string_view text) : name_(std::move(name)) {
  json parsed = json::parse(text.begin(), text.end(), nullptr, false);
  if (!parsed.is_object()) throw fail(Code::bad_file, "the configuration of {} is not a JSON object", printable(name_));
  object_ = std::move(parsed);
}

std::vector<std::string> Config::keys() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_.items()) names.push_back(key);
  return names;
}

const json* Config::find(std::string_view key) const {
  const auto at = object_.find(key);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

template <typename T>
std::optional<T> Config::get(std::string_view key, bool (json::*is)() const noexcept, std::string_view what) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!(value->*is)()) throw fail(Code::bad_file, "the configuration of {} has a {} that is not {}", printable(name_), key, what);
  return value->get<T>();
}

std::optional<double> Config::number(std::string_view key) const {
  return get<double>(key, &json::is_number, "a number");
}
std::optional<int64_t> Config::integer(std::string_view key) const {
  return get<int64_t>(key, &json::is_number_integer, "a whole number");
}
std::optional<bool> Config::flag(std::string_view key) const {
  return get<bool>(key, &json::is_boolean, "true or false");
}
std::optional<std::string> Config::text(std::string_view key) const {
  return get<std::string>(key, &json::is_string, "a text");
}

std::optional<std::vector<int64_t>> Config::integers(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) return std::vector<int64_t>{*integer(key)};
  std::vector<int64_t> numbers;
  for (const json& n : *value) {
    if (!n.is_number_integer())
      throw fail(Code::bad_file, "the configuration of {} has a {} that is not a list of whole numbers", printable(name_), key);
    numbers.push_back(n.get<int64_t>());
  }
  return numbers;
}

std::optional<std::string> Config::token(std::string_view key) const {
  const json* value = find(key);
  return value != nullptr && value->is_object() ? object(key)->text("content") : text(key);
}

std::optional<Config> Config::object(std::string_view key) const {
  const json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_object())
    throw fail(Code::bad_file, "the configuration of {} has a {} that is not an object", printable(name_), key);
  Config inner;
  inner.name_ = name_ + "." + std::string(key);
  inner.object_ = *value;
  return inner;
}

}  // namespace cudream
