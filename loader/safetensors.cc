// The header parser, and files opened with it.
#include "loader/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/log.h"
#include "loader/kind.h"
#include "loader/values.h"

namespace cudream {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference's limit
constexpr int kMaxDepth = 128;                // of the JSON text

struct TypeFacts {
  std::string_view name;
  int bits;
};
constexpr std::array<TypeFacts, kFileTypes> kTypes = {{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

// A name from a file, safe and short enough for a message.
std::string shown(std::string_view name) {
  constexpr size_t kLongest = 120;
  return name.size() <= kLongest ? printable(name) : printable(name.substr(0, kLongest)) + "...";
}

template <typename... Args>
Error broken(const fs::path& file, std::string_view rule, fmt::format_string<Args...> format, Args&&... args) {
  return fail(Code::bad_file,
              "{} is not a valid safetensors file ({}): {}. The file is damaged or incomplete; download or copy it again.",
              file.string(), rule, fmt::format(format, std::forward<Args>(args)...));
}

// Receives the events of the JSON parser and accepts nothing but {"__metadata__": {string: string}, NAME: {"dtype": string,
// "shape": [unsigned...], "data_offsets": [unsigned, unsigned]}...}. Fields of a tensor that it does not know are passed over.
class HeaderReader {
 public:
  using json = nlohmann::json;
  using number_integer_t = json::number_integer_t;
  using number_unsigned_t = json::number_unsigned_t;
  using number_float_t = json::number_float_t;
  using string_t = json::string_t;
  using binary_t = json::binary_t;

  HeaderReader(SafetensorsHeader& out, const fs::path& file) : out_(out), file_(file) {}

  bool key(string_t& name) {
    switch (place_) {
      case Place::root:
      case Place::metadata: name_ = std::move(name); break;
      case Place::tensor: start_field(name); break;
      default: break;
    }
    return true;
  }

  bool start_object(size_t) {
    enter();
    switch (place_) {
      case Place::start: place_ = Place::root; break;
      case Place::root:
        if (name_ == "__metadata__") {
          start_metadata();
        } else {
          out_.tensors.emplace_back().name = std::move(name_);
          seen_ = 0;
          place_ = Place::tensor;
        }
        break;
      default: start_ignored("an object"); break;
    }
    return true;
  }

  bool end_object() {
    if (leave()) return true;
    if (place_ == Place::tensor) {
      if (seen_ != kAllFields) throw broken_entry("lacks a dtype, a shape or data_offsets");
      place_ = Place::root;
    } else if (place_ == Place::metadata) {
      place_ = Place::root;
    }
    return true;
  }

  bool start_array(size_t) {
    enter();
    if (place_ == Place::tensor && field_ == Field::shape) {
      place_ = Place::shape;
    } else if (place_ == Place::tensor && field_ == Field::offsets) {
      place_ = Place::offsets;
    } else {
      start_ignored("an array");
    }
    return true;
  }

  bool end_array() {
    if (leave()) return true;
    if (place_ == Place::offsets && offsets_ != 2) throw broken_entry("has data_offsets that are not two numbers");
    if (place_ == Place::shape || place_ == Place::offsets) place_ = Place::tensor;
    return true;
  }

  bool string(string_t& text) {
    if (place_ == Place::metadata) {
      if (!out_.metadata.emplace(name_, std::move(text)).second)
        throw broken(file_, "DuplicateName", "the metadata has the key \"{}\" twice", shown(name_));
    } else if (place_ == Place::tensor && field_ == Field::dtype) {
      const std::optional<FileType> type = file_type(text);
      if (!type) throw broken_entry(fmt::format("has the unknown dtype \"{}\"", shown(text)));
      out_.tensors.back().type = *type;
    } else {
      unexpected("a text");
    }
    return true;
  }

  bool number_unsigned(number_unsigned_t n) {
    if (place_ == Place::shape) {
      out_.tensors.back().shape.push_back(n);
    } else if (place_ == Place::offsets) {
      // Kept as begin and end until the whole table is checked.
      if (offsets_ > 1) throw broken_entry("has data_offsets that are not two numbers");
      (offsets_++ == 0 ? out_.tensors.back().offset : out_.tensors.back().bytes) = n;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool null() {
    if (place_ == Place::root && name_ == "__metadata__") {
      start_metadata();
      place_ = Place::root;
    } else {
      unexpected("null");
    }
    return true;
  }

  bool boolean(bool) { return unexpected("a boolean"); }
  bool number_integer(number_integer_t) { return unexpected("a negative number"); }
  bool number_float(number_float_t, const string_t&) { return unexpected("a number that is not a whole one below 2^64"); }
  bool binary(binary_t&) { return unexpected("binary data"); }

  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) {
    const bool encoding = std::string_view(error.what()).find("UTF-8") != std::string_view::npos;
    throw broken(file_, encoding ? "InvalidHeader" : "InvalidHeaderDeserialization", "the header is not {} at its byte {}",
                 encoding ? "UTF-8" : "JSON", position);
  }

 private:
  enum class Place { start, root, metadata, tensor, shape, offsets, ignored };
  enum class Field { other, dtype, shape, offsets };
  static constexpr unsigned kAllFields = 0b1110;  // one bit a field, by its number

  void start_field(std::string_view name) {
    field_ = name == "dtype"          ? Field::dtype
             : name == "shape"        ? Field::shape
             : name == "data_offsets" ? Field::offsets
                                      : Field::other;
    const unsigned bit = field_ == Field::other ? 0 : 1u << static_cast<unsigned>(field_);
    if ((seen_ & bit) != 0) throw broken_entry(fmt::format("has its {} twice", name));
    seen_ |= bit;
    offsets_ = 0;
  }

  void start_metadata() {
    if (std::exchange(metadata_seen_, true)) throw broken(file_, "DuplicateName", "__metadata__ is given twice");
    place_ = Place::metadata;
  }

  void enter() {
    if (++depth_ > kMaxDepth)
      throw broken(file_, "InvalidHeaderDeserialization", "the header is nested more than {} levels deep", kMaxDepth);
  }
  // True when what ends is part of a field that is passed over.
  bool leave() {
    const int depth = depth_--;
    if (place_ != Place::ignored) return false;
    if (depth == ignored_from_) place_ = Place::tensor;
    return true;
  }

  void start_ignored(std::string_view what) {
    unexpected(what);
    if (place_ != Place::ignored) ignored_from_ = depth_;
    place_ = Place::ignored;
  }

  // Values are passed over inside a field that is not ours; anywhere else they do not belong.
  bool unexpected(std::string_view what) {
    if (place_ == Place::ignored || (place_ == Place::tensor && field_ == Field::other)) return true;
    if (place_ == Place::start) throw broken(file_, "InvalidHeaderDeserialization", "the header is {} and not an object", what);
    if (place_ == Place::metadata)
      throw broken(file_, "InvalidHeaderDeserialization", "the metadata \"{}\" is {} and not a text", shown(name_), what);
    if (place_ == Place::root)
      throw broken(file_, "InvalidHeaderDeserialization", "the entry \"{}\" is {} and not an object", shown(name_), what);
    throw broken_entry(fmt::format("has {} in its dtype, shape or data_offsets", what));
  }

  Error broken_entry(std::string_view what) const {
    return broken(file_, "InvalidHeaderDeserialization", "the tensor \"{}\" {}", shown(out_.tensors.back().name), what);
  }

  SafetensorsHeader& out_;
  const fs::path& file_;
  Place place_ = Place::start;
  Field field_ = Field::other;
  std::string name_;
  unsigned seen_ = 0;
  int offsets_ = 0, depth_ = 0, ignored_from_ = 0;
  bool metadata_seen_ = false;
};

// The bytes a tensor needs by its type and shape. Overflow is judged from left to right, as the reference does.
uint64_t needed_bytes(const TensorInfo& t, const fs::path& file) {
  uint64_t bits = 1;
  const auto times = [&](uint64_t n) {
    if (__builtin_mul_overflow(bits, n, &bits))
      throw broken(file, "ValidationOverflow", "the tensor \"{}\" has more elements than 64 bits can count", shown(t.name));
  };
  for (const uint64_t n : t.shape) times(n);
  times(static_cast<uint64_t>(bits_of(t.type)));
  if (bits % 8 != 0)
    throw broken(file, "MisalignedSlice", "the tensor \"{}\" of {} does not fill whole bytes", shown(t.name), name_of(t.type));
  return bits / 8;
}

// Turns begin and end into offset and bytes: tensors must follow each other without hole or overlap, up to the file's end.
void check_layout(SafetensorsHeader& h, uint64_t file_bytes, const fs::path& file) {
  std::stable_sort(h.tensors.begin(), h.tensors.end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::pair(a.offset, a.bytes) < std::pair(b.offset, b.bytes);
  });
  uint64_t at = 0;
  const uint64_t data = 8 + h.bytes;
  for (TensorInfo& t : h.tensors) {
    const uint64_t begin = t.offset, end = t.bytes;
    if (begin != at || end < begin)
      throw broken(file, "InvalidOffset", "the tensor \"{}\" lies at bytes {} to {}, expected from {} on", shown(t.name), begin,
                   end, at);
    const uint64_t needed = needed_bytes(t, file);
    if (end - begin != needed)
      throw broken(file, "TensorInvalidInfo", "the tensor \"{}\" ({}) has {} bytes, its type and shape need {}", shown(t.name),
                   t.str(), end - begin, needed);
    t.offset = data + begin;
    t.bytes = needed;
    at = end;
  }
  if (at != file_bytes - data)
    throw broken(file, "MetadataIncompleteBuffer", "its tensors take {} bytes, but {} follow the header", at, file_bytes - data);
}

}  // namespace

int bits_of(FileType type) {
  return kTypes[static_cast<size_t>(type)].bits;
}
std::string_view name_of(FileType type) {
  return kTypes[static_cast<size_t>(type)].name;
}

std::optional<FileType> file_type(std::string_view name) {
  const auto at = std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeFacts& t) { return t.name == name; });
  return at == kTypes.end() ? std::nullopt : std::optional(static_cast<FileType>(at - kTypes.begin()));
}

