// From entries and pickle to places in the file.
#include "loader/checkpoint.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "loader/pickle.h"

namespace cudream {
namespace {

constexpr uint64_t kMaxPickle = 16 << 20;

std::vector<std::byte> bytes_of(const ByteSource& file, const ByteRange& range) {
  std::vector<std::byte> bytes(range.bytes);
  file.read(bytes, range.offset);
  return bytes;
}

}  // namespace

SafetensorsHeader read_checkpoint(const ByteSource& file) {
  constexpr std::string_view kPickle = "/data.pkl";
  const std::map<std::string, ByteRange> entries = stored_entries(file);
  const auto is_pickle = [&](const auto& entry) { return entry.first.ends_with(kPickle); };
  const auto pickle = std::ranges::find_if(entries, is_pickle);
  if (pickle == entries.end() || std::ranges::count_if(entries, is_pickle) != 1 || pickle->second.bytes > kMaxPickle)
    throw fail(Code::bad_file, "{} is an archive, but no checkpoint of PyTorch: it has not one data.pkl", file.name);
  const std::string folder = pickle->first.substr(0, pickle->first.size() - kPickle.size() + 1);
  if (const auto order = entries.find(folder + "byteorder"); order != entries.end() && order->second.bytes != 6)
    throw fail(Code::unsupported, "{}: its numbers are stored in big-endian order", file.name);  // "little" has six letters

  std::vector<TensorInfo> tensors;
  for (PickledTensor& t : read_pickle(bytes_of(file, pickle->second), file.name)) {
    const uint64_t width = static_cast<uint64_t>(bits_of(t.type)) / 8;
    const auto storage = entries.find(folder + "data/" + t.storage);
    if (storage == entries.end() || storage->second.bytes % width != 0 || storage->second.bytes / width != t.storage_values)
      throw fail(Code::bad_file, "{}: the storage of {} is missing, or not as long as it says", file.name, printable(t.name));
    uint64_t values = 1;
    for (const uint64_t n : t.shape) values *= n;
    tensors.push_back({.name = std::move(t.name),
                       .type = t.type,
                       .shape = std::move(t.shape),
                       .offset = storage->second.offset + t.first * width,
                       .bytes = values * width});
  }
  std::ranges::stable_sort(tensors, {}, &TensorInfo::offset);
  return SafetensorsHeader(std::move(tensors));
}

}  // namespace cudream
