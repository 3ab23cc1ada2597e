// From words to what the UNet reads: prompts are cut into chunks, encoded, weighted and joined.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "nets/clip.h"
#include "runtime/prompt.h"
#include "runtime/tokenizer.h"

namespace cudream {

// One branch of guidance: what it asks for, and what becomes of an empty prompt.
struct BranchText {
  std::string prompt, second;  // second: what the second text encoder reads; empty: the same
  bool zeros = false;          // it reads as zeros: see ModelSpec::zeros_for_empty_negative
};

// The chunks of a branch, for each text encoder as many.
struct BranchChunks {
  std::vector<std::vector<Chunk>> encoders;
  bool zeros = false;
  size_t count() const { return encoders.front().size(); }
};

// For each picture its branches in the order the UNet gets them: negative first.
struct PromptChunks {
  std::vector<BranchChunks> branches;
  std::vector<std::string> notices;  // for people: the prompt is longer than one chunk
};

// New words, and for each text encoder their vectors in the order of the tokens: [tokens * width].
struct NewWords {
  std::vector<NewWord> words;
  std::vector<std::vector<float>> vectors;
};

PromptChunks chunk_prompts(const Tokenizer&, std::span<const BranchText> texts, std::span<const TextEncoderSpec> encoders,
                           const NewWords& new_words = {});

// What one encoder makes of one text.
struct Encoded {
  std::vector<float> states, pooled;  // [chunks * 77, width], weighted; [projection] or empty
};

// What encoders have made of texts, so that a text is encoded once, however many pictures read it. To be emptied when what a
// text means changes: the weights of an encoder, or new words.
class TextCache {
 public:
  std::shared_ptr<const Encoded> find(const std::string& key) const;
  void keep(const std::string& key, std::shared_ptr<const Encoded>);  // above a limit, all others are forgotten
  void clear();

 private:
  std::map<std::string, std::shared_ptr<const Encoded>> texts_;
  size_t bytes_ = 0;
};

// What the UNet reads of every branch, on the host: text states [branches, tokens, width], shorter ones padded with zeros
// that key_lengths hide, and where the model has them the pooled text [branches, pooled_width].
struct TextStates {
  int64_t tokens = 0, width = 0, pooled_width = 0;
  std::vector<float> values, pooled;
  std::vector<int32_t> key_lengths;  // tokens of each branch
  std::span<const float> branch(size_t i) const {
    return std::span(values).subspan(i * static_cast<size_t>(tokens * width)).first(static_cast<size_t>(key_lengths[i] * width));
  }
};

// The texts of some prompts, each known one taken from a cache. The states of several encoders are joined along the width, and
// the pooled text is that of the first chunk.
class TextReader {
 public:
  // layers_left_out, one a branch: how many more layers than usual are left out.
  TextReader(std::span<const ClipTextEncoder> encoders, std::span<const PromptChunks> prompts,
             std::span<const int> layers_left_out, const NewWords& new_words, TextCache& cache);
  bool knows_all() const { return missing_.empty(); }
  // Encodes what is not known, several texts at once, and returns the states of every prompt. In a rehearsal no value is real,
  // and nothing is kept.
  std::vector<TextStates> read(Ops&);

 private:
  // A text for one encoder.
  struct Text {
    std::string key;
    size_t encoder = 0;
    int left_out = 0;
    std::span<const Chunk> chunks;
  };
  Text text_of(size_t encoder, const PromptChunks& prompt, size_t branch) const;
  void encode(Ops&, std::span<const Text> texts);
  TextStates states_of(const PromptChunks& prompt) const;

  std::span<const ClipTextEncoder> encoders_;
  std::span<const PromptChunks> prompts_;
  std::vector<int> left_out_;
  const NewWords& new_words_;
  TextCache& cache_;
  std::vector<Text> missing_;  // each once
  std::map<std::string, std::shared_ptr<const Encoded>> known_;
};

}  // namespace cudream
