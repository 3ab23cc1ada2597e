// Lines of prompts and options, as people type them.
#include <cctype>
#include <sstream>

#include "core/error.h"
#include "runtime/batch/formats.h"

namespace cudream {
namespace {

// Where the options of a line begin: at its first word that starts with "--" and a letter.
size_t options_at(const std::string& text) {
  for (size_t i = text.find("--"); i != std::string::npos; i = text.find("--", i + 1)) {
    const bool word = i == 0 || text[i - 1] == ' ' || text[i - 1] == '\t';
    if (word && i + 2 < text.size() && std::isalpha(static_cast<unsigned char>(text[i + 2])) != 0) return i;
  }
  return text.size();
}

// Words as a POSIX shell splits them (Shell Command Language, section 2.2): quotes of both kinds, backslashes; nothing is
// looked up or run. Throws Error(usage) for a quote left open.
std::vector<std::string> words(std::string_view text) {
  std::vector<std::string> out;
  std::string word;
  bool inside = false;  // a word has begun, if only by an empty pair of quotes
  char quote = 0;
  for (size_t i = 0; i < text.size(); i++) {
    const char c = text[i];
    if (quote == 0 && (c == ' ' || c == '\t')) {
      if (inside) out.push_back(std::exchange(word, {}));
      inside = false;
    } else if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
      inside = true;
    } else if (c == quote) {
      quote = 0;
    } else {
      const bool escapes =
          c == '\\' && quote != '\'' && i + 1 < text.size() && (quote == 0 || text[i + 1] == '"' || text[i + 1] == '\\');
      word += escapes ? text[++i] : c;
      inside = true;
    }
  }
  if (quote != 0) throw fail(Code::usage, "a quote ({}) is not closed", quote);
  if (inside) out.push_back(word);
  return out;
}

bool is_option(std::string_view word) {
  if (word.size() < 2 || word[0] != '-') return false;
  return std::isalpha(static_cast<unsigned char>(word[1])) != 0 ||
         (word[1] == '-' && word.size() > 2 && std::isalpha(static_cast<unsigned char>(word[2])) != 0);
}

// One more value of a name; an option alone is a switch, which is "true".
void add(std::vector<Field>& fields, const std::string& name, const std::string& value) {
  for (Field& field : fields)
    if (field.name == name) return field.values.push_back(value);
  fields.push_back({name, {value}});
}

// --steps 20, --steps=20, -s 20
std::vector<Field> options(std::string_view text) {
  std::vector<Field> fields;
  const std::vector<std::string> all = words(text);
  for (size_t i = 0; i < all.size(); i++) {
    if (!is_option(all[i])) throw fail(Code::usage, "\"{}\" belongs to no option; a text with blanks needs quotes", all[i]);
    const size_t equals = all[i].find('=');
    const std::string name =
        canonical_field(std::string_view(all[i]).substr(all[i][1] == '-' ? 2 : 1, equals - (all[i][1] == '-' ? 2 : 1)));
    const bool has_value = equals == std::string::npos && i + 1 < all.size() && !is_option(all[i + 1]);
    add(fields, name, equals != std::string::npos ? all[i].substr(equals + 1) : has_value ? all[++i] : "true");
  }
  return fields;
}

// An instruction is the prompt of an edit.
bool has_prompt(const std::vector<Field>& fields) {
  for (const Field& field : fields)
    if (field.name == "prompt" || field.name == "edit") return true;
  return false;
}

}  // namespace

std::vector<Record> text_records(const std::string& text) {
  std::vector<Record> records;
  std::vector<Field> defaults;
  std::istringstream in(text);
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    number++;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    const size_t begin = line.find_first_not_of(" \t");
    if (begin == std::string::npos || line[begin] == '#') continue;
    line.erase(0, begin);
    Record record{.where = "line " + std::to_string(number)};
    try {
      const size_t at = options_at(line);
      std::vector<Field> given = options(std::string_view(line).substr(at));
      std::string prompt = line.substr(0, at);
      prompt.erase(prompt.find_last_not_of(" \t") + 1);
      if (!prompt.empty()) {
        if (has_prompt(given))
          throw fail(Code::usage, "a prompt before the options and a --prompt or --edit among them; one is enough");
        given.insert(given.begin(), {"prompt", {prompt}});
      }
      if (!has_prompt(given)) {
        defaults = over(defaults, std::move(given));
        continue;
      }
      record.fields = over(defaults, std::move(given));
    } catch (const Error& e) {
      record.error = e.what();
    }
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace cudream
