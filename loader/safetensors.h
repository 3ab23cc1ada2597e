// safetensors files: a header checked against every rule of the format, bytes that are only ever copied out, and a writer.
// Format: https://github.com/huggingface/safetensors, README.md "Format"; error names are those of its reference reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/file.h"
#include "core/types.h"

namespace cudream {

// Every element type of the format, in its order: a writer puts later ones first, so that wide types are aligned.
enum class FileType : uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64,
};
inline constexpr int kFileTypes = 22;

int bits_of(FileType);               // of one element
std::string_view name_of(FileType);  // as in the file: "BF16"
std::optional<FileType> file_type(std::string_view name);
// The same type for devices; none: they cannot read it as it is.
std::optional<DType> dtype_of(FileType);

// One tensor of a file. `offset` counts from the start of the file; the data may lie on any address.
struct TensorInfo {
  std::string name;
  FileType type = FileType::f32;
  std::vector<uint64_t> shape;
  uint64_t offset = 0, bytes = 0;
  std::string str() const;  // "F16 [320,4,3,3]"
};

using HeaderMetadata = std::map<std::string, std::string>;

// What the header says, checked: tensors lie in file order, one after the other without a gap, and end with the file.
struct SafetensorsHeader {
  SafetensorsHeader() = default;
  explicit SafetensorsHeader(std::vector<TensorInfo> placed);  // of another kind of file, where gaps are no harm
  std::vector<TensorInfo> tensors;
  HeaderMetadata metadata;
  uint64_t bytes = 0;  // of the header's JSON text, padding included
  const TensorInfo* find(std::string_view name) const;

 private:
  friend SafetensorsHeader parse_header(std::string_view, uint64_t, const std::filesystem::path&);
  void sort_names();
  std::vector<uint32_t> by_name_;  // indices into tensors, in the order of their names
};

// The length N of the header text, from the first bytes of a file (8, or the whole of a shorter one) and the file's size.
// Throws Error(bad_file): HeaderTooSmall, HeaderTooLarge, InvalidHeaderLength. `file` is named in messages only.
uint64_t header_length(std::span<const std::byte> first, uint64_t file_bytes, const std::filesystem::path& file);

// Parses the N bytes of header text of a file of `file_bytes` bytes. Throws Error(bad_file) naming the rule that is broken:
// InvalidHeader, InvalidHeaderStart, InvalidHeaderDeserialization, DuplicateName, InvalidOffset, ValidationOverflow,
// MisalignedSlice, TensorInvalidInfo, MetadataIncompleteBuffer.
SafetensorsHeader parse_header(std::string_view text, uint64_t file_bytes, const std::filesystem::path& file);

// An open file. What is not a safetensors file is refused by its content, with what to do (kind.h).
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  SafetensorsFile(MappedFile map, SafetensorsHeader header);  // tensors of another kind of file

  const std::filesystem::path& path() const { return map_.path(); }
  const MappedFile& map() const { return map_; }
  const SafetensorsHeader& header() const { return header_; }
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  const TensorInfo& at(std::string_view name) const;  // throws Error(bad_file): TensorNotFound
  std::vector<std::byte> bytes(const TensorInfo&) const;
  std::vector<float> floats(const TensorInfo&) const;  // of any type that to_float (values.h) reads

 private:
  MappedFile map_;
  SafetensorsHeader header_;
};

// A tensor to write: the bytes are row-major and little-endian, and must be as many as type and shape need.
struct TensorData {
  std::string name;
  FileType type = FileType::f32;
  std::vector<uint64_t> shape;
  std::span<const std::byte> bytes;
};

// One whose bytes are made when its turn comes, so that one at a time is in memory.
struct TensorSource {
  std::string name;
  FileType type = FileType::f32;
  std::vector<uint64_t> shape;
  std::function<std::vector<std::byte>()> bytes;
};

// Writes a file as the reference writer does, byte for byte: tensors by type and then name, the header padded to 8 bytes
// with spaces. (Metadata goes in key order, where the reference's order is random.)
void write_safetensors(const std::filesystem::path&, std::vector<TensorData>, const HeaderMetadata& = {},
                       Exists = Exists::refuse);
void stream_safetensors(const std::filesystem::path&, std::vector<TensorSource>, const HeaderMetadata& = {},
                        Exists = Exists::refuse);

}  // namespace cudream
