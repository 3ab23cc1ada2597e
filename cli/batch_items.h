// The pictures a batch file asks for: records multiplied out, with the options of the command line under them.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cli/options.h"
#include "runtime/batch/records.h"

namespace cudream {

// One picture to make.
struct BatchItem {
  std::string where;   // "line 7"
  Combination fields;  // what was asked, in the file and on the command line
  JobOptions options;  // the same, parsed
  int nth = 0;         // of the pictures of one --count; its seed is the first one's + nth
  std::string error;   // why it cannot be made: a line that does not parse is never painted
};

// The option table of `generate`, for items: whatever the program can make, a batch can ask for.
class ItemParser {
 public:
  ItemParser();
  ~ItemParser();

  std::string long_name(const std::string& field) const;  // "steps" of "s"
  JobOptions parse(const Combination&);                   // throws Error(usage)
  // The options of a command that an item may have too, as they stand on its command line.
  std::vector<Field> given(const CLI::App& command) const;
  // What tells one item from all others, in 64 hexadecimal digits: program, device and model (as `setting` says them), its
  // fields, the bytes of the files of its job, its place in its --count, and which of several equal items without a seed it is.
  std::string key(const BatchItem&, const std::string& setting, int occurrence) const;

 private:
  struct Table;
  std::unique_ptr<Table> table_;
  std::map<std::string, std::string> long_names_;
};

// Throws Error(not_found) for a file of its job that cannot be read: a failure of this item alone, unlike one of writing.
void check_files(const BatchItem&);

// In the order of the file. Throws Error(usage) when there are more than `most`.
std::vector<BatchItem> batch_items(ItemParser&, const std::vector<Record>&, const std::vector<Field>& defaults, uint64_t most);

}  // namespace cudream
