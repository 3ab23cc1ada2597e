// Weighted prompts and their chunks; see prompt.h.
#include "runtime/prompt.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "runtime/unicode.h"

namespace cudream {
namespace {

constexpr double kBracket = 1.1;      // what one pair of brackets does to a weight
constexpr double kSameWeight = 1e-6;  // neighbours this close are joined

size_t skip_spaces(std::string_view text, size_t at) {
  while (at < text.size()) {
    const CodePoint c = code_point_at(text, at);
    if (!is_space(c.value)) break;
    at += c.bytes;
  }
  return at;
}

std::string_view trim(std::string_view text) {
  text.remove_prefix(skip_spaces(text, 0));
  while (!text.empty()) {
    const CodePoint c = code_point_before(text, text.size());
    if (!is_space(c.value)) break;
    text.remove_suffix(c.bytes);
  }
  return text;
}

// [+-]digits with at most one point, nothing else; a number too large for a double is none.
struct Number {
  double value = 0;
  size_t end = 0;  // just after it
};
std::optional<Number> number_at(std::string_view text, size_t at) {
  const auto digits = [&](size_t from) { return std::min(text.find_first_not_of("0123456789", from), text.size()); };
  const size_t sign = at;
  if (at < text.size() && (text[at] == '+' || text[at] == '-')) at++;
  const size_t whole = at;
  size_t end = digits(whole);
  size_t count = end - whole;
  if (end < text.size() && text[end] == '.') {
    const size_t fraction = end + 1;
    end = digits(fraction);
    count += end - fraction;
  }
  if (count == 0) return std::nullopt;
  Number number{0, end};
  const auto result = std::from_chars(text.data() + whole, text.data() + end, number.value);
  if (result.ec != std::errc() || !std::isfinite(number.value)) return std::nullopt;
  if (text[sign] == '-') number.value = -number.value;
  return number;
}

// ":1.3)" with spaces allowed around the number; `at` is the colon.
std::optional<Number> closing_number(std::string_view text, size_t at) {
  auto number = number_at(text, skip_spaces(text, at + 1));
  if (!number) return std::nullopt;
  number->end = skip_spaces(text, number->end);
  if (number->end >= text.size() || text[number->end] != ')') return std::nullopt;
  number->end++;
  return number;
}

bool is_word(int32_t c) {
  return c == '_' || is_letter(c) || is_number(c);
}

// Where `word` stands in `text` as a word of its own, from `from` on.
size_t find_word(std::string_view text, std::string_view word, size_t from) {
  for (size_t at = text.find(word, from); at != std::string_view::npos; at = text.find(word, at + 1)) {
    const size_t end = at + word.size();
    const bool starts = at == 0 || !is_word(code_point_before(text, at).value);
    const bool ends = end == text.size() || !is_word(code_point_at(text, end).value);
    if (starts && ends) return at;
  }
  return std::string_view::npos;
}

// The prompt as a list of texts and brackets. An opening bracket's factor is known once it is closed.
struct Piece {
  enum class Kind { text, open_round, close_round, open_square, close_square } kind = Kind::text;
  std::string text;
  double factor = 1;
};

std::vector<Piece> split_brackets(std::string_view text) {
  std::vector<Piece> pieces(1);  // the last one is always a text, perhaps empty
  std::vector<size_t> rounds;    // the pieces that opened the brackets now open
  size_t squares = 0;
  const auto bracket = [&](Piece::Kind kind, double factor) {
    pieces.push_back({kind, {}, factor});
    pieces.emplace_back();
    return pieces.size() - 2;
  };
  const auto close_round = [&](double factor) {
    pieces[rounds.back()].factor = factor;
    rounds.pop_back();
    bracket(Piece::Kind::close_round, 1);
  };
  for (size_t at = 0; at < text.size(); at++) {
    const char c = text[at];
    if (c == '\\') {
      const bool escapes = at + 1 < text.size() && std::string_view("()[]\\").find(text[at + 1]) != std::string_view::npos;
      if (escapes) pieces.back().text += text[++at];
    } else if (c == '(') {
      rounds.push_back(bracket(Piece::Kind::open_round, kBracket));
    } else if (c == '[') {
      bracket(Piece::Kind::open_square, 1 / kBracket);
      squares++;
    } else if (const auto number = c == ':' && !rounds.empty() ? closing_number(text, at) : std::nullopt) {
      close_round(number->value);
      at = number->end - 1;
    } else if (c == ')' && !rounds.empty()) {
      close_round(kBracket);
    } else if (c == ']' && squares > 0) {
      bracket(Piece::Kind::close_square, 1);
      squares--;
    } else {
      pieces.back().text += c;
    }
  }
  return pieces;
}

// Appends a text of one weight, cut at the words BREAK (which swallow the spaces around them).
void append_text(std::vector<Segment>& segments, std::string_view text, double weight) {
  constexpr std::string_view kBreak = "BREAK";
  const auto append = [&](std::string_view part) {
    if (part.empty()) return;
    Segment* last = segments.empty() ? nullptr : &segments.back();
    if (last != nullptr && !last->is_break && std::abs(last->weight - weight) < kSameWeight) {
      last->text += part;
    } else {
      segments.push_back({std::string(part), weight, false});
    }
  };
  size_t from = 0;
  for (size_t at = find_word(text, kBreak, 0); at != std::string_view::npos; at = find_word(text, kBreak, from)) {
    std::string_view before = text.substr(from, at - from);
    while (!before.empty() && is_space(code_point_before(before, before.size()).value)) {
      before.remove_suffix(code_point_before(before, before.size()).bytes);
    }
    append(before);
    segments.push_back({"BREAK", 1, true});
    from = skip_spaces(text, at + kBreak.size());
  }
  append(text.substr(from));
}

}  // namespace

std::vector<Segment> parse_prompt(std::string_view text) {
  std::vector<Segment> segments;
  // The two kinds of brackets nest each in itself only: "(a[b)c]" is allowed. The stacks hold running products.
  std::vector<double> rounds{1}, squares{1};
  for (const Piece& piece : split_brackets(text)) {
    switch (piece.kind) {
      case Piece::Kind::text: append_text(segments, piece.text, rounds.back() * squares.back()); break;
      case Piece::Kind::open_round: rounds.push_back(rounds.back() * piece.factor); break;
      case Piece::Kind::open_square: squares.push_back(squares.back() * piece.factor); break;
      case Piece::Kind::close_round: rounds.pop_back(); break;
      case Piece::Kind::close_square: squares.pop_back(); break;
    }
  }
  if (segments.empty()) segments.emplace_back();
  return segments;
}

std::vector<std::pair<std::string, double>> parse_composition(std::string_view text) {
  constexpr std::string_view kAnd = "AND";
  std::vector<std::pair<std::string, double>> prompts;
  const auto append = [&](std::string_view part) {
    part = trim(part);
    const size_t colon = part.rfind(':');
    if (colon != std::string_view::npos) {
      const auto number = number_at(part, skip_spaces(part, colon + 1));
      if (number && number->end == part.size()) {
        prompts.emplace_back(trim(part.substr(0, colon)), number->value);
        return;
      }
    }
    prompts.emplace_back(part, 1);
  };
  size_t from = 0;
  for (size_t at = find_word(text, kAnd, 0); at != std::string_view::npos; at = find_word(text, kAnd, from)) {
    append(text.substr(from, at - from));
    from = at + kAnd.size();
  }
  append(text.substr(from));
  return prompts;
}

bool Chunk::weighted() const {
  return std::any_of(weights.begin(), weights.end(), [](float w) { return w != 1; });
}

Chunk empty_chunk(int pad_token) {
  Chunk chunk;
  chunk.ids.fill(pad_token);
  chunk.weights.fill(1);
  chunk.ids[0] = Tokenizer::kStart;
  chunk.ids[1] = Tokenizer::kEnd;
  return chunk;
}

namespace {

bool same_letters(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

bool joins(char a, char b) {  // whether two neighbouring characters are of one word
  const auto of_word = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (static_cast<unsigned char>(c) & 0x80) != 0;
  };
  return of_word(a) && of_word(b);
}

// The longest new word that begins at `at`; null: none.
const NewWord* new_word_at(std::string_view text, size_t at, std::span<const NewWord> words) {
  const NewWord* found = nullptr;
  for (const NewWord& word : words) {
    const size_t size = word.text.size(), end = at + size;
    if (size == 0 || !same_letters(text.substr(at, size), word.text) || (at > 0 && joins(text[at - 1], text[at])) ||
        (end < text.size() && joins(text[end - 1], text[end])))
      continue;
    if (found == nullptr || size > found->text.size()) found = &word;
  }
  return found;
}

// The tokens of a text: ordinary ones each by itself, those of a new word together.
std::vector<std::vector<int>> token_runs(const Tokenizer& tokenizer, std::string_view text, std::span<const NewWord> words) {
  std::vector<std::vector<int>> runs;
  const auto encode = [&](std::string_view part) {
    for (const int id : tokenizer.encode(part)) runs.push_back({id});
  };
  size_t from = 0;
  for (size_t at = 0; at < text.size() && !words.empty();) {
    const NewWord* word = new_word_at(text, at, words);
    if (word == nullptr) {
      at++;
      continue;
    }
    encode(text.substr(from, at - from));
    std::vector<int>& run = runs.emplace_back();
    for (int i = 0; i < word->count; i++) run.push_back(word->first + i);
    from = at += word->text.size();
  }
  encode(text.substr(from));
  return runs;
}

}  // namespace

std::vector<Chunk> chunks(const Tokenizer& tokenizer, std::span<const Segment> segments, int pad_token,
                          std::span<const NewWord> new_words) {
  std::vector<Chunk> out{empty_chunk(pad_token)};
  bool open = true;  // whether the last chunk still takes words
  for (const Segment& segment : segments) {
    if (segment.is_break) {
      if (!open) out.push_back(empty_chunk(pad_token));
      open = false;
      continue;
    }
    const auto weight = static_cast<float>(segment.weight);
    if (!std::isfinite(weight))
      throw fail(Code::usage, "the prompt has a weight of {}: use weights near 1, say 0.5 to 1.5", segment.weight);
    for (const std::vector<int>& run : token_runs(tokenizer, segment.text, new_words)) {
      if (!open || out.back().words + static_cast<int>(run.size()) > Tokenizer::kWords) out.push_back(empty_chunk(pad_token));
      open = true;
      Chunk& chunk = out.back();
      for (const int id : run) {
        const auto at = static_cast<size_t>(++chunk.words);
        chunk.ids[at] = id;
        chunk.weights[at] = weight;
        chunk.ids[at + 1] = Tokenizer::kEnd;
      }
    }
  }
  return out;
}

void apply_weights(std::span<float> hidden, std::span<const float> weights) {
  const auto mean = [&] { return std::accumulate(hidden.begin(), hidden.end(), 0.0) / static_cast<double>(hidden.size()); };
  const double before = mean();
  const size_t width = hidden.size() / weights.size();
  for (size_t row = 0; row < weights.size(); row++) {
    for (float& value : hidden.subspan(row * width, width)) value *= weights[row];
  }
  const double scale = before / mean();
  if (!std::isfinite(scale) || scale == 0) return;
  for (float& value : hidden) value = static_cast<float>(value * scale);
}

}  // namespace cudream
