// Chunks, text encoder, weights.
#include "runtime/conditioning.h"

#include <algorithm>

#include "core/log.h"

namespace cudream {

PromptChunks chunk_prompts(const Tokenizer& tokenizer, const std::vector<std::string>& prompts, int pad_token) {
  PromptChunks all;
  for (const std::string& prompt : prompts) {
    all.branches.push_back(chunks(tokenizer, parse_prompt(prompt), pad_token));
    const std::vector<Chunk>& mine = all.branches.back();
    if (mine.size() == 1) continue;
    int words = 0;
    for (const Chunk& c : mine) words += c.words;
    all.notices.push_back(fmt::format("a prompt of {} tokens is read in {} chunks of {}: \"{}\"", words, mine.size(),
                                      Tokenizer::kWords, printable(std::string_view(prompt).substr(0, 40))));
  }
  return all;
}

namespace {

// The states of one prompt, weighted: [chunks * 77, width].
std::vector<float> encode_branch(Ops& o, const ClipTextEncoder& encoder, std::span<const Chunk> chunks, int clip_skip) {
  std::vector<int32_t> ids;
  for (const Chunk& c : chunks) ids.insert(ids.end(), c.ids.begin(), c.ids.end());
  const int64_t count = static_cast<int64_t>(chunks.size()), positions = Tokenizer::kPositions, width = encoder.spec().width;
  const Tensor id = o.upload(DType::i32, {count, positions}, std::span<const int32_t>(ids));
  const Tensor hidden = o.make(DType::f32, {count, positions, width});
  const View input = id;
  o.stage(fmt::format("text {} chunks, skip {}", count, clip_skip), {&input, 1}, hidden,
          [&] { return encoder(o, id, clip_skip - 1, true); });
  std::vector<float> values = o.download(hidden);
  const auto size = static_cast<size_t>(positions * width);
  for (size_t i = 0; i < chunks.size(); i++)
    if (chunks[i].weighted()) apply_weights(std::span(values).subspan(i * size, size), chunks[i].weights);
  return values;
}

}  // namespace

TextStates encode_text(Ops& o, const ClipTextEncoder& encoder, const PromptChunks& prompts, std::span<const int> clip_skips) {
  size_t most = 0;
  for (const auto& branch : prompts.branches) most = std::max(most, branch.size());
  TextStates states{.tokens = static_cast<int64_t>(most) * Tokenizer::kPositions, .width = encoder.spec().width};
  const auto row = static_cast<size_t>(states.tokens * states.width);
  states.values.resize(prompts.branches.size() * row);
  for (size_t b = 0; b < prompts.branches.size(); b++) {
    const std::vector<float> mine = encode_branch(o, encoder, prompts.branches[b], clip_skips[b]);
    std::copy(mine.begin(), mine.end(), states.values.begin() + static_cast<std::ptrdiff_t>(b * row));
    states.key_lengths.push_back(static_cast<int32_t>(prompts.branches[b].size()) * Tokenizer::kPositions);
  }
  return states;
}

}  // namespace cudream
