// Collecting and writing traced tensors.
#include "runtime/trace.h"

#include "core/error.h"

namespace cudream {
namespace {

std::vector<std::byte> bytes_of(const auto& values) {
  const auto raw = std::as_bytes(values);
  return {raw.begin(), raw.end()};
}

}  // namespace

void Trace::add(const std::string& name, std::vector<uint64_t> shape, std::span<const float> values) {
  entries_[name] = {FileType::f32, std::move(shape), bytes_of(values)};
}

void Trace::add(const std::string& name, std::vector<uint64_t> shape, std::span<const int32_t> values) {
  entries_[name] = {FileType::i32, std::move(shape), bytes_of(values)};
}

void Trace::append(const std::string& name, std::vector<uint64_t> row_shape, std::span<const float> values) {
  Entry& entry = entries_[name];
  if (entry.shape.empty()) {
    entry.shape = std::move(row_shape);
    entry.shape.insert(entry.shape.begin(), 0);
  }
  entry.shape.front()++;
  const auto raw = std::as_bytes(values);
  entry.bytes.insert(entry.bytes.end(), raw.begin(), raw.end());
}

void Trace::write(const std::filesystem::path& path, Exists exists) const {
  std::vector<TensorData> tensors;
  for (const auto& [name, entry] : entries_) tensors.push_back({name, entry.type, entry.shape, entry.bytes});
  write_safetensors(path, std::move(tensors), {}, exists);
}

}  // namespace cudream
