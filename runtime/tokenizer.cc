// CLIP's tokenizer; see tokenizer.h. Text is normalised (NFC, lower case), cut into words, and each word's UTF-8 bytes are
// merged pair by pair, the earliest merge of the vocabulary first.
#include "runtime/tokenizer.h"

#include <array>
#include <functional>
#include <queue>
#include <string>
#include <utility>

#include "core/error.h"
#include "runtime/unicode.h"

extern "C" const char clip_merges[], clip_merges_end[];

namespace cudream {
namespace {

constexpr int kBytes = 256;  // ids 0..255 are bytes, 256..511 are bytes that end a word
constexpr int kFirstMerge = 2 * kBytes;
constexpr std::string_view kWordEnd = "</w>";

// 64-bit keys -> ids, by open addressing: all the vocabulary is entered at start-up, so this must be quick.
class IdMap {
 public:
  IdMap() : slots_(kSlots) {}
  void insert(uint64_t key, int id) { slots_[place(key)] = {key, id}; }
  int find(uint64_t key) const { return slots_[place(key)].id; }  // -1: not there

 private:
  static constexpr size_t kSlots = size_t{1} << 17;  // a load of 0.38
  struct Slot {
    uint64_t key = 0;
    int id = -1;
  };
  size_t place(uint64_t key) const {
    size_t at = (key * 0x9E3779B97F4A7C15u) >> (64 - 17);  // Fibonacci hashing (Knuth, volume 3, section 6.4)
    while (slots_[at].id != -1 && slots_[at].key != key) at = (at + 1) % kSlots;
    return at;
  }
  std::vector<Slot> slots_;
};

// FNV-1a. The hash of "ab" follows from that of "a". A test shows that no two tokens of the vocabulary share one.
uint64_t hash_text(std::string_view text, uint64_t hash = 0xCBF29CE484222325u) {
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001B3u;
  return hash;
}

uint64_t pair_key(int left, int right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

// The vocabulary writes a byte as a printable character, itself where it is one (in Latin-1) and else 256, 257, ... The
// ids count the printable ones first ("Language Models are Unsupervised Multitask Learners", Radford et al. 2019).
struct ByteText {
  std::array<int, kBytes> id{};
  std::array<std::string, kBytes> text;  // of the byte with this id
};
ByteText byte_texts() {
  ByteText out;
  const auto printable = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174; };
  int next = 0;
  for (const bool wanted : {true, false}) {
    for (int b = 0, other = kBytes; b < kBytes; b++) {
      if (printable(b) == wanted) {
        append_utf8(out.text[static_cast<size_t>(next)], wanted ? b : other);
        out.id[static_cast<size_t>(b)] = next++;
      }
      if (!printable(b)) other++;
    }
  }
  return out;
}

// Cuts normalised text into words: 's 't 're 've 'm 'll 'd, runs of letters, single digits, runs of anything else but
// spaces. Calls `found` with each.
void split_words(std::string_view text, const std::function<void(std::string_view)>& found) {
  enum class Kind { space, letter, number, other };
  const auto kind_at = [&](size_t at, size_t& bytes) {
    const CodePoint c = code_point_at(text, at);
    bytes = c.bytes;
    if (is_space(c.value)) return Kind::space;
    if (is_letter(c.value)) return Kind::letter;
    return is_number(c.value) ? Kind::number : Kind::other;
  };
  for (size_t at = 0; at < text.size();) {
    size_t end = at, bytes = 0;
    for (const std::string_view suffix : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (text.substr(at).starts_with(suffix)) end = at + suffix.size();
    }
    if (end == at) {
      const Kind kind = kind_at(at, bytes);
      end += bytes;
      const bool run = kind == Kind::letter || kind == Kind::other;
      while (run && end < text.size() && kind_at(end, bytes) == kind) end += bytes;
      if (kind == Kind::space) {
        at = end;
        continue;
      }
    }
    found(text.substr(at, end - at));
    at = end;
  }
}

}  // namespace

struct Tokenizer::Tables {
  std::array<int, kBytes> byte_id{};
  IdMap merges;  // pair of ids -> the id they merge to

