// Where a picture goes: a file name from a pattern like "{index:05}-{prompt:40}.png", cleaned, and one that is free.
//
// Fields: {index} {seed} {steps} {width} {height} are numbers, and {index:05} or {seed:10} pads them with zeros;
// {prompt} {model} {sampler} are texts, and {prompt:40} cuts to 40 bytes. {{ and }} stand for the braces themselves.
// There is no date: the same command gives the same name.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

#include "core/file.h"

namespace cudream {

struct NameFields {
  uint64_t index = 1, seed = 0;
  int steps = 0, width = 0, height = 0;
  std::string prompt, model, sampler;
};

constexpr std::string_view kDefaultName = "{index:05}-{seed}.png";

// One path component. What texts bring in is cleaned: a run of blanks, control characters, separators, characters that
// Windows refuses, and bytes that are not UTF-8 becomes one "_". The name does not begin with a dot or dash, is no Windows
// device name, and has at most 200 bytes: texts are cut (100 bytes each at most, at a character), numbers and suffix are not.
// A pattern without fields is taken as it stands. Throws Error(usage) for an unknown field or a stray brace.
std::string output_name(std::string_view pattern, const NameFields&);

// The names of one run.
class OutputNames {
 public:
  // `output`: a folder (it exists, or ends with "/" and is made), where files are named by kDefaultName; or a file whose
  // last component may be a pattern. `several`: the run makes more than one picture, so a pattern with neither {index} nor
  // {seed} gets "-{index}" before its suffix. Throws Error(usage | not_found | io) now rather than after the first picture.
  OutputNames(const std::filesystem::path& output, bool several, Exists exists);

  // The path of the next picture; `fields.index` is chosen here. Exists::refuse: one more than the highest number that
  // stands at {index} in a name of this folder with the same beginning. Exists::replace: counted from 1, so that the same command
  // writes the same files.
  std::filesystem::path next(NameFields fields);

 private:
  std::filesystem::path folder_;
  std::string pattern_;
  Exists exists_;
  std::map<std::string, uint64_t> next_index_;  // by the text before {index}
};

}  // namespace cudream
