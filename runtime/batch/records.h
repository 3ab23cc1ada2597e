// What a batch file asks for, whatever its format: records of named values, where a name with several values is an axis.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cudream {

struct Field {
  std::string name;                 // of an option, without its dashes: "prompt", "seed", "clip-skip"
  std::vector<std::string> values;  // several: an axis
};

struct Record {
  std::string where;  // "line 7", "item 3": for messages
  std::vector<Field> fields;
  std::string error;  // why it could not be read; then nothing of it is to be made
};

enum class BatchFormat : uint8_t { text, csv, jsonl, yaml };
BatchFormat batch_format(const std::filesystem::path&);  // by its suffix; text when none is known

// The records of a file, or of standard input when the path is "-" (then `format` must be told). What the file gives as
// defaults is already in the records after it. Throws Error(not_found | io | bad_file): bad_file for a file that is no such
// format at all; a record that is wrong alone has its `error`.
//  text   A prompt a line, then --options (blanks and quotes as a shell reads them); or --prompt "..." among them, as A1111's
//         files have it. An option given twice is an axis. A line of options without a prompt is defaults for those below.
//         # begins a comment.
//  csv    RFC 4180 with a header of names; an empty cell is not given.
//  jsonl  An object a line; a list is an axis. {"defaults": {...}} holds for the lines below.
//  yaml   A list of items, or {defaults: {...}, items: [...]}; an item is a mapping, or just its prompt.
std::vector<Record> read_records(const std::filesystem::path&, BatchFormat format);
std::vector<Record> parse_records(const std::string& text, BatchFormat format);

// The names of A1111's files and ComfyUI's nodes for our options: "cfg_scale" is "guidance".
std::string canonical_field(std::string_view name);

// Fields with `defaults` before them; a name that is given again replaces its default.
std::vector<Field> over(const std::vector<Field>& defaults, std::vector<Field> given);

// One value of every field of a record.
using Combination = std::vector<std::pair<std::string, std::string>>;

// How many combinations a record makes, at most UINT64_MAX.
uint64_t combinations(const Record&);
// All of them, the last axis fastest. Throws Error(usage) above `most`.
std::vector<Combination> expand(const Record&, uint64_t most);

}  // namespace cudream