std::optional<DType> dtype_of(FileType type) {
  switch (type) {
    case FileType::f32: return DType::f32;
    case FileType::f16: return DType::f16;
    case FileType::bf16: return DType::bf16;
    case FileType::f8_e4m3: return DType::f8e4m3;
    case FileType::f8_e5m2: return DType::f8e5m2;
    case FileType::i32: return DType::i32;
    case FileType::u8: return DType::u8;
    default: return std::nullopt;
  }
}

std::string TensorInfo::str() const {
  return fmt::format("{} [{}]", name_of(type), fmt::join(shape, ","));
}

SafetensorsHeader::SafetensorsHeader(std::vector<TensorInfo> placed) : tensors(std::move(placed)) {
  sort_names();
}

void SafetensorsHeader::sort_names() {
  by_name_.resize(tensors.size());
  std::iota(by_name_.begin(), by_name_.end(), 0u);
  std::ranges::sort(by_name_, {}, [&](uint32_t i) -> const std::string& { return tensors[i].name; });
}

const TensorInfo* SafetensorsHeader::find(std::string_view name) const {
  const auto at = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                   [&](uint32_t i, std::string_view wanted) { return tensors[i].name < wanted; });
  return at != by_name_.end() && tensors[*at].name == name ? &tensors[*at] : nullptr;
}

