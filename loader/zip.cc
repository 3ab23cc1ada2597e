// End record, central directory, local headers; sections are those of APPNOTE.TXT.
#include "loader/zip.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/log.h"

namespace cudream {
namespace {

constexpr uint64_t kMaxDirectory = 64 << 20, kMaxName = 4096;
constexpr uint16_t kEncrypted = 0x0041, kUnixLink = 0xA000, kUnixType = 0xF000, kZip64 = 1;

// Little-endian fields of a record, in order. Reading past its end gives zeros: sizes are checked before.
class Fields {
 public:
  explicit Fields(std::span<const std::byte> bytes) : rest_(bytes) {}
  template <typename T>
  T take() {
    T value{};
    std::memcpy(&value, rest_.data(), std::min(sizeof(T), rest_.size()));
    skip(sizeof(T));
    return value;
  }
  void skip(size_t bytes) { rest_ = rest_.subspan(std::min(bytes, rest_.size())); }
  std::span<const std::byte> bytes(size_t count) {
    const auto taken = rest_.first(std::min(count, rest_.size()));
    skip(count);
    return taken;
  }
  size_t left() const { return rest_.size(); }

 private:
  std::span<const std::byte> rest_;
};

class Archive {
 public:
  explicit Archive(const ByteSource& file) : file_(file) {}

  std::map<std::string, ByteRange> entries() {
    const std::vector<std::byte> directory = find_directory();
    Fields fields(directory);
    for (uint64_t i = 0; i < count_; i++) add(fields);
    if (fields.left() != 0) throw broken("its directory is longer than its entries");
    check_overlaps();
    return entries_;
  }

 private:
  Error broken(std::string_view what) const {
    return fail(Code::bad_file, "{} is not an archive as PyTorch writes it: {}", file_.name, what);
  }
  std::vector<std::byte> read(uint64_t offset, uint64_t bytes) const {
    if (offset > file_.size || bytes > file_.size - offset) throw broken("a record lies outside of the file");
    std::vector<std::byte> found(bytes);
    file_.read(found, offset);
    return found;
  }

  // 4.3.16, and 4.3.14 and 4.3.15 for large archives. The directory ends where they begin, and they end the file.
  std::vector<std::byte> find_directory() {
    constexpr uint64_t kEnd = 22, kLocator = 20, kEnd64 = 56;
    if (file_.size < kEnd) throw broken("it is too short");
    const std::vector<std::byte> end = read(file_.size - kEnd, kEnd);
    Fields fields(end);
    if (fields.take<uint32_t>() != 0x06054b50) throw broken("its end record is not at the end of the file");
    const uint32_t disks = fields.take<uint32_t>();
    const uint16_t here = fields.take<uint16_t>();
    count_ = fields.take<uint16_t>();
    uint64_t bytes = fields.take<uint32_t>(), offset = fields.take<uint32_t>(), limit = file_.size - kEnd;
    if (disks != 0 || here != count_) throw broken("it has several parts");
    if (fields.take<uint16_t>() != 0) throw broken("it has a comment");
    if (limit >= kLocator + kEnd64) {
      const std::vector<std::byte> locator = read(limit - kLocator, kLocator);
      Fields l(locator);
      if (l.take<uint32_t>() == 0x07064b50) {
        limit -= kLocator + kEnd64;
        const std::vector<std::byte> end64 = read(limit, kEnd64);
        Fields e(end64);
        if (e.take<uint32_t>() != 0x06064b50) throw broken("its zip64 record is missing");
        e.skip(20);  // size, versions, disks
        const uint64_t mine = e.take<uint64_t>();
        count_ = e.take<uint64_t>();
        if (mine != count_) throw broken("it has several parts");
        bytes = e.take<uint64_t>();
        offset = e.take<uint64_t>();
      }
    }
    if (bytes > kMaxDirectory) throw broken("its directory is too large");
    if (offset > limit || bytes != limit - offset) throw broken("its directory does not end where its end record begins");
    directory_ = offset;
    return read(offset, bytes);
  }

