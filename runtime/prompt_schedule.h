// Prompts that change during a run, in the syntax of the AUTOMATIC1111 web UI, and LoRA tags.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace cudream {

// The text of every step; equal texts are listed once.
struct PromptSchedule {
  std::vector<std::string> texts;
  std::vector<size_t> at_step;  // an index into texts for each step
};

// The rules:
//   [a:b:0.4]  a for the first int(0.4 * steps) steps, then b; a number of 1 and more counts steps: [a:b:12]
//   [b:0.4]    nothing, then b          [a::0.4]   a, then nothing
//   [a|b|c]    a, b, c, a, ... one a step
// They nest. A bracket of any other form is left as it is: it lowers a weight (see parse_prompt). Accepts any bytes;
// prompts above 8 KiB are left as they are.
PromptSchedule schedule_prompt(std::string_view text, int steps);
// Whether it has a bracket of one of these forms.
bool is_scheduled(std::string_view text);

// "<lora:NAME>" and "<lora:NAME:0.8>" in a prompt.
struct LoraTag {
  std::string name;
  double strength = 1;
  bool operator==(const LoraTag&) const = default;
};
struct TaggedPrompt {
  std::string text;  // without the tags
  std::vector<LoraTag> loras;
};
// Throws Error(usage) for a tag without a name or whose strength is no number.
TaggedPrompt take_tags(std::string_view text);

// NAME or NAME:STRENGTH, as --lora takes them. Throws Error(usage).
LoraTag parse_lora(std::string_view text);

}  // namespace cudream