uint64_t header_length(std::span<const std::byte> first, uint64_t file_bytes, const fs::path& file) {
  static_assert(std::endian::native == std::endian::little);
  if (file_bytes < 8) throw broken(file, "HeaderTooSmall", "it has {} bytes, and the header's length alone takes 8", file_bytes);
  uint64_t length = 0;
  std::memcpy(&length, first.data(), 8);
  if (length > kMaxHeader)
    throw broken(file, "HeaderTooLarge", "it claims a header of {} bytes; {} are allowed", length, kMaxHeader);
  if (length > file_bytes - 8)
    throw broken(file, "InvalidHeaderLength", "its header has {} bytes, but only {} follow", length, file_bytes - 8);
  return length;
}

SafetensorsHeader parse_header(std::string_view text, uint64_t file_bytes, const fs::path& file) {
  if (!text.starts_with('{')) throw broken(file, "InvalidHeaderStart", "the header does not begin with '{{'");
  // The parser takes a zero byte for the end of its input.
  if (text.find('\0') != std::string_view::npos)
    throw broken(file, "InvalidHeaderDeserialization", "the header contains zero bytes");
  SafetensorsHeader header;
  header.bytes = text.size();
  HeaderReader reader(header, file);
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
  if (header.tensors.size() > UINT32_MAX) throw broken(file, "HeaderTooLarge", "it has too many tensors");

  check_layout(header, file_bytes, file);
  header.sort_names();
  const auto name = [&](uint32_t i) -> const std::string& { return header.tensors[i].name; };
  const auto twice = std::adjacent_find(header.by_name_.begin(), header.by_name_.end(),
                                        [&](uint32_t a, uint32_t b) { return name(a) == name(b); });
  if (twice != header.by_name_.end()) throw broken(file, "DuplicateName", "two tensors are named \"{}\"", shown(name(*twice)));
  return header;
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : map_(path) {
  std::array<std::byte, kKindBytes> first{};
  const std::span<std::byte> start = std::span(first).first(std::min<size_t>(first.size(), map_.size()));
  map_.read(start, 0);
  refuse_other_kinds(kind_of(start, map_.size()), path);
  std::string text(header_length(start, map_.size(), path), '\0');
  map_.read(std::as_writable_bytes(std::span(text)), 8);
  header_ = parse_header(text, map_.size(), path);
}

SafetensorsFile::SafetensorsFile(MappedFile map, SafetensorsHeader header) : map_(std::move(map)), header_(std::move(header)) {}

const TensorInfo& SafetensorsFile::at(std::string_view name) const {
  if (const TensorInfo* t = header_.find(name)) return *t;
  throw fail(Code::bad_file, "{} has no tensor \"{}\" (TensorNotFound)", path().string(), shown(name));
}

std::vector<std::byte> SafetensorsFile::bytes(const TensorInfo& t) const {
  std::vector<std::byte> raw(t.bytes);
  map_.read(raw, t.offset);
  return raw;
}

std::vector<float> SafetensorsFile::floats(const TensorInfo& t) const {
  const std::vector<std::byte> raw = bytes(t);
  std::vector<float> values(t.bytes * 8 / static_cast<uint64_t>(bits_of(t.type)));
  to_float(values, t.type, raw);
  return values;
}

}  // namespace cudream