  Tables();
  void encode_word(std::string_view word, std::vector<int>& ids) const;
};

Tokenizer::Tables::Tables() {
  const ByteText bytes = byte_texts();
  byte_id = bytes.id;
  IdMap tokens;  // hash of a token's text -> its id
  for (int id = 0; id < kBytes; id++) {
    const uint64_t hash = hash_text(bytes.text[static_cast<size_t>(id)]);
    tokens.insert(hash, id);
    tokens.insert(hash_text(kWordEnd, hash), id + kBytes);
  }
  // A line is "left right": two tokens that exist already. The first line is a comment.
  std::string_view text(clip_merges, static_cast<size_t>(clip_merges_end - clip_merges));
  text.remove_prefix(text.find('\n') + 1);
  int next = kFirstMerge;
  for (; !text.empty(); next++) {
    const size_t space = text.find(' '), end = text.find('\n');
    const std::string_view left = text.substr(0, space), right = text.substr(space + 1, end - space - 1);
    const uint64_t hash = hash_text(left);
    merges.insert(pair_key(tokens.find(hash), tokens.find(hash_text(right))), next);
    tokens.insert(hash_text(right, hash), next);
    text.remove_prefix(end + 1);
  }
  invariant(next == kStart, "the tokenizer's vocabulary has {} merges", next - kFirstMerge);
}

// Byte-pair encoding with a queue, so that a word of any length takes n log n steps.
void Tokenizer::Tables::encode_word(std::string_view word, std::vector<int>& ids) const {
  struct Part {
    int id = -1;  // -1: merged into the one on its left
    size_t left = 0, right = 0;
  };
  const size_t count = word.size();
  std::vector<Part> parts(count);
  for (size_t i = 0; i < count; i++) {
    parts[i] = {byte_id[static_cast<uint8_t>(word[i])] + (i + 1 == count ? kBytes : 0), i - 1, i + 1};
  }
  struct Merge {
    int id;       // the smaller, the earlier in the vocabulary
    size_t left;  // of its two parts
    int left_id, right_id;
    bool operator>(const Merge& other) const { return std::pair(id, left) > std::pair(other.id, other.left); }
  };
  std::priority_queue<Merge, std::vector<Merge>, std::greater<>> queue;
  const auto propose = [&](size_t left) {
    const size_t right = parts[left].right;
    if (right >= count) return;
    const int id = merges.find(pair_key(parts[left].id, parts[right].id));
    if (id != -1) queue.push({id, left, parts[left].id, parts[right].id});
  };
  for (size_t i = 0; i + 1 < count; i++) propose(i);
  while (!queue.empty()) {
    const Merge merge = queue.top();
    queue.pop();
    Part& left = parts[merge.left];
    if (left.id != merge.left_id || left.right >= count || parts[left.right].id != merge.right_id) continue;  // overtaken
    Part& right = parts[left.right];
    left.id = merge.id;
    left.right = right.right;
    right.id = -1;
    if (left.right < count) parts[left.right].left = merge.left;
    propose(merge.left);
    if (merge.left > 0) propose(left.left);
  }
  for (size_t i = 0; i < count; i = parts[i].right) ids.push_back(parts[i].id);
}

Tokenizer::Tokenizer() : tables_(std::make_unique<const Tables>()) {}
Tokenizer::~Tokenizer() = default;

std::vector<int> Tokenizer::encode(std::string_view text) const {
  std::vector<int> ids;
  const auto plain = [&](std::string_view part) {
    split_words(to_lower_nfc(part), [&](std::string_view word) { tables_->encode_word(word, ids); });
  };
  // The special tokens are found in the text as it is written; what lies between them is encoded by itself.
  constexpr std::pair<std::string_view, int> kSpecial[] = {{"<|startoftext|>", kStart}, {"<|endoftext|>", kEnd}};
  size_t from = 0;
  for (size_t at = text.find("<|"); at != std::string_view::npos; at = text.find("<|", at + 1)) {
    for (const auto& [name, id] : kSpecial) {
      if (at < from || !text.substr(at).starts_with(name)) continue;
      plain(text.substr(from, at - from));
      ids.push_back(id);
      from = at + name.size();
    }
  }
  plain(text.substr(from));
  return ids;
}

}  // namespace cudream
