// A small recursive reader of brackets, run once a step.
#include "runtime/prompt_schedule.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

constexpr int kMaxDepth = 100;        // deeper brackets are plain text
constexpr size_t kMaxText = 8 << 10;  // every "[" looks for its end, which takes long in a hostile text

std::optional<double> number(std::string_view text) {
  const size_t from = text.find_first_not_of(' '), to = text.find_last_not_of(' ');
  if (from == std::string_view::npos) return std::nullopt;
  text = text.substr(from, to - from + 1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value) || value < 0) return std::nullopt;
  return value;
}

// The place of the "]" that closes the "[" at `open`, and of the ":" and "|" that belong to it alone.
struct Bracket {
  size_t close = 0;
  std::vector<size_t> colons, bars;
};
std::optional<Bracket> bracket_at(std::string_view text, size_t open) {
  Bracket found;
  int depth = 0;
  for (size_t i = open; i < text.size(); i++) {
    switch (text[i]) {
      case '\\': i++; break;
      case '[':
      case '(': depth++; break;
      case ')': depth -= depth > 1; break;
      case ']':
        if (--depth == 0) {
          found.close = i;
          return found;
        }
        break;
      case ':':
        if (depth == 1) found.colons.push_back(i);
        break;
      case '|':
        if (depth == 1) found.bars.push_back(i);
        break;
      default: break;
    }
  }
  return std::nullopt;
}

std::string at_step(std::string_view text, int step, int steps, int depth);

// What a bracket stands for at a step; none: it is no schedule.
std::optional<std::string> resolve(std::string_view text, size_t open, const Bracket& b, int step, int steps, int depth) {
  const auto part = [&](size_t from, size_t to) { return at_step(text.substr(from, to - from), step, steps, depth + 1); };
  if (!b.bars.empty()) {
    const size_t chosen = static_cast<size_t>(step) % (b.bars.size() + 1);
    return part(chosen == 0 ? open + 1 : b.bars[chosen - 1] + 1, chosen == b.bars.size() ? b.close : b.bars[chosen]);
  }
  if (b.colons.empty() || b.colons.size() > 2) return std::nullopt;
  const auto when = number(text.substr(b.colons.back() + 1, b.close - b.colons.back() - 1));
  if (!when) return std::nullopt;
  const double first = std::min<double>(steps, *when < 1 ? *when * steps : *when);
  const bool before = step < static_cast<int>(first);
  if (b.colons.size() == 1) return before ? "" : part(open + 1, b.colons[0]);
  return before ? part(open + 1, b.colons[0]) : part(b.colons[0] + 1, b.colons[1]);
}

std::string at_step(std::string_view text, int step, int steps, int depth) {
  if (depth > kMaxDepth) return std::string(text);
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    if (text[i] == '\\' && i + 1 < text.size()) {
      out += text.substr(i++, 2);
      continue;
    }
    const auto bracket = text[i] == '[' ? bracket_at(text, i) : std::nullopt;
    if (!bracket) {
      out += text[i];
    } else if (const auto chosen = resolve(text, i, *bracket, step, steps, depth)) {
      out += *chosen;
      i = bracket->close;
    } else {
      out += "[" + at_step(text.substr(i + 1, bracket->close - i - 1), step, steps, depth + 1) + "]";
      i = bracket->close;
    }
  }
  return out;
}

}  // namespace

PromptSchedule schedule_prompt(std::string_view text, int steps) {
  PromptSchedule schedule;
  if (text.size() > kMaxText) return {{std::string(text)}, std::vector<size_t>(static_cast<size_t>(steps))};
  for (int step = 0; step < steps; step++) {
    const std::string now = at_step(text, step, steps, 0);
    const auto known = std::find(schedule.texts.begin(), schedule.texts.end(), now);
    schedule.at_step.push_back(static_cast<size_t>(known - schedule.texts.begin()));
    if (known == schedule.texts.end()) schedule.texts.push_back(now);
  }
  return schedule;
}

bool is_scheduled(std::string_view text) {
  for (size_t i = 0; i < text.size() && text.size() <= kMaxText; i++) {
    if (text[i] == '\\') i++;
    const auto bracket = i < text.size() && text[i] == '[' ? bracket_at(text, i) : std::nullopt;
    if (bracket && resolve(text, i, *bracket, 0, 1, 0)) return true;
  }
  return false;
}

LoraTag parse_lora(std::string_view text) {
  LoraTag tag{.name = std::string(text)};
  if (const size_t colon = text.rfind(':'); colon != std::string_view::npos) {
    std::string_view digits = text.substr(colon + 1);
    const bool minus = digits.starts_with('-');
    const auto strength = number(minus ? digits.substr(1) : digits);
    if (!strength || *strength > 100)
      throw fail(Code::usage, "the LoRA \"{}\" has the strength \"{}\", which is no number up to 100",
                 printable(text.substr(0, colon)), printable(digits));
    tag = {.name = std::string(text.substr(0, colon)), .strength = minus ? -*strength : *strength};
  }
  if (tag.name.empty()) throw fail(Code::usage, "a LoRA without a name: \"{}\"; write NAME or NAME:STRENGTH", printable(text));
  return tag;
}

TaggedPrompt take_tags(std::string_view text) {
  constexpr std::string_view kMark = "<lora:";
  TaggedPrompt result;
  for (size_t at = 0; at < text.size();) {
    const size_t open = std::min(text.find(kMark, at), text.size());
    const size_t close = text.find('>', open);
    if (open == text.size() || close == std::string_view::npos) {
      result.text += text.substr(at);
      break;
    }
    result.text += text.substr(at, open - at);
    result.loras.push_back(parse_lora(text.substr(open + kMark.size(), close - open - kMark.size())));
    at = close + 1;
  }
  return result;
}

}  // namespace cudream
