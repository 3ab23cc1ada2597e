// Chunks, text encoders, weights.
#include "runtime/conditioning.h"

#include <algorithm>
#include <utility>

#include "core/log.h"

namespace cudream {
namespace {

constexpr size_t kMostCached = size_t{256} << 20;  // bytes: of Stable Diffusion 1, a thousand texts
constexpr size_t kMostChunks = 16;                 // of one call: enough for a device to be busy

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

}  // namespace

std::shared_ptr<const Encoded> TextCache::find(const std::string& key) const {
  const auto found = texts_.find(key);
  return found == texts_.end() ? nullptr : found->second;
}

void TextCache::keep(const std::string& key, std::shared_ptr<const Encoded> text) {
  const size_t bytes = (text->states.size() + text->pooled.size()) * sizeof(float);
  if (bytes_ + bytes > kMostCached) clear();
  if (texts_.emplace(key, std::move(text)).second) bytes_ += bytes;
}

void TextCache::clear() {
  texts_.clear();
  bytes_ = 0;
}

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

TextReader::TextReader(std::span<const ClipTextEncoder> encoders, std::span<const PromptChunks> prompts,
                       std::span<const int> layers_left_out, const NewWords& new_words, TextCache& cache)
    : encoders_(encoders),
      prompts_(prompts),
      left_out_(layers_left_out.begin(), layers_left_out.end()),
      new_words_(new_words),
      cache_(cache) {
  for (const PromptChunks& prompt : prompts)
    for (size_t b = 0; b < prompt.branches.size(); b++)
      for (size_t e = 0; e < encoders.size() && !prompt.branches[b].zeros; e++) {
        Text text = text_of(e, prompt, b);
        if (known_.contains(text.key)) continue;
        const auto& known = known_[text.key] = cache.find(text.key);
        if (known == nullptr) missing_.push_back(std::move(text));
      }
  std::ranges::stable_sort(missing_, {}, [](const Text& t) { return std::pair(t.encoder, t.left_out); });
}

TextReader::Text TextReader::text_of(size_t encoder, const PromptChunks& prompt, size_t branch) const {
  const std::vector<Chunk>& chunks = prompt.branches[branch].encoders[encoder];
  Text text{.key = fmt::format("{} {} ", encoder, left_out_[branch]),
            .encoder = encoder,
            .left_out = left_out_[branch],
            .chunks = chunks};
  const auto add = [&](const auto& values) { text.key.append(reinterpret_cast<const char*>(values.data()), sizeof(values)); };
  for (const Chunk& c : chunks) {
    add(c.ids);
    add(c.weights);
  }
  return text;
}

std::vector<TextStates> TextReader::read(Ops& o) {
  // One call takes texts for one encoder that leave out equally many layers.
  const std::span<const Text> all(missing_);
  for (size_t from = 0, to = 0; from < all.size(); from = to) {
    size_t chunks = 0;
    const auto joins = [&](const Text& t) {
      return t.encoder == all[from].encoder && t.left_out == all[from].left_out && chunks + t.chunks.size() <= kMostChunks;
    };
    do chunks += all[to++].chunks.size();
    while (to < all.size() && joins(all[to]));
    encode(o, all.subspan(from, to - from));
  }
  std::vector<TextStates> states;
  for (const PromptChunks& prompt : prompts_) states.push_back(states_of(prompt));
  return states;
}

void TextReader::encode(Ops& o, std::span<const Text> texts) {
  const ClipTextEncoder& encoder = encoders_[texts.front().encoder];
  const TextEncoderSpec& spec = encoder.spec();
  const int64_t positions = Tokenizer::kPositions, width = spec.width;
  std::vector<int32_t> ids;
  std::vector<TextEnd> ends;
  for (const Text& text : texts) {
    const auto& first = text.chunks.front().ids;
    ends.push_back({.row = static_cast<int64_t>(ids.size()) / positions,
                    .position = std::find(first.begin(), first.end(), Tokenizer::kEnd) - first.begin()});
    for (const Chunk& c : text.chunks) ids.insert(ids.end(), c.ids.begin(), c.ids.end());
  }
  const int64_t count = static_cast<int64_t>(ids.size()) / positions;
  const int skip = spec.skip + texts.front().left_out;
  const std::vector<TokenVector> own =
      take_new_words(ids, new_words_.words.empty() ? std::span<const float>() : new_words_.vectors[texts.front().encoder], width);
  const Tensor id = o.upload(DType::i32, {count, positions}, std::span<const int32_t>(ids));
  const Tensor hidden = o.make(DType::f32, {count, positions, width});
  std::vector<float> pooled_values;
  if (spec.projection > 0) {
    const Tensor pooled = o.make(DType::f32, {static_cast<int64_t>(texts.size()), spec.projection});
    const View places[] = {id, pooled};
    std::string read_at;  // a recording copies from there
    for (const TextEnd& end : ends) read_at += fmt::format(" {}:{}", end.row, end.position);
    o.stage(fmt::format("text pooled {} x {}, skip {}, ends{}, {} vectors", count, width, skip, read_at, own.size()), places,
            hidden, [&] { return encoder.with_pooled(o, id, skip, spec.final_norm, ends, pooled, own); });
    pooled_values = o.download(pooled);
  } else {
    const View input = id;
    o.stage(fmt::format("text {} x {}, skip {}, {} vectors", count, width, skip, own.size()), {&input, 1}, hidden,
            [&] { return encoder(o, id, skip, spec.final_norm, own); });
  }
  const std::vector<float> states = o.download(hidden);
  const auto size = static_cast<size_t>(positions * width);
  auto at = states.begin();
  auto pooled_at = pooled_values.cbegin();
  for (const Text& text : texts) {
    const auto end = at + static_cast<std::ptrdiff_t>(text.chunks.size() * size), pooled_end = pooled_at + spec.projection;
    const auto encoded = std::make_shared<Encoded>(Encoded{.states = {at, end}, .pooled = {pooled_at, pooled_end}});
    at = end;
    pooled_at = pooled_end;
    for (size_t i = 0; i < text.chunks.size(); i++)
      if (text.chunks[i].weighted()) apply_weights(std::span(encoded->states).subspan(i * size, size), text.chunks[i].weights);
    known_[text.key] = encoded;
    if (!o.rehearsing()) cache_.keep(text.key, encoded);
  }
}

TextStates TextReader::states_of(const PromptChunks& prompt) const {
  TextStates states;
  size_t most = 0;
  for (const BranchChunks& branch : prompt.branches) most = std::max(most, branch.count());
  states.tokens = static_cast<int64_t>(most) * Tokenizer::kPositions;
  for (const ClipTextEncoder& encoder : encoders_) {
    states.width += encoder.spec().width;
    states.pooled_width += encoder.spec().projection;
  }
  states.values.resize(prompt.branches.size() * static_cast<size_t>(states.tokens * states.width));
  states.pooled.resize(prompt.branches.size() * static_cast<size_t>(states.pooled_width));
  for (size_t b = 0; b < prompt.branches.size(); b++) {
    const BranchChunks& branch = prompt.branches[b];
    states.key_lengths.push_back(static_cast<int32_t>(branch.count()) * Tokenizer::kPositions);
    if (branch.zeros) continue;
    // Row r of an encoder's states goes into its own columns of row r of the branch.
    int64_t column = 0;
    auto pooled = states.pooled.begin() + static_cast<std::ptrdiff_t>(b) * states.pooled_width;
    for (size_t e = 0; e < encoders_.size(); e++) {
      const Encoded& encoded = *known_.at(text_of(e, prompt, b).key);
      const int64_t width = encoders_[e].spec().width;
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
