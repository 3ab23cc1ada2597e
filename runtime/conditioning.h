// From words to what the UNet reads: prompts are cut into chunks, encoded, weighted and joined.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/ops.h"
#include "nets/clip.h"
#include "runtime/prompt.h"
#include "runtime/tokenizer.h"

namespace cudream {

// The chunks of every branch of guidance, in the order the UNet gets them: negative first.
struct PromptChunks {
  std::vector<std::vector<Chunk>> branches;
  std::vector<std::string> notices;  // for people: the prompt is longer than one chunk
};

PromptChunks chunk_prompts(const Tokenizer&, const std::vector<std::string>& prompts, int pad_token);

// Text states on the host, one row a branch: [branches, tokens, width], shorter ones padded with zeros that key_lengths hide.
struct TextStates {
  int64_t tokens = 0, width = 0;
  std::vector<float> values;
  std::vector<int32_t> key_lengths;  // tokens of each branch
  std::span<const float> branch(size_t i) const {
    return std::span(values).subspan(i * static_cast<size_t>(tokens * width)).first(static_cast<size_t>(key_lengths[i] * width));
  }
};

// Runs the encoder over the chunks of every branch. clip_skips, one a branch: 1 reads the last layer, 2 the last but one;
// the final LayerNorm is applied either way.
TextStates encode_text(Ops&, const ClipTextEncoder&, const PromptChunks&, std::span<const int> clip_skips);

}  // namespace cudream
