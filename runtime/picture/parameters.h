// The "parameters" text that Stable Diffusion WebUI (A1111) stores in pictures and other tools read:
//
//   a house, (red:1.2)
//   Negative prompt: blurry
//   Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Model: demo
//
// Rules of its reader (modules/infotext_utils.py): the last line holds the values if it has three "key: value" pairs or more;
// before it, a line that begins with "Negative prompt:" ends the prompt.
//
// Prompts are data: none can forge a line. The values stand in the last line, and no value can break out of it (those with a
// comma, colon, quote, control character or outer blank are JSON strings). Within the prompts, control characters other
// than the newline become blanks and "Negative prompt:" gets a second blank between its words, which CLIP does not see.
// When reading these lines back would not give the exact prompt, the last line repeats it as `Prompt: "..."`
// (or `Negative prompt: "..."`), which A1111's reader lets win, and so does ours.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cudream {

struct Parameters {
  std::string prompt, negative;
  std::vector<std::pair<std::string, std::string>> values;  // in the order of the text; a key occurs once

  const std::string* find(std::string_view key) const;  // nullptr: not there
  bool operator==(const Parameters&) const = default;
};

// `values` needs three entries at least, or the reader would not know the last line for what it is. Keys: two letters or
// more of [A-Za-z0-9_ /-], neither beginning nor ending with a blank, and not "Prompt" or "Negative prompt".
std::string write_parameters(const Parameters&);

// Never fails: text without such a last line is all prompt. Of a key that occurs twice, the last value counts.
Parameters read_parameters(std::string_view text);

}  // namespace cudream
