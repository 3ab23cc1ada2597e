// The writer: the header is laid out first, then the bytes follow.
#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/log.h"
#include "loader/safetensors.h"

namespace cudream {
namespace {

// JSON text of a string, escaped as the reference's serialiser does: only quotes, backslashes and control characters.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump();
}

uint64_t bytes_of(const TensorSource& t) {
  uint64_t bits = static_cast<uint64_t>(bits_of(t.type));
  for (const uint64_t n : t.shape)
    invariant(!__builtin_mul_overflow(bits, n, &bits), "tensor {} is too large to write", printable(t.name));
  invariant(bits % 8 == 0, "tensor {} ends inside a byte", printable(t.name));
  return bits / 8;
}

std::string header_text(const std::vector<TensorSource>& tensors, const HeaderMetadata& metadata) {
  std::string text = "{";
  if (!metadata.empty()) {
    text += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) text += quoted(key) + ":" + quoted(value) + ",";
    text.back() = '}';
    text += ',';
  }
  uint64_t at = 0;
  for (const TensorSource& t : tensors) {
    const uint64_t end = at + bytes_of(t);
    text += fmt::format(R"({}:{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}},)", quoted(t.name), name_of(t.type),
                        fmt::join(t.shape, ","), at, end);
    at = end;
  }
  if (text.size() > 1) text.pop_back();
  text += '}';
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace

void stream_safetensors(const std::filesystem::path& path, std::vector<TensorSource> tensors, const HeaderMetadata& metadata,
                        Exists exists) {
  std::sort(tensors.begin(), tensors.end(),
            [](const TensorSource& a, const TensorSource& b) { return a.type != b.type ? a.type > b.type : a.name < b.name; });
  const std::string header = header_text(tensors, metadata);
  static_assert(std::endian::native == std::endian::little);
  const uint64_t length = header.size();

  AtomicFile file(path, exists);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(header);
  for (const TensorSource& t : tensors) {
    const std::vector<std::byte> bytes = t.bytes();
    invariant(bytes.size() == bytes_of(t), "tensor {} has {} bytes, its shape needs {}", printable(t.name), bytes.size(),
              bytes_of(t));
    file.write(bytes);
  }
  file.commit();
}

void write_safetensors(const std::filesystem::path& path, std::vector<TensorData> tensors, const HeaderMetadata& metadata,
                       Exists exists) {
  std::vector<TensorSource> sources;
  sources.reserve(tensors.size());
  for (TensorData& t : tensors)
    sources.push_back({.name = std::move(t.name), .type = t.type, .shape = std::move(t.shape), .bytes = [bytes = t.bytes] {
                         return std::vector<std::byte>(bytes.begin(), bytes.end());
                       }});
  stream_safetensors(path, std::move(sources), metadata, exists);
}

}  // namespace cudream
