// Prompts with weights in the syntax of the AUTOMATIC1111 web UI, and the 77-token chunks a text encoder reads.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/tokenizer.h"

namespace cudream {

// A run of text of one weight, or the word BREAK, which ends a chunk.
struct Segment {
  std::string text;
  double weight = 1;
  bool is_break = false;
  bool operator==(const Segment&) const = default;
};

// The rules:
//   (x)      multiplies the weight of x by 1.1; [x] divides it by 1.1; they nest
//   (x:1.3)  multiplies it by 1.3. The number closes the innermost open "("; with none open it is plain text
//   \( \) \[ \] \\   are the literal character; a backslash before anything else, or at the end, is dropped
//   an unclosed ( or [ acts to the end; an unmatched ) or ] is plain text
//   BREAK    as a word of its own, at any depth, ends the chunk
// Neighbours of equal weight (within 1e-6) are joined; an empty prompt is one empty segment. Accepts any bytes, never throws.
std::vector<Segment> parse_prompt(std::string_view text);

// Prompts composed with the word AND, each with an optional ":weight" at its end: "a cat:1.2 AND a dog".
std::vector<std::pair<std::string, double>> parse_composition(std::string_view text);

// What a text encoder reads at once: start, up to 75 words, end, padding. Start, end and padding weigh 1.
struct Chunk {
  std::array<int32_t, Tokenizer::kPositions> ids{};
  std::array<float, Tokenizer::kPositions> weights{};
  int words = 0;          // tokens that are neither start, end nor padding
  bool weighted() const;  // some weight is not 1
};

// A word that a text encoder has learned (a textual inversion). It stands for the tokens first, first + 1, ..., which come
// after the vocabulary.
struct NewWord {
  std::string text;
  int first = 0, count = 0;
};

// At least one chunk. More than one means the prompt is longer than a text encoder reads, or holds BREAK; the encoder's
// outputs are then joined along the tokens. `pad_token` fills the chunk after the end token.
// New words are found whatever their case, where no letter or digit adjoins them, and are not cut by the end of a chunk.
// Throws Error(usage) for a weight that no float can hold.
std::vector<Chunk> chunks(const Tokenizer& tokenizer, std::span<const Segment> segments, int pad_token,
                          std::span<const NewWord> new_words = {});

// The chunk of no words, to bring two prompts to one number of chunks.
Chunk empty_chunk(int pad_token);

// Multiplies row i of `hidden` [77, width] by weights[i], then the whole so that its mean is what it was. A mean of
// zero cannot be kept: then only the rows are multiplied.
void apply_weights(std::span<float> hidden, std::span<const float> weights);

}  // namespace cudream
