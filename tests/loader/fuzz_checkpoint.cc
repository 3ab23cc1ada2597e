// libFuzzer target: whatever bytes an archive or its pickle has, they are tensors within the file or refused with an Error, and
// nothing is taken of memory that the input does not pay for. Seeds: tests/attacks/checkpoint.
#include <algorithm>
#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "loader/checkpoint.h"
#include "loader/pickle.h"

namespace {

using cudream::Code;

template <typename Action>
void refused_or(Action action) {
  try {
    action();
  } catch (const cudream::Error& e) {
    if (e.code() != Code::bad_file && e.code() != Code::unsupported) std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  refused_or([&] { cudream::read_pickle(bytes, "input"); });
  refused_or([&] {
    const auto read = [&](std::span<std::byte> to, uint64_t offset) {
      if (offset > size || to.size() > size - offset) std::abort();
      std::ranges::copy(bytes.subspan(offset, to.size()), to.begin());
    };
    const cudream::SafetensorsHeader header = cudream::read_checkpoint({.name = "input", .size = size, .read = read});
    for (const cudream::TensorInfo& t : header.tensors)
      if (t.offset > size || t.bytes > size - t.offset || header.find(t.name) != &t) std::abort();
  });
  return 0;
}
