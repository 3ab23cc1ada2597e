// One configuration, a JSON object, read with its types checked. A key that is absent or null is simply not there.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cudream {

class Config {
 public:
  Config() = default;
  // `name` is for messages: "unet". Throws Error(bad_file) when `text` is not a JSON object.
  Config(std::string name, std::string_view text);

  bool empty() const { return object_.empty(); }
  std::vector<std::string> keys() const;
  // Each throws Error(bad_file) when the value has another type.
  std::optional<double> number(std::string_view key) const;
  std::optional<int64_t> integer(std::string_view key) const;
  std::optional<bool> flag(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  std::optional<std::vector<int64_t>> integers(std::string_view key) const;  // a single number is a list of one
  std::optional<std::string> token(std::string_view key) const;              // a text, or an object that has it as its "content"
  std::optional<Config> object(std::string_view key) const;
  std::string dump() const { return object_.dump(); }

 private:
  const nlohmann::json* find(std::string_view key) const;
  template <typename T>
  std::optional<T> get(std::string_view key, bool (nlohmann::json::*is)() const noexcept, std::string_view what) const;

  std::string name_;
  nlohmann::json object_ = nlohmann::json::object();
};

}  // namespace cudream