  // One header of the directory, 4.3.12.
  void add(Fields& fields) {
    if (fields.left() < 46 || fields.take<uint32_t>() != 0x02014b50) throw broken("a record of its directory is damaged");
    const uint16_t made_by = fields.take<uint16_t>();
    fields.skip(2);
    const uint16_t flags = fields.take<uint16_t>(), method = fields.take<uint16_t>();
    fields.skip(8);  // time and CRC
    uint64_t packed = fields.take<uint32_t>(), bytes = fields.take<uint32_t>();
    const uint16_t name_bytes = fields.take<uint16_t>(), extra_bytes = fields.take<uint16_t>(), comment = fields.take<uint16_t>();
    fields.skip(4);  // disk, internal attributes
    const uint32_t attributes = fields.take<uint32_t>();
    uint64_t header = fields.take<uint32_t>();
    if (fields.left() < size_t{name_bytes} + extra_bytes + comment) throw broken("a record of its directory is damaged");
    const auto raw = fields.bytes(name_bytes);
    const std::string name(reinterpret_cast<const char*>(raw.data()), raw.size());
    widen(Fields(fields.bytes(extra_bytes)), bytes, packed, header);
    fields.skip(comment);

    const auto refused = [&](std::string_view what) {
      return fail(Code::bad_file, "{}: the entry \"{}\" {}, which PyTorch does not write", file_.name, printable(name), what);
    };
    if (name.empty() || name.size() > kMaxName || name.front() == '/' || name.find('\\') != std::string::npos ||
        name.find('\0') != std::string::npos || (name + "/").find("../") != std::string::npos)
      throw refused("lies outside of the archive");
    if ((flags & kEncrypted) != 0) throw refused("is encrypted");
    if (method != 0 || packed != bytes) throw refused("is compressed");
    if (made_by >> 8 == 3 && (attributes >> 16 & kUnixType) == kUnixLink) throw refused("is a link");
    if (!entries_.emplace(name, ByteRange{start_of(name, header), bytes}).second) throw refused("is there twice");
    if (const ByteRange& r = entries_[name]; r.offset > directory_ || r.bytes > directory_ - r.offset)
      throw refused("lies outside of the file");
    headers_.push_back({header, entries_[name].offset - header + bytes});
  }

  // 4.5.3: a field of all ones stands in the extra field in its full width, in this order.
  static void widen(Fields extra, uint64_t& bytes, uint64_t& packed, uint64_t& header) {
    while (extra.left() >= 4) {
      const uint16_t id = extra.take<uint16_t>(), size = extra.take<uint16_t>();
      Fields mine(extra.bytes(size));
      if (id != kZip64) continue;
      for (uint64_t* value : {&bytes, &packed, &header})
        if (*value == 0xffffffff && mine.left() >= 8) *value = mine.take<uint64_t>();
    }
  }

  // Where the bytes of an entry begin: behind its local header, 4.3.7, which must name it too.
  uint64_t start_of(const std::string& name, uint64_t header) const {
    constexpr uint64_t kHeader = 30;
    const std::vector<std::byte> local = read(header, kHeader);
    Fields fields(local);
    if (fields.take<uint32_t>() != 0x04034b50) throw broken("an entry has no header");
    fields.skip(22);
    const uint16_t name_bytes = fields.take<uint16_t>(), extra_bytes = fields.take<uint16_t>();
    const std::vector<std::byte> own = read(header + kHeader, name_bytes);
    if (std::string_view(reinterpret_cast<const char*>(own.data()), own.size()) != name)
      throw broken("the header of an entry has another name than the directory");
    return header + kHeader + name_bytes + extra_bytes;
  }

  // No two entries share bytes, and the first begins the file.
  void check_overlaps() {
    std::ranges::sort(headers_, {}, &ByteRange::offset);
    uint64_t at = 0;
    for (const ByteRange& h : headers_) {
      if (h.offset < at) throw broken("two entries share bytes");
      if (at == 0 && h.offset != 0) throw broken("something lies before its first entry");
      at = h.offset + h.bytes;
    }
  }

  const ByteSource& file_;
  uint64_t count_ = 0, directory_ = 0;  // entries; where the directory begins
  std::map<std::string, ByteRange> entries_;
  std::vector<ByteRange> headers_;  // of each entry: its header and its bytes
};

}  // namespace

std::map<std::string, ByteRange> stored_entries(const ByteSource& file) {
  return Archive(file).entries();
}

}  // namespace cudream
