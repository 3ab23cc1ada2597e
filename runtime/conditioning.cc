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

TextStates encode_text(Ops& o, const ClipTextEncoder& encoder, const PromptChunks& prompts, int clip_skip) {
  std::vector<const Chunk*> rows;
  size_t most = 0;
  for (const auto& branch : prompts.branches) {
    for (const Chunk& c : branch) rows.push_back(&c);
    most = std::max(most, branch.size());
  }

  std::vector<int32_t> ids;
  for (const Chunk* c : rows) ids.insert(ids.end(), c->ids.begin(), c->ids.end());
  const int64_t count = static_cast<int64_t>(rows.size()), positions = Tokenizer::kPositions, width = encoder.spec().width;
  const Tensor id = o.upload(DType::i32, {count, positions}, std::span<const int32_t>(ids));
  const Tensor hidden = o.make(DType::f32, {count, positions, width});
  o.stage(fmt::format("text {}", count), hidden, [&] { return encoder(o, id, clip_skip - 1, true); });
  std::vector<float> values = o.download(hidden);

  TextStates states{.tokens = static_cast<int64_t>(most) * positions, .width = width};
  const auto chunk_size = static_cast<size_t>(positions * width);
  states.values.resize(prompts.branches.size() * most * chunk_size);
  auto from = values.begin();
  for (size_t b = 0; b < prompts.branches.size(); b++) {
    auto to = states.values.begin() + static_cast<std::ptrdiff_t>(b * most * chunk_size);
    for (const Chunk& c : prompts.branches[b]) {
      if (c.weighted()) apply_weights(std::span(&*from, chunk_size), c.weights);
      to = std::copy_n(from, chunk_size, to);
      from += static_cast<std::ptrdiff_t>(chunk_size);
    }
    states.key_lengths.push_back(static_cast<int32_t>(prompts.branches[b].size()) * Tokenizer::kPositions);
  }
  return states;
}

}  // namespace cudream
