// The text tokenizer of CLIP: byte-level byte-pair encoding over lower-cased words.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

namespace cudream {

// Radford et al. 2021; the merges are CLIP's own (runtime/vocabulary), built into the program. The ids follow from their
// order: 256 bytes, the same ending a word, 48894 merges, start, end.
class Tokenizer {
 public:
  static constexpr int kStart = 49406, kEnd = 49407, kVocabulary = 49408;
  static constexpr int kPositions = 77, kWords = 75;  // tokens of a chunk with and without start and end

  Tokenizer();
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`, without start and end. "<|startoftext|>" and "<|endoftext|>" in it are those tokens. Any bytes are
  // accepted: what is not UTF-8 counts as U+FFFD. Never throws but for want of memory.
  std::vector<int> encode(std::string_view text) const;

 private:
  struct Tables;
  std::unique_ptr<const Tables> tables_;
};

}  // namespace cudream
