// From words to what the UNet reads: prompts are cut into chunks, encoded, weighted and joined.
#pragma once

#include <cstdint>
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

// Branches in the order the UNet gets them: negative first.
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

// Runs the encoders over the chunks of every branch; the states of several encoders are joined along the width, and the
// pooled text is that of the first chunk. layers_left_out, one a branch: how many more layers than usual are left out.
TextStates encode_text(Ops&, std::span<const ClipTextEncoder> encoders, const PromptChunks&, std::span<const int> layers_left_out,
                       const NewWords& new_words = {});

}  // namespace cudream
