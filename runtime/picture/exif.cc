// A bounds-checked reader of TIFF directories and UTF-16, and the writer of one comment.
#include "runtime/picture/exif.h"

#include <utf8proc.h>

#include <algorithm>
#include <optional>

#include "runtime/unicode.h"

namespace cudream {
namespace {

using namespace std::string_view_literals;
using Bytes = std::span<const uint8_t>;

enum Tag : uint16_t { kOrientation = 0x0112, kExifDirectory = 0x8769, kUserComment = 0x9286 };
enum Type : uint16_t { kShort = 3, kLong = 4, kUndefined = 7 };

constexpr size_t kEntryBytes = 12;  // tag, type, count, value or offset
constexpr auto kUnicode = "UNICODE\0"sv;
constexpr auto kAscii = "ASCII\0\0\0"sv;
constexpr auto kUndeclared = "\0\0\0\0\0\0\0\0"sv;

class Tiff {
 public:
  explicit Tiff(Bytes bytes) : bytes_(bytes), big_(!bytes.empty() && bytes[0] == 'M') {}
  bool big_endian() const { return big_; }
  // Numbers outside the block read as 0, which is no offset, count or tag that means anything.
  uint32_t u16(size_t at) const { return number(at, 2); }
  uint32_t u32(size_t at) const { return number(at, 4); }
  // Where the entry of a tag stands in the directory at `directory`.
  std::optional<size_t> find(size_t directory, Tag tag) const {
    const size_t count = u16(directory);
    for (size_t i = 0; i < count; ++i) {
      const size_t entry = directory + 2 + i * kEntryBytes;
      if (entry + kEntryBytes > bytes_.size()) break;
      if (u16(entry) == tag) return entry;
    }
    return {};
  }
  Bytes part(size_t offset, size_t size) const {
    return offset <= bytes_.size() && size <= bytes_.size() - offset ? bytes_.subspan(offset, size) : Bytes();
  }

 private:
  uint32_t number(size_t at, size_t size) const {
    uint32_t value = 0;
    const Bytes digits = part(at, size);
    for (size_t i = 0; i < digits.size(); ++i) value = value << 8 | digits[big_ ? i : digits.size() - 1 - i];
    return value;
  }
  Bytes bytes_;
  bool big_;
};

constexpr int32_t kReplacement = 0xfffd;  // for what is no character

std::string from_utf16(Bytes bytes, bool big) {
  std::string text;
  const auto unit = [&](size_t i) { return int32_t{bytes[i + (big ? 0 : 1)]} << 8 | bytes[i + (big ? 1 : 0)]; };
  for (size_t i = 0; i + 1 < bytes.size(); i += 2) {
    int32_t point = unit(i);
    const bool pair = (point & 0xfc00) == 0xd800 && i + 3 < bytes.size() && (unit(i + 2) & 0xfc00) == 0xdc00;
    if (pair) {
      point = 0x10000 + ((point & 0x3ff) << 10) + (unit(i + 2) & 0x3ff);
      i += 2;
    }
    append_utf8(text, (point & ~0x7ff) == 0xd800 ? kReplacement : point);
  }
  return text;
}

// In blocks of the order "II" some programs follow the block, others write big-endian all the same: there the byte that
// is zero more often is taken for the high one. "MM" is big-endian by both rules.
bool utf16_is_big(Bytes text, bool big_block) {
  if (big_block) return true;
  size_t zeros[2] = {};
  for (size_t i = 0; i < text.size(); ++i) zeros[i % 2] += text[i] == 0 ? 1 : 0;
  return zeros[0] > zeros[1];
}

std::string user_comment(Bytes value, bool big_block) {
  if (value.size() < kUnicode.size()) return {};
  const std::string_view charset(reinterpret_cast<const char*>(value.data()), kUnicode.size());
  const Bytes text = value.subspan(kUnicode.size());
  if (charset == kUnicode) {
    const std::string comment = from_utf16(text, utf16_is_big(text, big_block));
    return comment.substr(0, comment.find('\0'));
  }
  if (charset == kAscii || charset == kUndeclared) return utf8_of({text.begin(), std::find(text.begin(), text.end(), 0)});
  return {};
}

void put(std::vector<uint8_t>& to, uint32_t value, int bytes) {
  for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) to.push_back(static_cast<uint8_t>(value >> shift));
}

void put_directory(std::vector<uint8_t>& to, Tag tag, Type type, size_t count, size_t value) {
  put(to, 1, 2);  // one entry
  put(to, tag, 2);
  put(to, type, 2);
  put(to, static_cast<uint32_t>(count), 4);
  put(to, static_cast<uint32_t>(value), 4);
  put(to, 0, 4);  // no directory follows
}

void put_utf16(std::vector<uint8_t>& to, std::string_view text) {
  while (!text.empty()) {
    int32_t point = 0;
    const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                         static_cast<utf8proc_ssize_t>(text.size()), &point);
    text.remove_prefix(length > 0 ? static_cast<size_t>(length) : 1);
    if (length <= 0) point = kReplacement;
    if (point >= 0x10000) {
      put(to, 0xd800 + static_cast<uint32_t>((point - 0x10000) >> 10), 2);
      point = 0xdc00 + (point & 0x3ff);
    }
    put(to, static_cast<uint32_t>(point), 2);
  }
}

}  // namespace

Exif read_exif(Bytes bytes) {
  Exif exif;
  const Tiff tiff(bytes);
  if (tiff.u16(2) != 42) return exif;
  const size_t root = tiff.u32(4);
  if (const auto entry = tiff.find(root, kOrientation)) {
    const auto value = static_cast<int>(tiff.u16(*entry + 8));
    if (value >= 1 && value <= 8) exif.orientation = value;
  }
  const auto link = tiff.find(root, kExifDirectory);
  const auto entry = link ? tiff.find(tiff.u32(*link + 8), kUserComment) : std::nullopt;
  if (entry) exif.comment = user_comment(tiff.part(tiff.u32(*entry + 8), tiff.u32(*entry + 4)), tiff.big_endian());
  return exif;
}

std::vector<uint8_t> write_exif(std::string_view comment) {
  constexpr size_t kHeader = 8, kDirectory = 2 + kEntryBytes + 4;
  std::vector<uint8_t> value(kUnicode.begin(), kUnicode.end());
  put_utf16(value, comment);
  std::vector<uint8_t> tiff = {'M', 'M', 0, 42};
  put(tiff, kHeader, 4);
  put_directory(tiff, kExifDirectory, kLong, 1, kHeader + kDirectory);
  put_directory(tiff, kUserComment, kUndefined, value.size(), kHeader + 2 * kDirectory);
  tiff.insert(tiff.end(), value.begin(), value.end());
  return tiff;
}

}  // namespace cudream
