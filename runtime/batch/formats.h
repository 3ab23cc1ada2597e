// The formats of batch files, one function each. See records.h for what they are.
#pragma once

#include <string>
#include <vector>

#include "runtime/batch/records.h"

namespace cudream {

std::vector<Record> text_records(const std::string& text);
std::vector<Record> csv_records(const std::string& text);
std::vector<Record> jsonl_records(const std::string& text);
std::vector<Record> yaml_records(const std::string& text);

}  // namespace cudream
