// Chunks, text encoders, weights.
#include "runtime/conditioning.h"

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace cudream {
namespace {

BranchChunks chunk_branch(const Tokenizer& tokenizer, const BranchText& text, std::span<const TextEncoderSpec> encoders,
                          std::span<const NewWord> new_words) {
  BranchChunks branch{.encoders = {}, .zeros = text.zeros};
  size_t most = 0;
  for (size_t e = 0; e < encoders.size(); e++) {
    const std::string& words = e > 0 && !text.second.empty() ? text.second : text.prompt;
    branch.encoders.push_back(chunks(tokenizer, parse_prompt(words), encoders[e].pad_token, new_words));
    most = std::max(most, branch.encoders.back().size());
  }
  for (size_t e = 0; e < encoders.size(); e++) branch.encoders[e].resize(most, empty_chunk(encoders[e].pad_token));
  return branch;
}

// What one encoder makes of one branch.
struct Encoded {
  std::vector<float> states, pooled;  // [chunks * 77, width], weighted; [projection] or empty
};

// Takes the tokens of new words out of `ids` [n * 77], giving what stands for them.
std::vector<TokenVector> take_new_words(std::span<int32_t> ids, std::span<const float> vectors, int64_t width) {
  std::vector<TokenVector> found;
  for (size_t i = 0; i < ids.size(); i++) {
    if (ids[i] < Tokenizer::kVocabulary) continue;
    const auto at = static_cast<int64_t>(i), first = (std::exchange(ids[i], 0) - Tokenizer::kVocabulary) * width;
    found.push_back({.row = at / Tokenizer::kPositions,
                     .position = at % Tokenizer::kPositions,
                     .values = vectors.subspan(static_cast<size_t>(first), static_cast<size_t>(width))});
  }
  return found;
}

Encoded encode(Ops& o, const ClipTextEncoder& encoder, std::span<const Chunk> chunks, int left_out,
               std::span<const float> vectors) {
  const TextEncoderSpec& spec = encoder.spec();
  std::vector<int32_t> ids;
  for (const Chunk& c : chunks) ids.insert(ids.end(), c.ids.begin(), c.ids.end());
  const int64_t count = static_cast<int64_t>(chunks.size()), positions = Tokenizer::kPositions, width = spec.width;
  const int skip = spec.skip + left_out;
  const std::vector<TokenVector> own = take_new_words(ids, vectors, width);
  const Tensor id = o.upload(DType::i32, {count, positions}, std::span<const int32_t>(ids));
  const Tensor hidden = o.make(DType::f32, {count, positions, width});
  Encoded encoded;
  if (spec.projection > 0) {
    const Tensor pooled = o.make(DType::f32, {1, spec.projection});
    const int64_t end = std::find(ids.begin(), ids.end(), Tokenizer::kEnd) - ids.begin();
    const View places[] = {id, pooled};
    o.stage(fmt::format("text pooled {} x {}, skip {}, end {}, {} vectors", count, width, skip, end, own.size()), places, hidden,
            [&] { return encoder.with_pooled(o, id, skip, spec.final_norm, end, pooled, own); });
    encoded.pooled = o.download(pooled);
  } else {
    const View input = id;
    o.stage(fmt::format("text {} x {}, skip {}, {} vectors", count, width, skip, own.size()), {&input, 1}, hidden,
            [&] { return encoder(o, id, skip, spec.final_norm, own); });
  }
  encoded.states = o.download(hidden);
  const auto size = static_cast<size_t>(positions * width);
  for (size_t i = 0; i < chunks.size(); i++)
    if (chunks[i].weighted()) apply_weights(std::span(encoded.states).subspan(i * size, size), chunks[i].weights);
  return encoded;
}

}  // namespace

PromptChunks chunk_prompts(const Tokenizer& tokenizer, std::span<const BranchText> texts,
                           std::span<const TextEncoderSpec> encoders, const NewWords& new_words) {
  PromptChunks all;
  for (const BranchText& text : texts) {
    all.branches.push_back(chunk_branch(tokenizer, text, encoders, new_words.words));
    const BranchChunks& mine = all.branches.back();
    if (mine.count() == 1) continue;
    int words = 0;
    for (const Chunk& c : mine.encoders.front()) words += c.words;
    all.notices.push_back(fmt::format("a prompt of {} tokens is read in {} chunks of {}: \"{}\"", words, mine.count(),
                                      Tokenizer::kWords, printable(std::string_view(text.prompt).substr(0, 40))));
  }
  return all;
}

TextStates encode_text(Ops& o, std::span<const ClipTextEncoder> encoders, const PromptChunks& prompts,
                       std::span<const int> layers_left_out, const NewWords& new_words) {
  TextStates states;
  size_t most = 0;
  for (const BranchChunks& branch : prompts.branches) most = std::max(most, branch.count());
  states.tokens = static_cast<int64_t>(most) * Tokenizer::kPositions;
  for (const ClipTextEncoder& encoder : encoders) {
    states.width += encoder.spec().width;
    states.pooled_width += encoder.spec().projection;
  }
  states.values.resize(prompts.branches.size() * static_cast<size_t>(states.tokens * states.width));
  states.pooled.resize(prompts.branches.size() * static_cast<size_t>(states.pooled_width));
  for (size_t b = 0; b < prompts.branches.size(); b++) {
    const BranchChunks& branch = prompts.branches[b];
    states.key_lengths.push_back(static_cast<int32_t>(branch.count()) * Tokenizer::kPositions);
    if (branch.zeros) continue;
    // Row r of an encoder's states goes into its own columns of row r of the branch.
    int64_t column = 0;
    auto pooled = states.pooled.begin() + static_cast<std::ptrdiff_t>(b) * states.pooled_width;
    for (size_t e = 0; e < encoders.size(); e++) {
      const Encoded encoded = encode(o, encoders[e], branch.encoders[e], layers_left_out[b],
                                     new_words.words.empty() ? std::span<const float>() : new_words.vectors[e]);
      const int64_t width = encoders[e].spec().width;
      const int64_t first = static_cast<int64_t>(b) * states.tokens * states.width + column;
      for (int64_t r = 0; r < states.key_lengths.back(); r++)
        std::copy_n(encoded.states.begin() + r * width, width, states.values.begin() + first + r * states.width);
      column += width;
      pooled = std::copy(encoded.pooled.begin(), encoded.pooled.end(), pooled);
    }
  }
  return states;
}

}  // namespace cudream
